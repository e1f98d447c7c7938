"""`compile diff`: flags, the table on the terminal, the exit code of a run that is worse."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

if TYPE_CHECKING:
    from compiler.report.difference import Difference


def diff_command(
    before: Annotated[Path, typer.Argument(help="run directory of the last release")],
    after: Annotated[Path, typer.Argument(help="run directory to hold against it")],
    fail_if_slower: Annotated[
        str | None, typer.Option(help="exit 5 where the choice is surely that much slower, like 3%")
    ] = None,
    fail_if_worse: Annotated[
        str | None, typer.Option(help="exit 5 where its metric on validation is that much lower, like 1%")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """Hold the networks that two runs chose against each other, from their data alone."""
    from compiler.cli.console import answer_console
    from compiler.report.difference import check_difference, compare_runs
    from compiler.report.schema import read_front
    from targets import quantities

    found = compare_runs(
        read_front(before),
        read_front(after),
        slower=None if fail_if_slower is None else quantities.share(fail_if_slower, "--fail-if-slower"),
        worse=None if fail_if_worse is None else quantities.share(fail_if_worse, "--fail-if-worse"),
    )
    if as_json:
        print(json.dumps(found))  # noqa: T201  this is the answer
    else:
        console = answer_console()
        console.print(figures_table(found))
        for line in found["unlike"]:
            console.print(f"not alike: {line}", soft_wrap=True)
    check_difference(found)


def figures_table(found: "Difference") -> Table:
    """One row a figure."""
    table = Table("", found["before"], found["after"], "change")
    for figure in found["figures"]:
        values = [_number(figure["before"]), _number(figure["after"])]
        change = "-" if figure["change"] is None else f"{figure['change']:+.1%}"
        table.add_row(figure["name"], *values, change)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
