"""Data sets of the Hugging Face hub, through the `datasets` library."""

from __future__ import annotations

import os
import re
from typing import Any

from compiler.data.table import Table, refuse_many
from targets.errors import InputError

_NAME = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?(:[\w][\w.-]*)?")


def is_hub_name(source: str) -> bool:
    """Whether `source` could be NAME or OWNER/NAME, with an optional :CONFIG."""
    return _NAME.fullmatch(source) is not None


def read_hub(source: str) -> dict[str, Table]:
    """Tables by split name.

    Raises InputError, of two lines, where there is no network, no such data set, or no such configuration.
    """
    name, _, config = source.partition(":")
    _probe(name)
    try:
        import datasets

        loaded = datasets.load_dataset(name, config or None)
    except Exception as error:  # whatever the client raises is about the name or the network
        raise InputError(_message(name, error)) from error
    return {role: _table(split, f"{source} {role}") for role, split in loaded.items()}


def _probe(name: str) -> None:
    """Ask once, before `datasets` asks six times with growing pauses. Offline, the cache answers."""
    if os.environ.get("HF_HUB_OFFLINE", "0") not in {"", "0"}:
        return
    from huggingface_hub import HfApi

    try:
        HfApi().dataset_info(name, timeout=10)
    except Exception as error:  # several HTTP libraries, one meaning
        raise InputError(_message(name, error)) from error


def _message(name: str, error: Exception) -> str:
    kind = type(error).__name__
    if "NotFound" in kind and "LocalEntry" not in kind:
        return f"There is no file, folder or public hub data set {name!r}.\nCheck the name given to --data."
    first = (str(error).strip().splitlines() or [kind])[0]
    if "config" in first.casefold():
        return f"The hub data set {name!r} was not loaded: {first}\nName one as --data {name}:CONFIG."
    return (
        f"There is no file or folder {name!r}, and as a hub data set it cannot be reached: {first}\n"
        "Give the path of a file or folder, or connect (HF_HUB_OFFLINE=1 uses the local cache)."
    )


def _table(split: Any, source: str) -> Table:
    """One `datasets.Dataset` as a table."""
    refuse_many(len(split), source)
    inner = {column: _of_lists(feature) for column, feature in split.features.items()}
    names = {
        column: tuple(feature.names) for column, feature in inner.items() if type(feature).__name__ == "ClassLabel"
    }
    return Table(source=source, columns={name: split[name][:] for name in split.column_names}, class_names=names)


def _of_lists(feature: Any) -> Any:
    """A column's feature, or that of what its lists hold."""
    if isinstance(feature, list):
        return feature[0]
    return getattr(feature, "feature", feature)
