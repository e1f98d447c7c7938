"""Model folders as people have them: a tiny checkpoint with its files changed one at a time."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from compiler.families import Checkpoint, load_checkpoint
from tests.tiny import save_tiny

TEXTS = ["the film was great", "food", "a small red stone of the river is not for sale"]


def copied(source: Path, to: Path) -> Path:
    return Path(shutil.copytree(source, to))


def set_json(path: Path, *, drop: tuple[str, ...] = (), **changes: Any) -> None:
    """Change settings of a JSON file; `drop` takes them out."""
    values = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if key not in drop}), encoding="utf-8")


def set_config(folder: Path, **changes: Any) -> None:
    set_json(folder / "config.json", **changes)


def set_tokenizer(folder: Path, **changes: Any) -> None:
    set_json(folder / "tokenizer_config.json", **changes)


def set_weights(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    weights = change(load_file(folder / "model.safetensors"))
    save_file({key: tensor.contiguous() for key, tensor in weights.items()}, folder / "model.safetensors")


def renamed(folder: Path, rule: Callable[[str], str]) -> None:
    set_weights(folder, lambda weights: {rule(key): tensor for key, tensor in weights.items()})


def without(folder: Path, *parts: str) -> None:
    """Take out the weights whose names have one of these parts."""
    set_weights(folder, lambda all_: {k: v for k, v in all_.items() if not any(part in k for part in parts)})


def load(folder: Path, task: str = "embedding", names: list[str] | None = None) -> Checkpoint:
    return load_checkpoint(str(folder), task=task, label_names=names)


def answers(checkpoint: Checkpoint) -> Tensor:
    """What the model gives for some texts, one at a time: token embeddings, or logits."""
    with torch.inference_mode():
        given = [checkpoint.model(**_inputs(checkpoint, text))[0] for text in TEXTS]
    return torch.cat([output.flatten() for output in given])


def _inputs(checkpoint: Checkpoint, text: str) -> dict[str, Tensor]:
    encoded = checkpoint.tokenizer(text, return_tensors="pt")
    return {name: encoded[name] for name in checkpoint.input_names}


def transformers_answers(folder: Path, task: str = "embedding") -> Tensor:
    """What transformers alone gives for the same texts."""
    import transformers

    auto = transformers.AutoModel if task == "embedding" else transformers.AutoModelForSequenceClassification
    model = auto.from_pretrained(folder, dtype=torch.float32, use_safetensors=True).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        outputs = [model(**tokenizer(text, return_tensors="pt"), return_dict=True) for text in TEXTS]
    return torch.cat(
        [(output.last_hidden_state if task == "embedding" else output.logits).flatten() for output in outputs]
    )


@cache
def known_answers(folder: Path, task: str = "embedding") -> Tensor:
    """The same of a folder that no test changes."""
    return transformers_answers(folder, task)


def tiny(folder: Path, model_type: str = "bert", **more: Any) -> Path:
    return save_tiny(folder, model_type, **more)
