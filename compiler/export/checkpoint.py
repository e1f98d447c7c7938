"""A sub-network as a transformers checkpoint: safetensors, configuration, tokenizer, and what it takes to rebuild it."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from compiler.export.reload import write_modelling
from compiler.families import Architecture, Checkpoint, TaskModel, auto_class
from compiler.families.architecture import architecture_of
from compiler.families.checkpoint import SIDE_FILES
from compiler.families.embedding import read_recipe
from compiler.slicing import build_skeleton
from compiler.spaces import Subnet
from targets.errors import InputError

SCHEMA = 1


def save_checkpoint(folder: Path, checkpoint: Checkpoint, subnet: Subnet, parameters: Mapping[str, Tensor]) -> None:
    """Write the sliced weights under their own names, and everything needed to load them again."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().contiguous().clone() for name, tensor in parameters.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_modelling(folder, checkpoint, subnet.shape)
    checkpoint.tokenizer.save_pretrained(folder)
    for name in SIDE_FILES:
        if (checkpoint.folder / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(checkpoint.folder / name, folder / name)
    about = {"schema": SCHEMA, "task": checkpoint.task, "base": checkpoint.name, **subnet.to_json()}
    (folder / "subnet.json").write_text(json.dumps(about) + "\n", encoding="utf-8")


def _subnet_json(folder: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads((folder / "subnet.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{folder.name} is no compiled model: no readable subnet.json") from None
    if data.get("schema") != SCHEMA:
        raise InputError(f"{folder.name}: subnet.json has schema {data.get('schema')!r}, this version reads {SCHEMA}")
    return data


class Sliced(NamedTuple):
    """A saved sub-network, rebuilt: `architecture` is that of the dense model it was cut from."""

    model: TaskModel
    tokenizer: Any
    architecture: Architecture
    subnet: Subnet


def load_sliced(folder: Path) -> Sliced:
    """A saved sub-network and its tokenizer, rebuilt by this code; nothing in the folder is executed."""
    import transformers

    about = _subnet_json(folder)
    subnet = Subnet.from_json(about)
    config = transformers.AutoConfig.from_pretrained(folder)
    embedding = about["task"] == "embedding"
    auto: Any = getattr(transformers, auto_class(about["task"]))
    with torch.random.fork_rng(devices=[]):
        dense = auto.from_config(config, attn_implementation="sdpa").eval()
    if embedding and getattr(dense, "pooler", None) is not None:
        dense.pooler = None
    architecture = architecture_of(dense)
    model = build_skeleton(TaskModel(dense, read_recipe(folder) if embedding else None), architecture, subnet.shape)
    model.backbone.load_state_dict(load_file(folder / "model.safetensors"), strict=False, assign=True)
    return Sliced(model.eval(), transformers.AutoTokenizer.from_pretrained(folder), architecture, subnet)
