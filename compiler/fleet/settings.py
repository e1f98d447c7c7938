"""Keys of a fleet file: the flags of the command line, in snake or kebab case, as values of `Options` and `Budgets`."""

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from compiler.pipeline.options import Options
from targets import quantities
from targets.errors import InputError, printable

CAMPAIGN = ("out", "overwrite", "ray", "cache", "cache_size", "demo")
"""Flags that are not an entry's: they belong to the command that runs the file, or make no sense in one."""

PATHS = ("model", "data", "table", "traffic")
"""Keys whose values may name files: a relative one is relative to the fleet file that it stands in."""

ALIASES = {"target": "targets", "models": "model"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One value, and the file that says it."""

    value: Any
    file: Path


def normalised(table: Mapping[str, Any], known: Collection[str], file: Path, where: str) -> dict[str, Setting]:
    """The settings of a table by their known names. InputError for a key that is unknown or given twice."""
    found: dict[str, Setting] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        name = ALIASES.get(name, name)
        if name not in known:
            raise InputError(f"{file.name}: {where}: {_unknown(key, name, known)}")
        if name in found:
            raise InputError(f"{file.name}: {where}: {shown(key)} is given twice\nleave one out")
        found[name] = Setting(_rebased(name, value, file), file)
    return found


def _unknown(key: str, name: str, known: Collection[str]) -> str:
    if name in CAMPAIGN:
        return f"{shown(key)} is of the whole campaign\nleave it out, and look at: compile fleet --help"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else "keys are the flags of: compile --help"
    return f"no key is called {shown(key)}\n{hint}"


def shown(value: Any) -> str:
    """A value of a file as part of a message."""
    return printable(repr(value), 80)


def _rebased(name: str, value: Any, file: Path) -> Any:
    """A path, or each of several, made absolute where it is relative and lies beside the file, or can be nothing but a path."""
    if name not in PATHS:
        return value
    if isinstance(value, list):
        return [_rebased(name, each, file) for each in value]
    if isinstance(value, dict):
        return {key: _rebased(name, each, file) for key, each in value.items()}
    if not isinstance(value, str) or (name, value) == ("traffic", "data"):  # that word is no file
        return value
    return beside(value, file)


def beside(value: str, file: Path) -> str:
    """A name of a file or folder, absolute where it lies beside `file` or can be no name of a hub."""
    try:
        path = file.parent / Path(value).expanduser()
        if path.exists() or value.startswith((".", "/", "~")) or value.count("/") > 1:
            return str(path.resolve())
    except (OSError, RuntimeError, ValueError):  # a name that no file can have is refused with the options
        pass
    return value


Converter = Callable[[Any, str], Any]


def _text(value: Any, flag: str) -> str:
    return str(_of_type(value, flag, str, "a text"))


def _whole(value: Any, flag: str) -> int:
    return int(_of_type(value, flag, int, "a whole number"))


def _number(value: Any, flag: str) -> float:
    return float(_of_type(value, flag, (int, float), "a number"))


def _switch(value: Any, flag: str) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{flag} must be true or false, got {shown(value)}")
    return value


def _of_type(value: Any, flag: str, kind: type | tuple[type, ...], words: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{flag} must be {words}, got {shown(value)}")
    return value


def texts(value: Any, flag: str) -> tuple[str, ...]:
    """A list of texts, or one text with commas."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(_text(each, flag) for each in _of_type(value, flag, list, "a text or a list of texts"))


def _whole_numbers(value: Any, flag: str) -> tuple[int, ...]:
    parts = value if isinstance(value, list) else [value]
    return quantities.whole_numbers(",".join(map(str, parts)), flag)


def _path(value: Any, flag: str) -> Path:
    return Path(_text(value, flag))


_BY_TYPE: Mapping[Any, Converter] = {
    str: _text,
    str | None: _text,
    int: _whole,
    int | None: _whole,
    float: _number,
    float | None: _number,
    bool: _switch,
    bool | None: _switch,
    tuple[str, ...]: texts,
    tuple[str, ...] | None: texts,
    tuple[int, ...]: _whole_numbers,
    Path | None: _path,
}


def _quantity(read: Callable[[str, str], float]) -> Converter:
    return lambda value, flag: read(str(_of_type(value, flag, (int, float, str), "a text or a number")), flag)


BUDGETS: Mapping[str, tuple[str, Converter]] = {
    "max_latency": ("max_latency_s", _quantity(quantities.seconds)),
    "min_speedup": ("min_speedup", _quantity(quantities.ratio)),
    "max_memory": ("max_memory_bytes", _quantity(quantities.size_bytes)),
    "max_drop": ("max_drop", _quantity(quantities.share)),
    "max_flips": ("max_flips", _quantity(quantities.share)),
    "max_class_drop": ("max_class_drop", _quantity(quantities.share)),
}
"""Field of `Budgets` and reader of each key of a budget."""

_ELSEWHERE = {*CAMPAIGN, "model", "target", "precisions", "budgets", "cache_bytes", "table"}

OPTIONS: Mapping[str, tuple[str, Converter]] = {
    "precision": ("precisions", texts),
    **{each.name: (each.name, _BY_TYPE[each.type]) for each in fields(Options) if each.name not in _ELSEWHERE},
}
"""Field of `Options` and reader of each key that is one value of an entry."""

SHARED_KEYS = {*OPTIONS, *BUDGETS, "model", "targets", "budgets", "table"}
"""What may stand in [defaults]."""


def converted(
    settings: Mapping[str, Setting], known: Mapping[str, tuple[str, Converter]], where: str
) -> dict[str, Any]:
    """Fields and their values, of the settings that are known. InputError, with file and key, for one of the wrong kind."""
    found = {}
    for name, setting in settings.items():
        if name in known:
            field, read = known[name]
            try:
                found[field] = read(setting.value, f"--{name.replace('_', '-')}")
            except InputError as error:
                raise InputError(f"{setting.file.name}: {where}: {error}") from None
    return found
