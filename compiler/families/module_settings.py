"""Settings in the JSON files of sentence-transformers' modules: a key is known, or refused by name."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from targets.errors import InputError
from targets.json_file import conforming, read_json


def settings(path: Path, known: Collection[str], *, required: bool = False) -> dict[str, Any]:
    """The object in a JSON file, {} where there may be none. InputError where it holds a key that is not known."""
    if not required and not path.exists():
        return {}
    name = f"{path.parent.name}/{path.name}"
    config: dict[str, Any] = conforming(read_json(path, name=name), dict[str, Any], name=name)
    refuse_unknown(config, known, name)
    return config


def refuse_unknown(config: Mapping[str, Any], known: Collection[str], name: str) -> None:
    """InputError naming the first key that is not known."""
    odd = sorted(set(config) - set(known))
    if odd:
        raise InputError(f"{name} sets {odd[0]} = {config[odd[0]]!r}, which is not supported")


def wanted(config: Mapping[str, Any], key: str, form: Any, default: Any) -> Any:
    """The value of a key, of a declared type. InputError where it has another."""
    return conforming(config.get(key, default), form, name=key)
