"""The run's graph template: exported once per architecture, read from the store afterwards."""

import base64
from typing import Any

import onnx

from compiler.export.dense import OPSET, export_dense
from compiler.export.template import Binding, Block, GraphTemplate, make_template
from compiler.families import Checkpoint
from compiler.pipeline.subject import as_arrays
from compiler.store import Store, key_of


def _about(checkpoint: Checkpoint) -> dict[str, Any]:
    from importlib import metadata

    libraries = {name: metadata.version(name) for name in ("torch", "transformers", "onnx", "onnxscript")}
    return {
        "config": checkpoint.config.to_json_string(use_diff=False),
        "recipe": repr(checkpoint.model.recipe),
        "inputs": checkpoint.input_names,
        "opset": OPSET,
        "libraries": libraries,
    }


def _to_json(template: GraphTemplate) -> dict[str, Any]:
    return {
        "proto": base64.b64encode(template.proto.SerializeToString()).decode(),
        "bindings": {name: list(binding) for name, binding in template.bindings.items()},
        "attention": [list(block) for block in template.attention],
        "ffn": [list(block) for block in template.ffn],
    }


def _from_json(data: dict[str, Any]) -> GraphTemplate:
    return GraphTemplate(
        proto=onnx.load_model_from_string(base64.b64decode(data["proto"])),
        bindings={name: Binding(*binding) for name, binding in data["bindings"].items()},
        attention=tuple(Block(*block) for block in data["attention"]),
        ffn=tuple(Block(*block) for block in data["ffn"]),
    )


def find_template(checkpoint: Checkpoint, store: Store) -> GraphTemplate:
    """The template of a checkpoint's architecture and task; its weights play no part."""
    key = key_of(_about(checkpoint))
    stored = store.get("template", key)
    if stored is not None:
        return _from_json(stored)
    proto, twin = export_dense(checkpoint)
    template = make_template(proto, as_arrays(dict(twin.backbone.named_parameters())), checkpoint.architecture)
    store.put("template", key, _to_json(template))
    return template
