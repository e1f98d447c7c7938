"""Decide, cut, emit: from a checkpoint and a device to verified ONNX artefacts."""

from typing import Any


def compile(model: str, **options: Any) -> dict[str, Any]:  # noqa: A001  the product's own verb
    """Compile a model and return the content of the run's `front.json`.

    Options are the fields of `compiler.pipeline.Options`: `compile("my-model", data="data/", out=Path("out"))`.
    Raises a `targets.errors.ParetocError` for what a user can cause.
    """
    from compiler.pipeline import Options, compile_model

    return compile_model(Options(model=model, **options))
