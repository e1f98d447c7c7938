"""Files that transformers loads a sub-network from without paretoc: config.json with its sizes, and mostly a modelling file."""

import inspect
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from compiler.export.settings import (
    describe_layers,
    described,
    lacks_pooler,
    plain_config,
    stock_settings,
)
from compiler.families import Branch, Checkpoint, Family
from compiler.spaces import Shape

MODULE = "modeling_subnet"


def needs_code(checkpoint: Checkpoint, shape: Shape) -> bool:
    """Whether transformers loads a network only with the modelling file: it has no stock form."""
    return stock_settings(checkpoint, shape) is None


def modelling_file(checkpoint: Checkpoint) -> str:
    """Python that builds a cut network on transformers' own class of the family."""
    architecture, backbone = checkpoint.architecture, checkpoint.model.backbone
    family, stem, branches = architecture.family, architecture.stem, architecture.whole.branches_within(0)
    narrow = {module: axis for branch in branches for module, axis in branch.residual_axes.items()} if stem else {}
    template = Template(files("compiler.export").joinpath(f"{MODULE}.py.txt").read_text(encoding="utf-8"))
    return template.substitute(
        model_type=checkpoint.config.model_type,
        auto_class=checkpoint.task.auto_class,
        base_class=type(backbone).__name__,
        extra=repr({"add_pooling_layer": False} if lacks_pooler(checkpoint) else {}),
        layers=family.layers,
        branches=_literal([_described(checkpoint, branch) for branch in branches]),
        whole_layer=repr(family.whole_layer),
        narrow_in_layer=repr(narrow),
        narrow_outside=repr(
            {p.parameter.removesuffix(".weight"): p.axis for p in stem if p.parameter.endswith(".weight")}
        ),
        restoring=bool(stem) and architecture.restoring is not None,
        **_adapting(family),
    )


def _adapting(family: Family) -> dict[str, str]:
    """The module of the family's `adapt`, and its call before anything is cut; nothing where a row has none."""
    if family.adapt is None:
        return {"adapting": "", "adapted": ""}
    source = inspect.getsource(inspect.getmodule(family.adapt) or family.adapt)
    return {"adapting": f"{source.strip()}\n\n\n", "adapted": f"        {family.adapt.__name__}(self)\n"}


def _described(checkpoint: Checkpoint, branch: Branch) -> dict[str, Any]:
    """A branch as the modelling file has it, modules with the rows that one group takes in them, and one slot of it."""
    skip, size, slots = described(checkpoint, branch.piece)
    return {
        "skip": skip,
        "size": size,
        "slots": slots,
        "reads": {matrix.module: matrix.rows_each for matrix in branch.rows},
        "output": (branch.output.module, branch.output.rows_each),
        "without": dict(branch.without),
        "counts": dict(branch.counts),
        "slot_counts": branch.slot_counts,
    }


def _literal(values: Sequence[Mapping[str, Any]]) -> str:
    """Dictionaries as Python source, a key a line."""
    rows = [
        "    {\n" + "".join(f"        {key!r}: {value!r},\n" for key, value in v.items()) + "    },\n" for v in values
    ]
    return f"[\n{''.join(rows)}]"


def write_config(folder: Path, checkpoint: Checkpoint, shape: Shape, width: int | None = None) -> None:
    """Write config.json, and the modelling file that it names where the network has no stock form. Our own loader runs neither.

    With that file, sizes of the configuration itself stay those of the dense model, and an embedding model's output has its
    hidden size.
    """
    config = plain_config(checkpoint.config)
    config.architectures = [type(checkpoint.model.backbone).__name__]
    settings = stock_settings(checkpoint, shape)
    if settings is not None:
        for name, value in settings.items():
            setattr(config, name, value)
        config.save_pretrained(folder)
        return
    layers = describe_layers(checkpoint, shape)
    config.subnet = {"head_size": checkpoint.architecture.head_size, "layers": layers}
    if width is not None:
        config.subnet["hidden_size"] = width
    config.auto_map = {checkpoint.task.auto_class: f"{MODULE}.Subnet"}
    config.save_pretrained(folder)
    (folder / f"{MODULE}.py").write_text(modelling_file(checkpoint), encoding="utf-8")
