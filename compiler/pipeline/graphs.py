"""The run's graph template: exported once per architecture, read from the store afterwards."""

import base64
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import onnx

from compiler.export.dense import FORM, export_dense
from compiler.export.template import Binding, Block, GraphTemplate, make_template, narrow_template
from compiler.families import Checkpoint
from compiler.families.checkpoint import config_text
from compiler.pipeline.subject import as_arrays
from compiler.slicing import with_restoring
from compiler.store import Store, key_of
from profilers import Heads
from profilers.runtimes.onnx_session import package
from profilers.workload import DEFAULT_OPSET
from targets import STATIC


def _about(checkpoint: Checkpoint, opset: int) -> dict[str, Any]:
    from importlib import metadata

    libraries = {name: metadata.version(name) for name in ("torch", "transformers", "onnx", "onnxscript", "paretoc")}
    recipe = checkpoint.model.recipe
    return {
        "config": config_text(checkpoint.config),
        "recipe": recipe and recipe.in_graph,
        "inputs": checkpoint.input_names,
        "outputs": checkpoint.model.output_names,
        "opset": opset,
        "libraries": libraries,
        "form": [FORM, Binding._fields, Block._fields],
    }


def _to_json(template: GraphTemplate) -> dict[str, Any]:
    return {
        "proto": base64.b64encode(template.proto.SerializeToString()).decode(),
        "bindings": {name: list(binding) for name, binding in template.bindings.items()},
        "attention": [list(block) for block in template.attention],
        "ffn": [list(block) for block in template.ffn],
        "heads": list(template.heads),
        "matrices": {activation: list(readers) for activation, readers in template.matrices.items()},
        "restoring": template.restoring and list(template.restoring),
    }


def _from_json(data: dict[str, Any]) -> GraphTemplate:
    return GraphTemplate(
        proto=onnx.load_model_from_string(base64.b64decode(data["proto"])),
        bindings={name: Binding(*binding) for name, binding in data["bindings"].items()},
        attention=tuple(Block(*block) for block in data["attention"]),
        ffn=tuple(Block(*block) for block in data["ffn"]),
        heads=Heads(*data["heads"]),
        matrices=data["matrices"],
        restoring=Block(*data["restoring"]) if data.get("restoring") else None,
    )


def find_templates(
    checkpoint: Checkpoint,
    store: Store,
    precisions: Iterable[str],
    opset: int = DEFAULT_OPSET,
    *,
    narrow: bool = False,
) -> dict[str, GraphTemplate]:
    """The templates of a checkpoint's architecture and task, by precision; its weights play no part.

    fp32 is always among them: the others are made from it. `narrow` says that networks of fewer residual dimensions will
    fill them: of an embedding model they end in one matrix more.
    """
    restoring = narrow and checkpoint.architecture.restoring is not None
    about = _about(checkpoint, opset) | ({"restoring": True} if restoring else {})
    full = _stored(store, about, lambda: _exported(checkpoint, opset, restoring=restoring))
    templates = {"fp32": full}
    for precision in (p for p in ("fp16", "int8", STATIC) if p in precisions):
        narrower = {**about, "precision": precision, "onnxruntime": _converter_version()}
        templates[precision] = _stored(store, narrower, partial(_narrowed, checkpoint, full, precision))
    return templates


def _stored(store: Store, about: Mapping[str, Any], make: Callable[[], GraphTemplate]) -> GraphTemplate:
    key = key_of(about)
    return _from_json(store.stored("template", key, lambda: _to_json(make())))


def _exported(checkpoint: Checkpoint, opset: int, *, restoring: bool) -> GraphTemplate:
    proto, twin = export_dense(checkpoint, opset, restoring=restoring)
    return make_template(proto, as_arrays(dict(twin.backbone.named_parameters())), checkpoint.architecture)


def _narrowed(checkpoint: Checkpoint, template: GraphTemplate, precision: str) -> GraphTemplate:
    whole = checkpoint.whole
    if template.restoring is not None:
        whole = with_restoring(whole, checkpoint.architecture)
    parameters = as_arrays(dict(whole.backbone.named_parameters()))
    return narrow_template(template, precision, parameters, checkpoint.architecture)


def _converter_version() -> str:
    version: str = package().__version__
    return version
