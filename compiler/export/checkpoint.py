"""A sub-network as a transformers checkpoint: safetensors, configuration, tokenizer, and what it takes to rebuild it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from compiler.export.recipe_files import write_recipe_files
from compiler.export.reload import plain_config, write_modelling
from compiler.families import (
    Architecture,
    Checkpoint,
    ScoreScale,
    TaskModel,
    auto_class,
    load_checkpoint,
)
from compiler.families.architecture import architecture_of
from compiler.families.checkpoint import (
    check_labels,
    config_text,
    digest_of,
    drop_unused_pooler,
    quiet_transformers,
    read_config,
    read_tokenizer,
    refuse_nan,
)
from compiler.families.recipe_files import read_recipe, transformer_folder
from compiler.families.tokenising import fitted, longest_text
from compiler.slicing import build_skeleton
from compiler.spaces import Subnet
from targets.errors import InputError
from targets.json_file import read_json

SCHEMA = 1
FILE = "subnet.json"


class Origin(NamedTuple):
    """What `subnet.json` says: the task, the name of the dense model, and what is left of it."""

    task: str
    base: str
    subnet: Subnet


def is_compiled(folder: Path) -> bool:
    """Whether paretoc wrote a model folder."""
    return (folder / FILE).is_file()


def read_origin(folder: Path) -> Origin:
    """`subnet.json` of a compiled model. InputError where it is missing, damaged or of another version."""
    try:
        data: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{folder.name} is no compiled model: no readable {FILE}") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else None
        raise InputError(f"{folder.name}: {FILE} has schema {found!r}, this version reads {SCHEMA}")
    try:
        return Origin(str(data["task"]), str(data["base"]), Subnet.from_json(data))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder.name}: {FILE} is damaged: {type(error).__name__}: {error}") from None


def save_checkpoint(folder: Path, checkpoint: Checkpoint, subnet: Subnet, parameters: Mapping[str, Tensor]) -> None:
    """Write the sliced weights under their own names, and everything needed to load them again.

    `subnet.json` counts heads and units in the dense model, also where the checkpoint was itself cut from that.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().contiguous().clone() for name, tensor in parameters.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_modelling(folder, checkpoint, subnet.shape, subnet.width)
    save_tokenizer(folder, checkpoint)
    recipe = checkpoint.model.recipe
    if recipe is not None:
        hidden = checkpoint.architecture.hidden_size
        write_recipe_files(folder, recipe, hidden=hidden, max_tokens=checkpoint.max_tokens)
    base, kept = checkpoint.name, subnet
    if is_compiled(checkpoint.folder):
        _, base, parent = read_origin(checkpoint.folder)
        kept = subnet.within(parent)
    about = {"schema": SCHEMA, "task": checkpoint.task, "base": base, **kept.to_json()}
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


def load_model(
    folder: Path,
    *,
    task: str,
    label_names: Sequence[str] | None = None,
    pooling: str | None = None,
    prompt: str | None = None,
    scale: ScoreScale | None = None,
    seed: int = 0,
    trust_remote_code: bool = False,
) -> Checkpoint:
    """A model to compile for a task: a dense checkpoint, or a network that was compiled before.

    InputError as in `load_checkpoint` and `load_sliced`, and where a network was compiled for another task.
    """
    if not is_compiled(folder):
        return load_checkpoint(
            str(folder), task=task, label_names=label_names, pooling=pooling, prompt=prompt, scale=scale,
            seed=seed, trust_remote_code=trust_remote_code,
        )  # fmt: skip
    checkpoint = load_sliced(folder, pooling=pooling, prompt=prompt)
    if checkpoint.task != task:
        raise InputError(
            f"{folder.name} was compiled for {checkpoint.task}, asked is {task}\n"
            f"give data for {checkpoint.task}, or compile the dense model it came from"
        )
    width = read_origin(folder).subnet.width
    if width is not None:
        raise InputError(
            f"{folder.name} keeps {width} of {checkpoint.architecture.hidden_size} residual dimensions: such a network is "
            "not compiled again\ncompile the model it came from"
        )
    if not any(any(sizes) for sizes in checkpoint.architecture.shape):
        raise InputError(f"{folder.name} has no head and no FFN unit left to cut")
    if task != "embedding":
        check_labels(checkpoint.config, task, label_names, folder)
    return checkpoint


def load_sliced(folder: Path, *, pooling: str | None = None, prompt: str | None = None) -> Checkpoint:
    """A saved sub-network, rebuilt by this code; nothing in the folder is executed.

    InputError where a file is missing or damaged, or weights and configuration are not of the network in `subnet.json`.
    """
    origin = read_origin(folder)
    config = plain_config(read_config(folder))
    tokenizer = read_tokenizer(folder, config)
    recipe = read_recipe(folder).overridden(pooling=pooling, prompt=prompt) if origin.task == "embedding" else None
    backbone = _backbone(config, origin.task)
    architecture = architecture_of(backbone)
    recipe, tokenizer = fitted(recipe, tokenizer, architecture.max_tokens)
    whole = TaskModel(backbone, recipe).eval()
    _check_indices(origin.subnet, architecture, folder)
    model = build_skeleton(whole, architecture, origin.subnet.shape, origin.subnet.width)
    _fill(model, folder)
    return Checkpoint(
        name=f"{folder.resolve().name} of {origin.base}",
        folder=folder,
        architecture=replace(architecture, cut=origin.subnet.shape),
        model=model.eval(),
        whole=whole,
        tokenizer=tokenizer,
        task=origin.task,
        max_tokens=longest_text(recipe, tokenizer, architecture.max_tokens),
        head_trained=True,
        digest=digest_of(dict(model.backbone.named_parameters()), config_text(config)),
    )


def _check_indices(subnet: Subnet, architecture: Architecture, folder: Path) -> None:
    """InputError where the configuration is of a model that has not these layers, heads, FFN units or dimensions."""
    kept = (subnet.heads, subnet.units, (subnet.residual or (),))
    most = [max((i for layer in layers for i in layer), default=-1) for layers in kept]
    sizes = (architecture.heads, architecture.ffn_units, architecture.hidden_size)
    if len(subnet.shape) != architecture.layers or any(i >= size for i, size in zip(most, sizes, strict=True)):
        raise InputError(f"{folder.name}: {FILE} is of another model than config.json")


def _backbone(config: Any, task: str) -> torch.nn.Module:
    """The model that the network was cut from, with random weights."""
    import transformers

    auto: Any = getattr(transformers, auto_class(task))
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = auto.from_config(config, attn_implementation="sdpa").float()
    if task == "embedding":
        drop_unused_pooler(backbone)
    return backbone  # type: ignore[no-any-return]


def _fill(model: TaskModel, folder: Path) -> None:
    """Give a skeleton its weights, to train further as well."""
    try:
        found = model.backbone.load_state_dict(load_file(folder / "model.safetensors"), strict=False, assign=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder.name}: the weights are not those of {FILE}: {reason}") from None
    lost = [name for name, parameter in model.backbone.named_parameters() if parameter.is_meta]
    if lost or found.unexpected_keys:
        odd = f"{lost[0]} is missing" if lost else f"{found.unexpected_keys[0]} belongs nowhere"
        raise InputError(f"{folder.name}: the weights are not those of {FILE}: {odd}")
    model.requires_grad_(True)
    refuse_nan(model.backbone, folder)
