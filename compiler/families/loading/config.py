"""The transformers configuration of a model folder, checked before transformers reads it."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from compiler.families.loading.declared import checked_settings
from compiler.families.loading.heads import (
    DeclaredHead,
    activation_note,
    declared_tasks,
    head_of,
    refuse_other_head,
    with_label_names,
)
from compiler.families.loading.library import label_of, quiet_transformers, refusing
from compiler.families.loading.sizes import check_positions, check_sizes
from compiler.families.table import family_of
from compiler.tasks import Task
from targets.errors import InputError
from targets.json_file import read_json

FILE = "config.json"


class Configuration(NamedTuple):
    """A configuration, the head that it declares, and notes on what was set otherwise."""

    values: Any
    head: DeclaredHead
    notes: tuple[str, ...] = ()


def read_settings(folder: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """config.json of a supported family, its settings checked; notes on what was set otherwise."""
    name = f"{label_of(folder)}/{FILE}"
    raw = read_json(folder / FILE, name=name)
    model_type = raw.get("model_type") if isinstance(raw, dict) else None
    if isinstance(raw, dict) and not isinstance(model_type, str):
        raise InputError(f"{name} names no model_type, so it is no configuration of transformers")
    if model_type is not None:
        family_of(model_type)
    return checked_settings(raw, name)


def declared_head(folder: Path, asked: Task | None = None) -> tuple[DeclaredHead, tuple[Task, ...]]:
    """The head that a folder's configuration declares, and the tasks it may have been trained for.

    InputError as in `declared_tasks`, and where it is not of the task that was asked for.
    """
    settings, _ = read_settings(folder)
    if asked is not None:
        refuse_other_head(head_of(settings), asked, settings, f"{label_of(folder)}/{FILE}")
    return head_of(settings), declared_tasks(settings, f"{label_of(folder)}/{FILE}")


def read_configuration(folder: Path, *, task: Task, trust_remote_code: bool = False) -> Configuration:
    """The configuration with what it declares, to be read for a task.

    InputError where it cannot be read, is of no supported family, means what is not supported, or has the head of another
    task.
    """
    name = f"{label_of(folder)}/{FILE}"
    settings, notes = read_settings(folder)
    head = head_of(settings)
    if task.head:
        refuse_other_head(head, task, settings, name)
    if head.of(task) and not task.pretrained_head:
        notes = (*notes, *with_label_names(settings, name), *activation_note(settings))
    config = _built(folder, settings, trust_remote_code=trust_remote_code)
    if settings.get("auto_map") and not trust_remote_code:
        notes = (
            *notes,
            f"code in the model folder is not run: transformers' own class for {config.model_type} is used",
        )
    _check_meaning(config, settings, name)
    return Configuration(config, head, notes)


def _built(folder: Path, settings: dict[str, Any], *, trust_remote_code: bool) -> Any:
    import transformers

    if settings["model_type"] not in transformers.CONFIG_MAPPING:
        raise InputError(
            f"transformers {transformers.__version__} has no models of type {settings['model_type']!r}\n"
            "install a newer one: pip install -U transformers"
        )
    with quiet_transformers(), refusing(folder, f"{FILE} cannot be read"):
        if trust_remote_code and "AutoConfig" in (settings.get("auto_map") or {}):
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True)
            family_of(config.model_type)
            return config
        kind = transformers.CONFIG_MAPPING[settings["model_type"]]
        if odd := [key for key in settings if _is_part_of(kind, key)]:
            raise InputError(f"{label_of(folder)}/{FILE}: {odd[0]} is no setting")
        config = kind.from_dict(settings)
        config.name_or_path = str(folder)
        return config


def _is_part_of(kind: Any, key: str) -> bool:
    """Whether a key names a method or a constant of the configuration's class, which a file must not replace."""
    part = getattr(kind, key, None)
    known = {each.name for each in fields(kind)} | {"model_type"}
    return part is not None and key not in known and not isinstance(part, property)


def _check_meaning(config: Any, settings: Mapping[str, Any], name: str) -> None:
    """InputError where a configuration is of a model that its family does not cover, or its sizes do not fit each other."""
    family = family_of(config.model_type)
    if family.refuses is not None and (why := family.refuses(config)):
        raise InputError(f"{name}: {why}")
    check_sizes(config, settings, name)
    check_positions(config, name)
    _check_activation(config, name)


def _check_activation(config: Any, name: str) -> None:
    """InputError where an activation is unknown or has parameters of its own, which are counted nowhere."""
    from transformers.activations import ACT2FN

    names = ("hidden_act", "hidden_activation", "activation", "classifier_activation")
    declared = {each.name for each in fields(type(config))}
    chosen = [getattr(config, key) for key in names if key in declared]
    odd = next((each for each in chosen if each not in ACT2FN or any(True for _ in ACT2FN[each].parameters())), None)
    if odd is not None or not chosen:
        raise InputError(f"{name}: activation {odd!r} is not supported")
