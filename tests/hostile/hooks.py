"""What a worker changes in the product before it runs an input: where it stops, and what it notes of errors."""

import contextlib
import importlib
import io
import os
import shutil
import sys
from pathlib import Path
from typing import Any
from unittest import mock

STOPS = {
    "compile": ("compiler.pipeline.run", "find_templates"),
    "profile": ("compiler.pipeline.profile", "find_templates"),
    "bench": ("compiler.pipeline.bench", "measure_peak"),
}
"""The first step after model, data and files are accepted: there the input has reached the pipeline."""

READERS = (
    "targets.json_file", "targets.forms", "targets.bounds", "targets.target", "targets.quantities", "compiler.pipeline.options:_choice",
    "compiler.pipeline.options:_check_numbers", "compiler.data.arrow_tables", "compiler.data.delimited", "compiler.data.encodings",
    "compiler.data.files", "compiler.data.foreign", "compiler.data.hub", "compiler.data.json_tables", "compiler.data.plain_text",
    "compiler.data.sources", "compiler.data.table", "compiler.families.checkpoint:_backbone", "compiler.families.checkpoint:_check_files",
    "compiler.families.checkpoint:read_config", "compiler.families.checkpoint:read_tokenizer", "compiler.families.checkpoint:resolve",
    "compiler.families.loading.config", "compiler.families.loading.files", "compiler.families.loading.headers",
    "compiler.families.loading.tokenizer", "compiler.families.loading.weights", "compiler.families.recipe_files",
    "compiler.pipeline.bench:_read_run", "compiler.report.conform", "compiler.report.schema:read_front", "compiler.report.comparison:read",
    "compiler.store.disk", "compiler.store.store:__init__", "compiler.store.store:check_writable", "profilers.cost_table:read",
    "profilers.cost_table_form", "profilers.onnx_file", "profilers.traffic:read",
)  # fmt: skip
"""Modules, or functions of modules, that turn bytes and flags into values. A refusal raised in one of them, or by the parser of
the command line, has not got past parsing; everything else has."""

REACHED = 99


class Notes:
    """Where the last ParetocError was made."""

    def __init__(self) -> None:
        self.stack: list[str] = []

    def watch(self) -> None:
        """Note the stack of every ParetocError from now on."""
        from targets.errors import ParetocError

        made: Any = ParetocError.__init__

        def noting(error: Any, *arguments: Any, **named: Any) -> None:
            self.stack = _stack(sys._getframe(1))
            made(error, *arguments, **named)

        ParetocError.__init__ = noting  # type: ignore[method-assign]

    @property
    def reading(self) -> bool:
        """Whether that was while reading."""
        return any(frame.startswith(reader) for frame in self.stack for reader in READERS)


def _stack(frame: Any) -> list[str]:
    found = []
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.split(".")[0] in {"compiler", "profilers", "targets"}:
            found.append(f"{module}:{frame.f_code.co_name}")
        frame = frame.f_back
    return found


def stop_early(verb: str) -> None:
    """End the process, as one that reached the pipeline, at the verb's stop."""
    module, name = STOPS.get(verb, ("", ""))
    if module:
        holder = importlib.import_module(module)
        if not hasattr(holder, name):
            raise RuntimeError(f"{module} has no {name} to stop at: name the step after the input is accepted in STOPS")
        setattr(holder, name, _stop)


def _stop(*_: Any, **__: Any) -> Any:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(REACHED)


def shorten(verb: str) -> None:
    """Leave out what costs seconds and reads no input."""
    if verb == "compile":
        import compiler.pipeline.stages.export as stage

        stage.compare_with_fresh_export = lambda *_: 0.0  # type: ignore[assignment]
    if verb == "doctor":
        doctor = importlib.import_module("compiler.diagnosis.probes")
        doctor.read_libraries = list  # type: ignore[attr-defined]


def warm(names: Path) -> None:
    """Import all that valid runs imported, so that a forked worker starts with it."""
    for name in names.read_text(encoding="utf-8").split():
        if name not in sys.modules:
            _import(name)


class _Enough(BaseException):
    """A rehearsal has reached what it was for."""


def rehearse(seeds: Path, folder: Path) -> None:
    """Run valid inputs here up to their stop: tables, templates and adapters that libraries make once are then in every fork."""
    from compiler.cli import main

    def enough(*_: Any, **__: Any) -> Any:
        raise _Enough

    data = (
        "--data",
        seeds / "data.txt",
        "--target",
        "null",
        "--seq-len",
        32,
        "--out",
        folder / "out",
        "--cache",
        folder / "cache",
        "--quiet",
    )
    commands = [(seeds / model, *data) for model in ("encoder", "classifier", "sharded", "compiled")]
    commands += [
        ("profile", "--target", "null", "--model", seeds / "encoder", "--seq-len", 32, "-o", folder / "table.json")
    ]
    commands += [
        ("diff", seeds / "targets" / "null", seeds / "targets" / "null"),
        ("targets",),
        ("cache", "--cache", folder / "cache"),
    ]
    shutil.copytree(seeds / "targets", folder / "targets")
    commands += [("report", folder / "targets"), ("report", folder / "targets" / "null")]
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch("compiler.pipeline.workplace.usable_cpus", return_value=1))
        for module, name in STOPS.values():
            stack.enter_context(mock.patch(f"{module}.{name}", enough))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        for command in commands:
            with contextlib.suppress(_Enough):
                main([str(word) for word in command])


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except BaseException:  # noqa: BLE001  what cannot be imported alone, a worker imports where it is used
        return
