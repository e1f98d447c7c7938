"""A sub-network as a transformers checkpoint: safetensors, configuration, tokenizer, and what it takes to rebuild it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from compiler.export.origin import FILE, is_compiled, read_origin
from compiler.export.recipe_files import write_recipe_files
from compiler.export.reload import write_config
from compiler.export.settings import dense_sizes, stock_settings
from compiler.export.subnet_form import schema_of
from compiler.families import Checkpoint
from compiler.families.recipe_files import transformer_folder
from compiler.spaces import Subnet
from targets.json_file import read_json


def save_checkpoint(folder: Path, checkpoint: Checkpoint, subnet: Subnet, parameters: Mapping[str, Tensor]) -> None:
    """Write the sliced weights under their own names, and everything needed to load them again.

    `subnet.json` counts heads and units in the dense model, also where the checkpoint was itself cut from that, and has the
    dense model's sizes where config.json has the network's own.
    """
    assert (subnet.queries is None) == (checkpoint.architecture.apart is None)  # noqa: S101  else its sizes count something else
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().contiguous().clone() for name, tensor in parameters.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_config(folder, checkpoint, subnet.shape, subnet.width)
    save_tokenizer(folder, checkpoint)
    recipe = checkpoint.model.recipe
    if recipe is not None:
        hidden = checkpoint.architecture.hidden_size
        write_recipe_files(folder, recipe, hidden=hidden, max_tokens=checkpoint.max_tokens)
    base, kept = checkpoint.name, subnet
    if is_compiled(checkpoint.folder):
        origin = read_origin(checkpoint.folder)
        apart = checkpoint.architecture.apart
        parent = origin.subnet if apart is None else origin.subnet.with_all_queries(apart)
        base, kept = origin.base, subnet.within(parent)
    cut = kept.to_json()
    about = {"schema": schema_of(cut), "task": checkpoint.task.name, "base": base, **cut}
    if changed := stock_settings(checkpoint, subnet.shape):
        about["dense"] = dense_sizes(checkpoint, changed)
    (folder / FILE).write_text(json.dumps(about) + "\n", encoding="utf-8")


def save_tokenizer(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the tokenizer as it was loaded, whatever it was used for since, with the limit and the sides that hold here.

    Words are those that transformers 4, which Optimum needs, reads as well as 5.
    """
    checkpoint.tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    side = checkpoint.tokenizer.truncation_side
    config |= {"model_max_length": checkpoint.max_tokens, "truncation_side": side, "padding_side": "right"}
    for name in _OF_CALLS:
        config.pop(name, None)
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    path = folder / "tokenizer.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(
        json.dumps(saved | _loaded_calls(checkpoint), ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
    )


_OF_CALLS = ("max_length", "stride", "truncation_strategy", "pad_to_multiple_of", "padding", "truncation")
"""Arguments of calls that transformers keeps beside a tokenizer whose file says how to truncate or pad."""


def _loaded_calls(checkpoint: Checkpoint) -> dict[str, Any]:
    """How the file that the tokenizer came from truncates and pads; not at all where there was none."""
    path = transformer_folder(checkpoint.folder) / "tokenizer.json"
    loaded = read_json(path) if path.is_file() else {}
    return {name: loaded.get(name) if isinstance(loaded, dict) else None for name in ("truncation", "padding")}
