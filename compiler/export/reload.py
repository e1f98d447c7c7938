"""What transformers needs to load a sub-network without paretoc: a modelling file, and the layers' sizes in config.json."""

import copy
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from compiler.families import Branch, Checkpoint, auto_class
from compiler.spaces import Shape

MODULE = "modeling_subnet"


def describe_layers(shape: Shape) -> list[dict[str, Any]]:
    """What each layer keeps, in the words of transformers' `per_layer_config`."""
    layers = []
    for heads, units in shape:
        skip = [name for name, size in (("attention", heads), ("mlp", units)) if not size]
        kept = {"num_attention_heads": heads, "intermediate_size": units}
        layers.append({name: size for name, size in kept.items() if size} | ({"skip": skip} if skip else {}))
    return layers


def modelling_file(checkpoint: Checkpoint) -> str:
    """Python that builds a cut network on transformers' own class of the family."""
    architecture, backbone = checkpoint.architecture, checkpoint.model.backbone
    family, stem, branches = architecture.family, architecture.stem, architecture.branches_within(0)
    unpooled = checkpoint.task == "embedding" and hasattr(backbone, "pooler")
    template = Template(files("compiler.export").joinpath(f"{MODULE}.py.txt").read_text(encoding="utf-8"))
    return template.substitute(
        model_type=checkpoint.config.model_type,
        auto_class=auto_class(checkpoint.task),
        base_class=type(backbone).__name__,
        extra=repr({"add_pooling_layer": False} if unpooled else {}),
        layers=family.layers,
        branches=_literal([_described(branch) for branch in branches]),
        narrow_in_layer=repr({module: axis for branch in branches for module, axis in branch.residual_axes.items()}),
        narrow_outside=repr(
            {p.parameter.removesuffix(".weight"): p.axis for p in stem if p.parameter.endswith(".weight")}
        ),
        restoring=checkpoint.architecture.restoring is not None,
    )


_WORDS = {"attention": ("attention", "num_attention_heads"), "ffn": ("mlp", "intermediate_size")}
"""By piece: how `per_layer_config` says that a branch is skipped, and how many groups of it are kept."""


def _described(branch: Branch) -> dict[str, Any]:
    """A branch as the modelling file has it, modules with the rows that one group takes in them."""
    skip, size = _WORDS[branch.piece]
    return {
        "skip": skip,
        "size": size,
        "reads": {matrix.module: matrix.size(1) for matrix in branch.reads},
        "output": (branch.output.module, branch.output.size(1)),
        "without": dict(branch.without),
        "counts": dict(branch.counts),
    }


def _literal(values: Sequence[Mapping[str, Any]]) -> str:
    """Dictionaries as Python source, a key a line."""
    rows = [
        "    {\n" + "".join(f"        {key!r}: {value!r},\n" for key, value in v.items()) + "    },\n" for v in values
    ]
    return f"[\n{''.join(rows)}]"


def plain_config(config: Any) -> Any:
    """The configuration of a sub-network without what `write_modelling` added: that of the model it was cut from."""
    plain = copy.deepcopy(config)
    for name in ("subnet", "auto_map"):
        if hasattr(plain, name):
            delattr(plain, name)
    return plain


def write_modelling(folder: Path, checkpoint: Checkpoint, shape: Shape, width: int | None = None) -> None:
    """Write config.json and the modelling file that it names. Our own loader runs neither.

    Sizes of the configuration itself stay those of the dense model, and an embedding model's output has its hidden size.
    """
    config = copy.deepcopy(checkpoint.config)
    config.subnet = {"head_size": checkpoint.architecture.head_size, "layers": describe_layers(shape)}
    if width is not None:
        config.subnet["hidden_size"] = width
    config.architectures = [type(checkpoint.model.backbone).__name__]
    config.auto_map = {auto_class(checkpoint.task): f"{MODULE}.Subnet"}
    config.save_pretrained(folder)
    (folder / f"{MODULE}.py").write_text(modelling_file(checkpoint), encoding="utf-8")
