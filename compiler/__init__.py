"""Decide, cut, emit: from a checkpoint and a device to verified ONNX artefacts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def compile(  # noqa: A001  the product's own verb
    model: str, *, targets: Sequence[str] = (), tables: Sequence[Path] = (), **options: Any
) -> dict[str, Any]:
    """Compile a model and return the content of the run's `front.json`, with `targets` of `targets.json`.

    Options are the fields of `compiler.pipeline.Options`: `compile("my-model", data="data/", out=Path("out"))`. With
    `targets=("cpu", "a10g")` each gets a folder of its own, and of `tables` the one that was measured on it.
    Raises a `targets.errors.ParetocError` for what a user can cause.
    """
    from compiler.pipeline import Options, compile_model, compile_targets

    if targets:
        return dict(compile_targets(Options(model=model, **options), targets, tables))
    return compile_model(Options(model=model, **options))
