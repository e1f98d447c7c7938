"""A sub-network as a transformers checkpoint: safetensors, configuration, tokenizer, and what it takes to rebuild it."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from compiler.export.origin import FILE, SCHEMA, is_compiled, read_origin
from compiler.export.reload import write_modelling
from compiler.families import Checkpoint
from compiler.families.checkpoint import SIDE_FILES
from compiler.spaces import Subnet


def save_checkpoint(folder: Path, checkpoint: Checkpoint, subnet: Subnet, parameters: Mapping[str, Tensor]) -> None:
    """Write the sliced weights under their own names, and everything needed to load them again.

    `subnet.json` counts heads and units in the dense model, also where the checkpoint was itself cut from that.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().contiguous().clone() for name, tensor in parameters.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_modelling(folder, checkpoint, subnet.shape, subnet.width)
    _save_tokenizer(folder, checkpoint.tokenizer)
    for name in SIDE_FILES:
        if (checkpoint.folder / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(checkpoint.folder / name, folder / name)
    base, kept = checkpoint.name, subnet
    if is_compiled(checkpoint.folder):
        _, base, parent = read_origin(checkpoint.folder)
        kept = subnet.within(parent)
    about = {"schema": SCHEMA, "task": checkpoint.task, "base": base, **kept.to_json()}
    (folder / FILE).write_text(json.dumps(about) + "\n", encoding="utf-8")


def _save_tokenizer(folder: Path, tokenizer: Any) -> None:
    """Write a tokenizer in the words that transformers 4, which Optimum needs, reads as well as 5."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
