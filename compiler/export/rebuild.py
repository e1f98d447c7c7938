"""A model to compile: a dense checkpoint, or a network that was compiled before, rebuilt from what its folder says."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from compiler.export.origin import FILE, Origin, is_compiled, read_origin
from compiler.export.settings import dense_config
from compiler.families import (
    Architecture,
    Checkpoint,
    TaskModel,
    family_of,
    load_checkpoint,
)
from compiler.families.architecture import architecture_of
from compiler.families.checkpoint import check_labels, config_text, digest_of
from compiler.families.loading.config import read_configuration
from compiler.families.loading.files import SINGLE, stored_weights
from compiler.families.loading.headers import check_memory
from compiler.families.loading.library import label_of, quiet_transformers, refusing
from compiler.families.loading.tokenizer import load_tokenizer
from compiler.families.loading.trial import try_run
from compiler.families.loading.weights import class_of, drop_unused_pooler, refuse_nan, skeleton_of
from compiler.families.recipe_files import read_recipe
from compiler.families.tied import assign
from compiler.families.tokenising import fitted, longest_text
from compiler.slicing import build_skeleton
from compiler.spaces import Subnet
from compiler.tasks import task_named
from targets.errors import InputError


def load_model(
    folder: Path,
    *,
    task: str,
    label_names: Sequence[str] | None = None,
    pooling: str | None = None,
    prompt: str | None = None,
    labels: NDArray[Any] | None = None,
    seed: int = 0,
    trust_remote_code: bool = False,
) -> Checkpoint:
    """A model to compile for a task: a dense checkpoint, or a network that was compiled before.

    InputError as in `load_checkpoint` and `load_sliced`, and where a network was compiled for another task.
    """
    if not is_compiled(folder):
        return load_checkpoint(
            str(folder), task=task, label_names=label_names, pooling=pooling, prompt=prompt, labels=labels,
            seed=seed, trust_remote_code=trust_remote_code,
        )  # fmt: skip
    checkpoint = load_sliced(folder, pooling=pooling, prompt=prompt)
    if checkpoint.task is not task_named(task):
        raise InputError(
            f"{folder.name} was compiled for {checkpoint.task.words}, asked is {task_named(task).words}\n"
            f"give data for {checkpoint.task.words}, or compile the dense model it came from"
        )
    width = read_origin(folder).subnet.width
    if width is not None:
        raise InputError(
            f"{folder.name} keeps {width} of {checkpoint.architecture.hidden_size} residual dimensions: such a network is "
            "not compiled again\ncompile the model it came from"
        )
    if not any(any(sizes) for sizes in checkpoint.architecture.shape):
        raise InputError(f"{folder.name} has no head and no FFN unit left to cut")
    if checkpoint.task.head and not checkpoint.task.pretrained_head:
        check_labels(checkpoint.config, checkpoint.task, label_names, folder)
    return checkpoint


def load_sliced(folder: Path, *, pooling: str | None = None, prompt: str | None = None) -> Checkpoint:
    """A saved sub-network, rebuilt by this code; nothing in the folder is executed.

    InputError where a file is missing or damaged, or weights and configuration are not of the network in `subnet.json`.
    """
    origin = read_origin(folder)
    task = task_named(origin.task)
    configuration = read_configuration(folder, task=task)
    config = dense_config(configuration.values, origin.dense, f"{label_of(folder)}: {FILE}")
    tokenizer, notes = load_tokenizer(folder, config)
    recipe = read_recipe(folder).overridden(pooling=pooling, prompt=prompt) if not task.head else None
    backbone = _backbone(config, origin, folder)
    architecture = architecture_of(backbone)
    recipe, tokenizer = fitted(recipe, tokenizer, architecture.max_tokens)
    whole = TaskModel(backbone, recipe, task.output_names).eval()
    _check_indices(origin.subnet, architecture, folder)
    subnet = origin.subnet if architecture.apart is None else origin.subnet.with_all_queries(architecture.apart)
    model = build_skeleton(whole, architecture, subnet.shape, subnet.width)
    _fill(model, folder)
    max_tokens = longest_text(recipe, tokenizer, architecture.max_tokens)
    trial_notes = try_run(folder, model.eval(), tokenizer, architecture, max_tokens=max_tokens, must_differ=False)
    return Checkpoint(
        name=f"{label_of(folder)} of {origin.base}",
        folder=folder,
        architecture=replace(architecture, cut=subnet.shape),
        model=model,
        whole=whole,
        tokenizer=tokenizer,
        task=task,
        max_tokens=max_tokens,
        head_trained=True,
        digest=digest_of(dict(model.backbone.named_parameters()), config_text(config)),
        notes=(*notes, *trial_notes),
    )


def _backbone(config: Any, origin: Origin, folder: Path) -> nn.Module:
    """The model that the network was cut from, with random weights. InputError where it is another, or too large for this machine."""
    import transformers

    task = task_named(origin.task)
    if len(origin.subnet.heads) != config.num_hidden_layers:
        raise InputError(f"{label_of(folder)}: {FILE} is of another model than config.json")
    planned = skeleton_of(class_of(config, task), config, folder)
    check_memory(sum(parameter.numel() for parameter in planned.parameters()), label_of(folder))
    auto: Any = getattr(transformers, task.auto_class)
    family = family_of(config.model_type)
    with quiet_transformers(), torch.random.fork_rng(devices=[]), refusing(folder, "the model cannot be built"):
        torch.manual_seed(0)
        built = auto.from_config(config, attn_implementation=family.implementation).float()
        backbone: nn.Module = family.adapted(built)
    if not task.head:
        drop_unused_pooler(backbone)
    return backbone


def _check_indices(subnet: Subnet, architecture: Architecture, folder: Path) -> None:
    """InputError where the configuration is of a model that has not these heads, FFN units or dimensions."""
    kept = (subnet.heads, subnet.units, (subnet.residual or (),))
    sizes = (architecture.heads, architecture.ffn_units, architecture.hidden_size)
    other = subnet.queries is not None and subnet.queries.whole != architecture.apart
    if other or any(
        not 0 <= i < size for layers, size in zip(kept, sizes, strict=True) for layer in layers for i in layer
    ):
        raise InputError(f"{label_of(folder)}: {FILE} is of another model than config.json")


def _fill(model: TaskModel, folder: Path) -> None:
    """Give a skeleton its weights, to train further as well."""
    if not (folder / SINGLE).is_file():
        raise InputError(f"{label_of(folder)}: the weights are not those of {FILE}: no {SINGLE}")
    with refusing(folder, "the weights cannot be loaded"):
        stored_weights(folder)
    with refusing(folder, f"the weights are not those of {FILE}"):
        found = assign(model.backbone, load_file(folder / SINGLE))
    lost = [name for name, parameter in model.backbone.named_parameters() if parameter.is_meta]
    if lost or found.unexpected_keys:
        odd = f"{lost[0]} is missing" if lost else f"{found.unexpected_keys[0]} belongs nowhere"
        raise InputError(f"{label_of(folder)}: the weights are not those of {FILE}: {odd}")
    if odd := next(
        (name for name, parameter in model.backbone.named_parameters() if parameter.dtype != torch.float32), ""
    ):
        raise InputError(f"{label_of(folder)}: the weights are not those of {FILE}: {odd} is not float32")
    model.requires_grad_(True)
    refuse_nan(model.backbone, folder)
