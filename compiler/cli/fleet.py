"""`compile fleet`: many models, targets and budgets by one file, planned first and resumed where they were stopped."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from targets.errors import InputError

if TYPE_CHECKING:
    from compiler.fleet import Plan
    from compiler.fleet.record import Fleet

_SHOWN = 20
"""Entries that failed or missed their budget that are printed; all are on the page."""


def fleet_command(
    file: Annotated[Path, typer.Argument(help="TOML file of the fleet")],
    out: Annotated[Path, typer.Option(help="folder of all runs, fleet.json and fleet.html")] = Path("fleet"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="write into folders of other files, over those of the same names")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what there is to do, and do nothing")] = False,
    ray: Annotated[
        str | None,
        typer.Option(help="do the work on a Ray cluster: auto, local or HOST:PORT (pip install paretoc[ray])"),
    ] = None,
    cache: Annotated[str | None, typer.Option(help="where results are kept: a folder, or s3://… or gs://…")] = None,
    cache_size: Annotated[
        str | None, typer.Option("--cache-size", "--cache-limit", help="largest size of the cache, like 50GB")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
) -> None:
    """Compile every entry of FILE that is missing or changed: models by targets by budgets (README: "Fleets").

    One entry that fails stops no other. Exit 0: all done within their budgets; 1: an entry failed; 4: one misses its budget.
    """
    from compiler.cli.console import progress
    from compiler.fleet import Campaign, exit_code, make_plan, read_fleet
    from compiler.supernet import follows
    from targets.quantities import size_bytes

    if follows():
        raise InputError("compile fleet is one process\nstart it without torchrun")
    size = None if cache_size is None else size_bytes(cache_size, "--cache-size")
    plan = make_plan(read_fleet(file, out, ray=ray, cache=cache, cache_bytes=size, overwrite=overwrite), out)
    if dry_run:
        _print_plan(plan, as_json=as_json)
        return
    with progress(quiet=quiet) as monitor:
        found = Campaign(plan=plan, out=out, file=file.name, monitor=monitor, overwrite=overwrite).run()
    if as_json:
        print(json.dumps(found))  # noqa: T201  this is the answer
    else:
        _print_fleet(found, out)
    raise typer.Exit(exit_code(found["entries"]))


def _print_plan(plan: "Plan", *, as_json: bool) -> None:
    from rich.table import Table

    from compiler.cli.console import answer_console
    from compiler.report.text import UNKNOWN, seconds

    said = plan.to_json()
    if as_json:
        print(json.dumps(said))  # noqa: T201  this is the answer
        return
    table = Table("entry", "state", "why", "made before", "about")
    for row in said["entries"]:
        about = UNKNOWN if row["estimated_s"] is None else seconds(row["estimated_s"])
        table.add_row(row["name"], row["state"], row["why"], ", ".join(row["made"]) or UNKNOWN, about)
    console = answer_console()
    console.print(table)
    console.print("\n".join(_summary(said)), soft_wrap=True)


def _summary(said: dict[str, Any]) -> list[str]:
    """The plan in two lines."""
    from compiler.report.text import seconds

    counts = ", ".join(f"{count} {state}" for state, count in said["counts"].items())
    if not said["jobs"]:
        return [f"{len(said['entries'])} entries: {counts}; nothing to do"]
    known = f"about {seconds(said['estimated_s'])}" if said["estimated_s"] else "time unknown"
    unknown = said["of_unknown_time"]
    more = f", and {unknown} entries of unknown time" if unknown and said["estimated_s"] else ""
    return [
        f"{len(said['entries'])} entries: {counts}",
        (
            f"to do: {_counted(said['jobs'], 'job')}; to make: {_counted(said['rankings_to_make'], 'ranking')}, "
            f"{_counted(said['tables_to_make'], 'cost table')}; {known}{more}"
        ),
    ]


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _print_fleet(found: "Fleet", out: Path) -> None:
    from compiler.cli.console import answer_console

    console = answer_console()
    wrong = [row for row in found["entries"] if row["status"] != "done"]
    for row in wrong[:_SHOWN]:
        why = (row["error"] or "").splitlines()
        console.print(f"{row['name']}: {row['status']}{': ' + why[0] if why else ''}", soft_wrap=True)
    if len(wrong) > _SHOWN:
        console.print(f"and {len(wrong) - _SHOWN} more")
    counts = ", ".join(f"{count} {status}" for status, count in found["counts"].items())
    console.print(f"{len(found['entries'])} entries: {counts}", soft_wrap=True)
    console.print(f"page: {out / 'fleet.html'}   data: {out / 'fleet.json'}", soft_wrap=True)
