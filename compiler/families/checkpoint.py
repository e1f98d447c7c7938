"""A dense checkpoint from a folder or the hub: its parts are loaded, held against each other, and tried together once."""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compiler.execution import device_of
from compiler.families.architecture import Architecture, architecture_of
from compiler.families.cross_encoder import limited
from compiler.families.loading.adapters import merge_notes, with_adapter_merged
from compiler.families.loading.config import Configuration, read_configuration
from compiler.families.loading.files import check_folder
from compiler.families.loading.library import label_of, reason_of, refusing
from compiler.families.loading.tokenizer import load_tokenizer
from compiler.families.loading.trial import try_run
from compiler.families.loading.weights import drop_unused_pooler, load_backbone, refuse_nan
from compiler.families.recipe_files import read_recipe, transformer_folder
from compiler.families.task_model import TaskModel
from compiler.families.tokenising import fitted, longest_text
from compiler.tasks import Task, task_named
from targets.errors import InputError, printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A loaded model, ready to be profiled, searched and cut.

    `model` is float32, in evaluation mode, and on the CPU unless the checkpoint was moved (`on`). `whole` is one of all sizes of the architecture, whose weights do
    not matter: `model` itself, unless that was cut before. `digest` hashes configuration and every weight.
    `head_trained` is False where the task head was initialised at random because the checkpoint has none. `notes` say what was
    read otherwise than it stands in the folder.
    """

    name: str
    folder: Path
    architecture: Architecture
    model: TaskModel
    whole: TaskModel
    tokenizer: Any
    task: Task
    max_tokens: int
    head_trained: bool
    digest: str
    notes: tuple[str, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where `model` is."""
        return device_of(self.model)

    def on(self, device: torch.device) -> "Checkpoint":
        """The same with a copy of the model on another device; itself where it is there."""
        return self if device == self.device else replace(self, model=copy.deepcopy(self.model).to(device))

    @property
    def input_names(self) -> tuple[str, ...]:
        """The tensors the graph takes, in the order transformers and Optimum use."""
        return input_names(self.tokenizer)

    @property
    def prompt(self) -> str:
        """What stands before every text: the recipe's prompt, mostly nothing."""
        return self.model.recipe.prompt if self.model.recipe is not None else ""

    @property
    def config(self) -> Any:
        """The transformers configuration."""
        return self.model.backbone.config

    @property
    def label_names(self) -> tuple[str, ...]:
        """The model's class names in the order of its logits."""
        return tuple(self.config.id2label[i] for i in range(self.config.num_labels))


def input_names(tokenizer: Any) -> tuple[str, ...]:
    """What a model reads of this tokenizer, in the order transformers and Optimum use."""
    known = ("input_ids", "attention_mask", "token_type_ids")
    given = set(tokenizer.model_input_names)
    return tuple(name for name in known if name in given or name != "token_type_ids")


def resolve(source: str, *, revision: str | None = None) -> Path:
    """The folder of a checkpoint: `source` itself, or a snapshot of that name from the hub (cached by it).

    An adapter is merged into its base first, in a folder of its own.
    """
    try:
        folder = Path(source).expanduser()
        here, other = folder.is_dir(), folder.exists()
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, no such user, a folder that is closed to us
        raise InputError(f"no model folder at {printable(source, 100)!r}: {reason_of(error)}") from None
    if here:
        return with_adapter_merged(folder)
    if other or source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise InputError(
            f"no model folder at {source!r}\ngive a folder with config.json and model.safetensors, or a hub name"
        )
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.txt", "*.model", "*.safetensors", "1_Pooling/*"]
    try:
        found = Path(snapshot_download(source, revision=revision, allow_patterns=patterns))
    except Exception as error:  # noqa: BLE001  whatever a library raises on a bad folder becomes one line
        kind = type(error).__name__
        raise InputError(
            f"no folder {source!r} here, and the hub did not give it ({kind})\ncheck the name and the network"
        ) from None
    return with_adapter_merged(found)


def config_text(config: Any) -> str:
    """The whole configuration as JSON, but for the folder that it was read from."""
    values = config.to_dict()
    values.pop("_name_or_path", None)
    return json.dumps(values, sort_keys=True, default=str)


def digest_of(parameters: Mapping[str, Tensor], about: str = "") -> str:
    """Sha-256 of parameters, names and values, in name order, and of a text before them."""
    digest = hashlib.sha256(about.encode())
    for name, parameter in sorted(parameters.items()):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_labels(config: Any, task: Task, label_names: Sequence[str] | None, folder: Path) -> None:
    """InputError where a trained head has not as many outputs as the data need, or does not name each of them."""
    if set(config.id2label) != set(range(config.num_labels)):
        raise InputError(
            f"{folder.name}: config.json numbers its labels {', '.join(map(str, config.id2label))}\n"
            f"its head has the outputs 0 to {config.num_labels - 1}: give each a name in id2label and label2id"
        )
    wanted = task.outputs_needed(label_names, len(config.id2label))
    if config.num_labels != wanted:
        raise InputError(
            f"{folder.name} has a trained head with {config.num_labels} outputs, the data need {wanted}\n"
            "use data with the model's own labels, or the checkpoint before fine-tuning"
        )


def _set_labels(configuration: Configuration, task: Task, label_names: Sequence[str] | None, folder: Path) -> None:
    """Hold a declared head against the data, or declare a new one. InputError as in `check_labels`."""
    config = configuration.values
    if task.pretrained_head:
        return
    if configuration.head.of(task):
        check_labels(config, task, label_names, folder)
        return
    for name, value in task.label_settings(label_names).items():
        setattr(config, name, value)


def load_checkpoint(
    source: str,
    *,
    task: str,
    label_names: Sequence[str] | None = None,
    pooling: str | None = None,
    prompt: str | None = None,
    labels: NDArray[Any] | None = None,
    seed: int = 0,
    trust_remote_code: bool = False,
) -> Checkpoint:
    """Load a dense model for the task of a name.

    A head the checkpoint does not have is initialised from `seed`, and put on the scale of training `labels` [N] (`Task.scale`).
    Raises InputError for every way a folder can be unusable: files that are missing, pickled, damaged or elsewhere, settings
    that are not supported, weights that are missing or not finite, a tokenizer that does not fit, texts that do not run.
    """
    root = resolve(source)
    folder = transformer_folder(root)
    aim = task_named(task)
    with refusing(folder, "the model folder cannot be read"):
        check_folder(folder)
    configuration = read_configuration(folder, task=aim, trust_remote_code=trust_remote_code)
    if aim.head:
        _set_labels(configuration, aim, label_names, folder)
    tokenizer, tokenizer_notes = load_tokenizer(folder, configuration.values)
    tokenizer = limited(root, tokenizer) if aim.head else tokenizer
    recipe = None if aim.head else read_recipe(root).overridden(pooling=pooling, prompt=prompt)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loaded = load_backbone(folder, configuration, aim)
    backbone = _usable(loaded.backbone, aim, folder)
    architecture = architecture_of(backbone)
    recipe, tokenizer = fitted(recipe, tokenizer, architecture.max_tokens)
    model = TaskModel(backbone, recipe, aim.output_names).eval()
    max_tokens = longest_text(recipe, tokenizer, architecture.max_tokens)
    trial_notes = try_run(folder, model, tokenizer, architecture, max_tokens=max_tokens)
    if not loaded.head_trained and labels is not None and (scale := aim.scale(backbone, labels)) is not None:
        scale.give(backbone)
    return Checkpoint(
        name=label_of(root) if Path(source).is_dir() else source,
        folder=root,
        architecture=architecture,
        model=model,
        whole=model,
        tokenizer=tokenizer,
        task=aim,
        max_tokens=max_tokens,
        head_trained=loaded.head_trained,
        digest=digest_of(dict(backbone.named_parameters()), config_text(configuration.values)),
        notes=(*merge_notes(root), *configuration.notes, *tokenizer_notes, *loaded.notes, *trial_notes),
    )


def _usable(backbone: nn.Module, task: Task, folder: Path) -> nn.Module:
    """A loaded model without what its task does not read. InputError where a weight is not finite."""
    if not task.head:
        drop_unused_pooler(backbone)
    refuse_nan(backbone, folder)
    return backbone
