"""Graph templates: exported once per architecture and library versions, read from the store afterwards."""

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import metadata
from typing import Any

import onnx

from compiler.export.dense import FORM, export_dense
from compiler.export.template import Binding, Block, GraphTemplate, make_template, narrow_template
from compiler.families import Checkpoint
from compiler.pipeline.subject import as_arrays
from compiler.slicing import with_restoring
from compiler.store import Store, key_of
from profilers import Heads
from profilers.runtimes.onnx_session import package
from profilers.workload import DEFAULT_OPSET
from targets import STATIC

_UNUSED_SETTINGS = {
    "_name_or_path", "architectures", "transformers_version", "torch_dtype", "dtype", "problem_type", "finetuning_task",
    "task_specific_params", "initializer_range", "use_cache", "gradient_checkpointing", "label2id",
}  # fmt: skip
"""Settings of a configuration that no graph depends on, beside rates of dropout; every other one, known or not, is part of the key."""


def graph_settings(config: Any) -> dict[str, Any]:
    """The settings of a configuration that its graph may depend on, as JSON values; of labels their number."""
    values = {n: v for n, v in config.to_dict().items() if n not in _UNUSED_SETTINGS and "dropout" not in n}
    if "id2label" in values:
        values["id2label"] = len(values["id2label"])
    found: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return found


def _inputs(checkpoint: Checkpoint, opset: int, *, restoring: bool) -> dict[str, Any]:
    """Everything that a template depends on, as JSON values."""
    libraries = {name: metadata.version(name) for name in ("torch", "transformers", "onnx", "onnxscript", "paretoc")}
    recipe = checkpoint.model.recipe
    return {
        "config": graph_settings(checkpoint.config),
        "recipe": recipe and recipe.in_graph,
        "inputs": checkpoint.input_names,
        "outputs": checkpoint.model.output_names,
        "opset": opset,
        "libraries": libraries,
        "form": [FORM, Binding._fields, Block._fields],
        **({"restoring": True} if restoring else {}),
    }


def template_key(checkpoint: Checkpoint, opset: int, *, narrow: bool) -> str:
    """Store key of the exact template that `find_templates` gives: the same for all weights of one architecture."""
    return key_of(_inputs(checkpoint, opset, restoring=_restoring(checkpoint, narrow=narrow)))


def _restoring(checkpoint: Checkpoint, *, narrow: bool) -> bool:
    return narrow and checkpoint.architecture.restoring is not None


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
    restoring = _restoring(checkpoint, narrow=narrow)
    inputs = _inputs(checkpoint, opset, restoring=restoring)
    full = _stored(store, inputs, lambda: _exported(checkpoint, opset, restoring=restoring))
    templates = {"fp32": full}
    for precision in (p for p in ("fp16", "int8", STATIC) if p in precisions):
        narrower = {**inputs, "precision": precision, "onnxruntime": _converter_version()}
        templates[precision] = _stored(store, narrower, partial(_narrowed, checkpoint, full, precision))
    return templates


def _stored(store: Store, inputs: Mapping[str, Any], make: Callable[[], GraphTemplate]) -> GraphTemplate:
    return _from_json(store.stored("template", key_of(inputs), lambda: _to_json(make())))


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
