"""Checkpoints of a training on disk: tensors in safetensors, the rest in JSON, a list of both written last. No pickles.

A checkpoint counts where its list is whole and every file is the one that was listed; any other counts as absent.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compiler.families.tied import tied_names
from targets.errors import InputError
from targets.json_file import read_json

LIST = "checkpoint.json"
SCHEMA = 1
MODEL, OPTIMISER, GENERATORS = "model.safetensors", "optimiser.safetensors", "generators.safetensors"
SCHEDULE, TRAINER = "schedule.json", "trainer_state.json"


def last_checkpoint(folder: Path, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Path | None:
    """The newest whole checkpoint of a run, of a model with these shapes; those that are damaged are removed."""
    found = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    for path in sorted(found, key=lambda path: int(path.name.split("-")[1]), reverse=True):
        if _is_whole(path) and (shapes is None or _shapes(path / MODEL) == shapes):
            return path
        shutil.rmtree(path, ignore_errors=True)
    return None


def _is_whole(folder: Path) -> bool:
    """Whether all files are there as they were listed; the list is written last."""
    try:
        listed = read_json(folder / LIST)
        names = listed["files"] if listed["schema"] == SCHEMA else {}
        return {MODEL, OPTIMISER, SCHEDULE, TRAINER} <= set(names) and all(
            Path(name).name == name and _sha256(folder / name) == digest for name, digest in names.items()
        )
    except (InputError, OSError, KeyError, TypeError):
        return False


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  it is no dict
    except (OSError, SafetensorError):
        return {}


def seal(folder: Path) -> None:
    """Write the list of a checkpoint's files: from now on it counts, and those before it go."""
    files = {path.name: _sha256(path) for path in sorted(folder.iterdir()) if path.name != LIST}
    _write_json(folder / LIST, {"schema": SCHEMA, "files": files})
    for path in folder.parent.glob("checkpoint-*"):
        if path != folder:
            shutil.rmtree(path, ignore_errors=True)


def save_model(folder: Path, model: nn.Module) -> None:
    """Write the parameters and buffers of a model into a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in _state(model).items()}, folder / MODEL)


def _state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, each under one name."""
    tied = tied_names(model)
    return {name: tensor for name, tensor in model.state_dict().items() if name not in tied}


def load_model(folder: Path, model: nn.Module) -> None:
    """Give a model the parameters and buffers that `save_model` wrote."""
    state = load_file(folder / MODEL)
    model.load_state_dict(state | {alias: state[name] for alias, name in tied_names(model).items()})


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of what `save_model` writes."""
    return {name: tuple(tensor.shape) for name, tensor in _state(model).items()}


def save_optimiser(folder: Path, optimiser: Any, schedule: Any) -> None:
    """Write what an optimiser keeps of every parameter, and the figures of its groups and of the learning rate's schedule."""
    state = optimiser.state_dict()
    save_file(
        {f"{row}.{name}": value.contiguous() for row, kept in state["state"].items() for name, value in kept.items()},
        folder / OPTIMISER,
    )
    _write_json(folder / SCHEDULE, {"groups": state["param_groups"], "schedule": _plain(schedule.state_dict())})


def load_optimiser(folder: Path, optimiser: Any, schedule: Any) -> None:
    """Give an optimiser and its schedule what `save_optimiser` wrote."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in load_file(folder / OPTIMISER).items():
        row, name = key.split(".", 1)
        state.setdefault(int(row), {})[name] = tensor
    figures = read_json(folder / SCHEDULE)
    optimiser.load_state_dict({"state": state, "param_groups": figures["groups"]})
    schedule.load_state_dict({**figures["schedule"], "lr_lambdas": [None] * len(figures["groups"])})


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """A schedule's state without its functions, which its maker has."""
    return {name: value for name, value in state.items() if name != "lr_lambdas"}


def save_generators(folder: Path, rank: int) -> None:
    """Write the state of PyTorch's generators: nothing else draws while a network is trained."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    save_file(states, folder / _generators(rank))


def load_generators(folder: Path, rank: int) -> None:
    """Put the generators where they were; those of a process that was not there stay as they are."""
    if not (folder / _generators(rank)).is_file():
        return
    states = load_file(folder / _generators(rank))
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _generators(rank: int) -> str:
    return GENERATORS if rank == 0 else f"{rank}.{GENERATORS}"


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, default=_number) + "\n", encoding="utf-8")


def _number(value: Any) -> Any:
    """A figure that a library keeps as a tensor or as NumPy's."""
    if isinstance(value, torch.Tensor | np.generic):
        return value.item()
    raise TypeError(type(value).__name__)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def training_log(folder: Path) -> list[dict[str, float]]:
    """About a hundred rows of the run that ended in this folder; none where nothing was trained there.

    `step` counts optimiser steps, `loss` is the mean since the row before; `learning_rate` and `grad_norm` are the step's.
    """
    finished = last_checkpoint(folder)
    if finished is None:
        return []
    state = read_json(finished / TRAINER)
    columns = ("step", "loss", "learning_rate", "grad_norm")
    return [{name: row[name] for name in columns} for row in state["log_history"] if "loss" in row]
