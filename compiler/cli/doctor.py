"""`compile doctor`: flags, the screen, the exit code of a machine that paretoc cannot run on."""

import json
from pathlib import Path
from typing import Annotated

import typer

from targets.errors import TargetError


def doctor_command(
    cache: Annotated[Path | None, typer.Option(help="cache folder")] = None,
    peaks: Annotated[
        bool,
        typer.Option("--peaks/--no-peaks", help="whether PyTorch and ONNX Runtime are loaded and asked for a product"),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout, for bug reports")] = False,
) -> None:
    """Say what is on this machine and what is wrong with it; exit 3 where something that runs need is missing."""
    from compiler.diagnosis import diagnose, screen

    found = diagnose(cache, peaks=peaks)
    print(json.dumps(found) if as_json else "\n".join(screen(found)))  # noqa: T201  this is the answer
    errors = [problem for problem in found["problems"] if problem["severity"] == "error"]
    if errors:
        first = errors[0]
        count = "1 thing that runs need is" if len(errors) == 1 else f"{len(errors)} things that runs need are"
        raise TargetError(f"{count} not as it must be\n{first['what']}\n{first['remedy']}")
