"""`compile verify`: flags, the table on the terminal, the exit code of a run that does not hold."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

if TYPE_CHECKING:
    from compiler.report.verification import Timing, Verification


def verify_command(
    folder: Annotated[Path, typer.Argument(help="run directory")],
    timing: Annotated[
        bool, typer.Option("--timing/--no-timing", help="whether files are timed where the run's target is here")
    ] = True,
    manifest_sha256: Annotated[
        str | None, typer.Option(help="sha-256 that the list of the run's files must have, as compile printed it")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """Check a run again: hashes, graphs, what the files compute, and budgets by measurement on the target."""
    from compiler.cli.console import answer_console, progress
    from compiler.pipeline.verify import check_passed, verify

    with progress(quiet=False) as monitor:
        found = verify(folder, timing=timing, monitor=monitor, manifest_sha256=manifest_sha256)
    if as_json:
        print(json.dumps(found))  # noqa: T201  this is the answer
    else:
        console = answer_console()
        console.print(checks_table(found))
        if found["timings"]:
            console.print(timings_table(found))
        for note in found["notes"]:
            console.print(note, soft_wrap=True)
        if found["manifest_sha256"] is not None:
            console.print(f"manifest.json: sha256 {found['manifest_sha256']}", soft_wrap=True)
    check_passed(found)


_SIGNS = {True: "ok", False: "FAILED", None: "-"}


def checks_table(found: "Verification") -> Table:
    """One row a check."""
    table = Table("net", "check", "", "detail")
    for check in found["checks"]:
        table.add_row(check["net"], check["what"], _SIGNS[check["passed"]], check["detail"])
    return table


def timings_table(found: "Verification") -> Table:
    """One row a network: what it takes now, the speed-up now and then, and how near it is to what the device can do."""
    table = Table("net", "p50", "p90", "p99", "speed-up", "as compiled", "of peak")
    for timing in found["timings"]:
        milliseconds = [f"{timing['latency_ms'][name]:.3g} ms" for name in ("p50", "p90", "p99")]
        then = "-" if timing["was"] is None else f"{timing['was']:.2f}x"
        share = "-" if timing["roofline_share"] is None else f"{timing['roofline_share']:.0%}"
        table.add_row(timing["net"], *milliseconds, _now(timing), then, share)
    return table


def _now(timing: "Timing") -> str:
    interval = timing["speedup_interval"]
    return f"{timing['speedup']:.2f}x" + (f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else "")
