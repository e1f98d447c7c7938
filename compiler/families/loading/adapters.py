"""Folders that hold an adapter of PEFT and no model: merged into the base model where that is here, else named."""

import atexit
import importlib.util
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from compiler.families.loading.config import Configuration, read_configuration
from compiler.families.loading.files import INDEX, SINGLE, stored_weights
from compiler.families.loading.headers import StoredTensor, read_header
from compiler.families.loading.library import label_of, quiet_transformers, refusing
from compiler.families.loading.names import plain
from compiler.families.loading.weights import load_backbone
from compiler.tasks import Task, task_named
from targets.errors import InputError
from targets.json_file import conforming, read_json

CONFIG, WEIGHTS, MERGED = "adapter_config.json", "adapter_model.safetensors", "merged_adapter.json"
_ROOT = "base_model.model."
_BESIDE = ("*.json", "*.txt", "*.model", "*_Pooling/config.json")
_TASKS = {"SEQ_CLS": "classification", "FEATURE_EXTRACTION": "embedding", None: "embedding"}
"""Tasks of adapters that are supported, as they are loaded to be merged."""

_HEADS = ("classifier.weight", "classifier.out_proj.weight", "score.weight")
"""Ends of the names of what gives the outputs of a head."""


class _Settings(TypedDict):
    base_model_name_or_path: str
    peft_type: str


def with_adapter_merged(folder: Path) -> Path:
    """The folder itself, or one below the system's temporary folder with the merged model where it holds an adapter.

    InputError where it also holds a whole model, its base is not here, peft is not installed, or a part is missing.
    """
    if not (folder / CONFIG).exists():
        return folder
    name = label_of(folder)
    if (folder / SINGLE).exists() or (folder / INDEX).exists():
        raise InputError(
            f"{name}: both a whole model ({SINGLE}) and an adapter ({CONFIG}): which is meant?\n"
            "take the adapter's files out if it is merged, or the model's if it is not"
        )
    settings = read_json(folder / CONFIG, name=f"{name}/{CONFIG}")
    form: _Settings = conforming(settings, _Settings, name=f"{name}/{CONFIG}")
    _check_settings(settings, name)
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"{name}: an adapter of PEFT without {WEIGHTS}; pickled weights are not read")
    base = _base_of(folder, form["base_model_name_or_path"], name)
    if importlib.util.find_spec("peft") is None:
        raise InputError(
            f"{name}: an adapter of PEFT for {form['base_model_name_or_path']}; peft, which merges it, is not installed\n"
            "pip install peft"
        )
    return _merged(folder, base, task_named(_TASKS[settings.get("task_type")]))


def merge_notes(folder: Path) -> tuple[str, ...]:
    """A note on what a merged folder was made of."""
    if not (folder / MERGED).is_file():
        return ()
    made_of = read_json(folder / MERGED)
    return (f"the adapter {made_of['adapter']} was merged into {made_of['base']} with peft",)


def _check_settings(settings: dict[str, Any], name: str) -> None:
    """InputError where an adapter is of a task that is not supported, or names code of its own."""
    task = settings.get("task_type")
    if task not in _TASKS:
        raise InputError(
            f"{name}/{CONFIG}: task_type {task!r} is not supported; supported: SEQ_CLS, FEATURE_EXTRACTION"
        )
    if settings.get("auto_mapping"):
        raise InputError(f"{name}/{CONFIG}: auto_mapping names code to run, which is not done")


def _base_of(folder: Path, base: str, name: str) -> Path:
    """The folder of the base model. InputError where it is not on this machine, with the line that merges."""
    for place in (Path(base).expanduser(), folder / base):
        if (place / "config.json").is_file():
            return place
    raise InputError(
        f"{name}: an adapter of PEFT for {base}, which is no folder here\nmerge it first: AutoPeftModelForX"
        ".from_pretrained('ADAPTER').merge_and_unload().save_pretrained('FOLDER')"
    )


def _merged(folder: Path, base: Path, task: Task) -> Path:
    """Write the merged model, with the tokenizer of the adapter or else of the base, where it is deleted at exit."""
    name = label_of(folder)
    stored = read_header(folder / WEIGHTS, f"{name}/{WEIGHTS}")
    configuration = read_configuration(base, task=task)
    configuration.values.num_labels = _outputs_of(stored, configuration)
    loaded = load_backbone(base, configuration, task)
    if task.head:
        _check_parts(loaded.backbone, base, stored, name, head_trained=loaded.head_trained)
    with quiet_transformers(), refusing(folder, "the adapter cannot be merged"):
        import peft

        adapted = peft.PeftModel.from_pretrained(loaded.backbone, str(folder), torch_device="cpu")
        model = adapted.merge_and_unload()
        room = Path(tempfile.mkdtemp(prefix="paretoc-merged-"))
        atexit.register(shutil.rmtree, room, ignore_errors=True)
        to = room / name
        model.save_pretrained(to)
    for source in (base, folder):
        _copy_beside(source, to)
    (to / MERGED).write_text(json.dumps({"adapter": name, "base": label_of(base)}), encoding="utf-8")
    return to


def _outputs_of(stored: dict[str, StoredTensor], configuration: Configuration) -> int:
    """Outputs of the head that an adapter holds, else of the base."""
    heads = [t for key, t in stored.items() if key.endswith(_HEADS)]
    return heads[0].shape[0] if heads and heads[0].shape else int(configuration.values.num_labels)


def _check_parts(backbone: Any, base: Path, stored: dict[str, StoredTensor], name: str, *, head_trained: bool) -> None:
    """InputError where a part that a head needs is neither in the adapter nor in the base: it was random while training."""
    known = {key.removeprefix(_ROOT) for key in stored} | {plain(key)[0] for key in stored_weights(base).tensors}
    prefix = f"{backbone.base_model_prefix}."
    for key, _ in backbone.named_parameters():
        head = not key.startswith(prefix) and not head_trained
        if (head or "pooler." in key) and not known & {key, key.removeprefix(prefix)}:
            raise InputError(f"{name}: {key} is neither in the adapter nor in its base {label_of(base)}")


def _copy_beside(source: Path, to: Path) -> None:
    """Copy the tokenizer and what sentence-transformers keeps beside a model."""
    for pattern in _BESIDE:
        for path in source.glob(pattern):
            target = to / path.relative_to(source)
            if path.is_file() and path.name not in {CONFIG, INDEX} and path != source / "config.json":
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
