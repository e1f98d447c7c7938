"""Load a checkpoint from a folder or the hub, and refuse what cannot be compiled in one or two lines."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compiler.families.architecture import Architecture, architecture_of
from compiler.families.cross_encoder import limited
from compiler.families.recipe_files import read_recipe, transformer_folder
from compiler.families.scores import ScoreScale
from compiler.families.table import family_of
from compiler.families.task_model import TaskModel
from compiler.families.tokenising import fitted, longest_text
from targets.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A loaded model, ready to be profiled, searched and cut.

    `model` is on the CPU, float32, in evaluation mode. `whole` is one of all sizes of the architecture, whose weights do
    not matter: `model` itself, unless that was cut before. `digest` hashes configuration and every weight.
    `head_trained` is False where the task head was initialised at random because the checkpoint has none.
    """

    name: str
    folder: Path
    architecture: Architecture
    model: TaskModel
    whole: TaskModel
    tokenizer: Any
    task: str
    max_tokens: int
    head_trained: bool
    digest: str

    @property
    def input_names(self) -> tuple[str, ...]:
        """The tensors the graph takes, in the order transformers and Optimum use."""
        return input_names(self.tokenizer)

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
    """The folder of a checkpoint: `source` itself, or a snapshot of that name from the hub (cached by it)."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise InputError(
            f"no model folder at {source!r}\ngive a folder with config.json and model.safetensors, or a hub name"
        )
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.txt", "*.model", "*.safetensors", "1_Pooling/*"]
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=patterns))
    except Exception as error:  # noqa: BLE001  whatever a library raises on a bad folder becomes one line
        kind = type(error).__name__
        raise InputError(
            f"no folder {source!r} here, and the hub did not give it ({kind})\ncheck the name and the network"
        ) from None


def _check_files(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder.name}: no config.json in the model folder, so it is no transformers checkpoint")
    if list(folder.glob("*.safetensors")):
        return
    pickled = [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
    if pickled:
        raise InputError(
            f"{folder.name}: only pickled weights ({pickled[0].name}), which can run code when loaded\nconvert them: "
            'python -c "from transformers import AutoModel as M; '
            "M.from_pretrained('FOLDER').save_pretrained('FOLDER')\""
        )
    raise InputError(f"{folder.name}: no model.safetensors in the model folder")


def read_config(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The transformers configuration. InputError where it cannot be read or is of a family that is not supported."""
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # noqa: BLE001  whatever a library raises on a bad folder becomes one line
        model_type = _declared_type(folder)
        if model_type is not None:
            family_of(model_type)
        raise InputError(f"{folder.name}: config.json cannot be read: {_one_line(error)}") from None
    family_of(config.model_type)
    return config


def _declared_type(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"])
    except (ValueError, KeyError, TypeError):
        return None


def _one_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]


def read_tokenizer(folder: Path, config: Any) -> Any:
    """The tokenizer. InputError where there is none, or it has more tokens than the model embeds."""
    import transformers

    names = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model")
    if not any((folder / name).is_file() for name in names):
        raise InputError(f"{folder.name}: no tokenizer in the model folder (looked for {', '.join(names)})")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # noqa: BLE001  whatever a library raises on a bad folder becomes one line
        raise InputError(f"{folder.name}: the tokenizer cannot be loaded: {_one_line(error)}") from None
    if len(tokenizer) > config.vocab_size:
        raise InputError(
            f"{folder.name}: the tokenizer has {len(tokenizer):,} tokens, the model embeds {config.vocab_size:,}\n"
            "resize the model's embeddings or use the tokenizer it was trained with"
        )
    return tokenizer


def _backbone(folder: Path, config: Any, *, classifier: bool) -> tuple[nn.Module, bool]:
    """The loaded transformers model and whether every weight of its head came from the checkpoint."""
    import transformers

    auto = transformers.AutoModelForSequenceClassification if classifier else transformers.AutoModel
    options: dict[str, Any] = {"config": config, "dtype": torch.float32, "attn_implementation": "sdpa"}
    options |= {"use_safetensors": True, "output_loading_info": True}
    try:
        model, info = auto.from_pretrained(folder, **options)
    except Exception as error:  # noqa: BLE001  whatever a library raises on a bad folder becomes one line
        raise InputError(f"{folder.name}: the weights cannot be loaded: {_one_line(error)}") from None
    missing = [key for key in info["missing_keys"] if "pooler" not in key]
    base = f"{model.base_model_prefix}."
    lost = [key for key in missing if not classifier or key.startswith(base)]
    if lost:
        raise InputError(f"{folder.name}: {len(lost)} weights are missing from the checkpoint, {lost[0]} among them")
    return model.eval(), not missing


def refuse_nan(model: nn.Module, folder: Path) -> None:
    """InputError naming the first weight that is not finite."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise InputError(f"{folder.name}: weight {name} holds NaN or infinite values")


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
        digest.update(parameter.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def drop_unused_pooler(model: nn.Module) -> None:
    """An embedding model pools over tokens; BERT's own tanh pooler is dead weight in its graph."""
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # type: ignore[assignment]


def check_labels(config: Any, task: str, label_names: Sequence[str] | None, folder: Path) -> None:
    """InputError where a trained head has not as many outputs as the data need, or does not name each of them."""
    if set(config.id2label) != set(range(config.num_labels)):
        raise InputError(
            f"{folder.name}: config.json numbers its labels {', '.join(map(str, config.id2label))}\n"
            f"its head has the outputs 0 to {config.num_labels - 1}: give each a name in id2label and label2id"
        )
    wanted = 1 if task == "regression" else len(label_names or config.id2label)
    if config.num_labels != wanted:
        raise InputError(
            f"{folder.name} has a trained head with {config.num_labels} outputs, the data need {wanted}\n"
            "use data with the model's own labels, or the checkpoint before fine-tuning"
        )


def _set_labels(config: Any, task: str, label_names: Sequence[str] | None, folder: Path) -> None:
    has_head = any("ForSequenceClassification" in a for a in (config.architectures or ()))
    if has_head:
        check_labels(config, task, label_names, folder)
        return
    names = ["score"] if task == "regression" else list(label_names or [])
    config.num_labels = 1 if task == "regression" else len(label_names or config.id2label)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}
    config.problem_type = "regression" if task == "regression" else "single_label_classification"


def load_checkpoint(
    source: str,
    *,
    task: str,
    label_names: Sequence[str] | None = None,
    pooling: str | None = None,
    prompt: str | None = None,
    scale: ScoreScale | None = None,
    seed: int = 0,
    trust_remote_code: bool = False,
) -> Checkpoint:
    """Load a dense model for a task: "embedding", "classification" or "regression".

    A head the checkpoint does not have is initialised from `seed`, that of a regression on the `scale` of the labels.
    Raises InputError for every way a folder can be unusable: no configuration, no tokenizer, no or pickled or corrupt
    weights, an unsupported family, NaN weights.
    """
    root = resolve(source)
    folder = transformer_folder(root)
    _check_files(folder)
    config = read_config(folder, trust_remote_code=trust_remote_code)
    classifier = task != "embedding"
    if classifier:
        _set_labels(config, task, label_names, folder)
    tokenizer = read_tokenizer(folder, config)
    tokenizer = limited(root, tokenizer) if classifier else tokenizer
    recipe = None if classifier else read_recipe(root).overridden(pooling=pooling, prompt=prompt)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone, head_trained = _backbone(folder, config, classifier=classifier)
    if not classifier:
        drop_unused_pooler(backbone)
    refuse_nan(backbone, folder)
    if scale is not None and not head_trained:
        scale.give(backbone)
    architecture = architecture_of(backbone)
    recipe, tokenizer = fitted(recipe, tokenizer, architecture.max_tokens)
    model = TaskModel(backbone, recipe).eval()
    return Checkpoint(
        name=root.resolve().name if Path(source).is_dir() else source,
        folder=root,
        architecture=architecture,
        model=model,
        whole=model,
        tokenizer=tokenizer,
        task=task,
        max_tokens=longest_text(recipe, tokenizer, architecture.max_tokens),
        head_trained=head_trained,
        digest=digest_of(dict(backbone.named_parameters()), config_text(config)),
    )


class quiet_transformers:  # noqa: N801  a context manager reads as a verb
    """Keep transformers' loading report and progress bar off the terminal: paretoc says what matters itself."""

    def __enter__(self) -> None:
        from transformers.utils import logging as hf_logging

        self._verbosity = hf_logging.get_verbosity()
        hf_logging.set_verbosity(logging.CRITICAL)
        hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]

    def __exit__(self, *_: object) -> None:
        from transformers.utils import logging as hf_logging

        hf_logging.set_verbosity(self._verbosity)
