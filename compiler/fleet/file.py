"""A fleet file: models by targets by budgets, as entries that each are one run.

    include = ["common.toml"]           # other files, relative to this one
    [defaults]                          # flags of `compile`, in snake or kebab case
    targets = ["cpu", "a10g:fp16"]
    budgets = [{ min_speedup = "2x" }, { name = "small", max_memory = "300MB" }]
    [[entry]]
    name = "reviews"                    # entries reviews-cpu-min-speedup-2x, reviews-cpu-small, …
    model = "models/reviews"            # or several: ["models/a", "models/b"]
    data = "data/reviews.csv"
    effort = "fast"                     # whatever differs from the defaults

Defaults of a file hold for its entries and for those of the files it includes, whose own win. Where a file has no default of a
key, it has that of the files it includes, the last of them first.
"""

import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compiler.fleet.settings import BUDGETS, OPTIONS, SHARED_KEYS, Setting, beside, converted, normalised, shown, texts
from compiler.pipeline.options import Budgets, Options
from targets import Target
from targets.errors import InputError, ParetocError, printable, reason
from targets.json_file import read_bytes

MOST_BYTES = 8 * 2**20
MOST_ENTRIES = 100_000
MOST_DEPTH = 32
"""Of files that include each other."""

_NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,150}", re.ASCII)
_TOP_KEYS = {"include", "defaults", "entry"}
_ENTRY_KEYS = {*SHARED_KEYS, "name"}
_BUDGET_KEYS = {*BUDGETS, "name"}

Settings = Mapping[str, Setting]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One run of a fleet. The options' `out` is the folder of that name below the campaign's."""

    name: str
    options: Options
    file: Path


@dataclass(frozen=True, slots=True)
class _Found:
    """What a file and those that it includes say."""

    defaults: Settings
    entries: tuple[Entry, ...]


def read_fleet(file: Path, out: Path, **campaign: Any) -> list[Entry]:
    """The entries of a fleet file, in its order, those of included files first. InputError for whatever is wrong in it.

    `campaign` are options of all of them: ray, cache, cache_bytes and overwrite.
    """
    entries = _read(file.absolute(), {}, ()).entries
    if not entries:
        raise InputError(f"{printable(str(file), 200)} has no entry\nwrite one: [[entry]] with name, model and data")
    seen: dict[str, Entry] = {}
    for entry in entries:
        other = seen.setdefault(entry.name.casefold(), entry)
        if other is not entry:
            where = f"{other.file.name} and {entry.file.name}" if other.file != entry.file else entry.file.name
            raise InputError(
                f"{where}: two entries have the name {entry.name!r}\ngive one of them, or one of its budgets, another name"
            )
    return [replace(entry, options=replace(entry.options, out=out / entry.name, **campaign)) for entry in entries]


def _read(file: Path, inherited: Settings, trail: tuple[Path, ...]) -> _Found:
    """`trail` are the files that led here."""
    identity = file.resolve()
    if identity in trail:
        names = " → ".join(path.name for path in (*trail[trail.index(identity) :], identity))
        raise InputError(f"{file.name}: files include each other: {names}\ntake one include out")
    if len(trail) >= MOST_DEPTH:
        raise InputError(f"{file.name} is included over {MOST_DEPTH} files deep")
    content = _toml(file)
    own = normalised(_table(content.get("defaults", {}), file, "[defaults]"), SHARED_KEYS, file, "[defaults]")
    converted(own, {**OPTIONS, **BUDGETS}, "[defaults]")  # a default that no entry takes is read, too
    included: dict[str, Setting] = {}
    entries: list[Entry] = []
    for name in _includes(content, file):
        found = _read(Path(beside(name, file)), {**inherited, **own}, (*trail, identity))
        included |= found.defaults
        entries += found.entries
    defaults = {**included, **own}
    for table in _entries(content, file):
        entries += _expanded(table, {**inherited, **defaults}, file)
        if len(entries) > MOST_ENTRIES:
            raise InputError(f"{file.name} makes more than {MOST_ENTRIES:,} entries\nsplit it into several files")
    return _Found(defaults, tuple(entries))


def _toml(file: Path) -> dict[str, Any]:
    content = read_bytes(file, name=str(file), most_bytes=MOST_BYTES)
    try:
        found = tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{file.name} is not UTF-8 (byte {error.start})\nsave it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file.name} is not TOML: {reason(error)}") from None
    normalised(found, _TOP_KEYS, file, "top level")
    return found


def _table(value: Any, file: Path, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{file.name}: {where} must be a table, got {shown(value)}")
    return value


def _includes(content: Mapping[str, Any], file: Path) -> list[str]:
    names = content.get("include", [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise InputError(f'{file.name}: include must be a list of files, got {shown(names)}\nlike include = ["a.toml"]')
    return [name if "/" in name else f"./{name}" for name in names]


def _entries(content: Mapping[str, Any], file: Path) -> list[dict[str, Any]]:
    tables = content.get("entry", [])
    if not isinstance(tables, list):
        raise InputError(f"{file.name}: entry must be written [[entry]], with two brackets")
    return [_table(table, file, f"entry {i + 1}") for i, table in enumerate(tables)]


def _expanded(table: Mapping[str, Any], defaults: Settings, file: Path) -> Iterator[Entry]:
    """The entries of one [[entry]]: the product of its models, targets and budgets."""
    name = table.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            f"{file.name}: an entry has the name {shown(name)}\ngive it one of letters, digits, '.', '_', '+' and '-'"
        )
    where = f"entry {name!r}"
    settings = {**defaults, **normalised(table, _ENTRY_KEYS, file, where)}
    values = converted(settings, OPTIONS, where)
    limits = converted(settings, BUDGETS, where)
    models = _listed(settings, "model", file, where)
    if not models:
        raise InputError(f"{file.name}: {where} has no model\ngive a folder or hub name: model = …")
    targets = _listed(settings, "targets", file, where) or ("cpu",)
    tables = _tables(settings, targets, where)
    for model, target, (label, budget) in itertools.product(models, targets, _budgets(settings, where)):
        parts = [name, *([Path(model).name] if len(models) > 1 else []), target, *([label] if label else [])]
        full = "-".join(re.sub(r"[^\w.+-]+", "-", part, flags=re.ASCII).strip("-") for part in parts)
        try:
            Target.parse(target)
            options = Options(
                model=model, target=target, table=tables.get(target), budgets=Budgets(**{**limits, **budget}), **values
            )
        except ParetocError as error:
            raise InputError(f"{file.name}: {where}: {error}") from None
        yield Entry(name=full, options=options, file=file)


def _listed(settings: Settings, key: str, file: Path, where: str) -> tuple[str, ...]:
    """A text or a list of different texts."""
    setting = settings.get(key, Setting([], file))
    value = [setting.value] if isinstance(setting.value, str) else setting.value
    try:
        found = texts(value, key)
    except InputError as error:
        raise InputError(f"{setting.file.name}: {where}: {error}") from None
    if len(set(found)) != len(found) or "" in found:
        raise InputError(f"{setting.file.name}: {where}: {key} must name each once, got {shown(value)}")
    return found


def _tables(settings: Settings, targets: tuple[str, ...], where: str) -> dict[str, Path]:
    """The cost table of each target that has one."""
    setting = settings.get("table")
    if setting is None:
        return {}
    value = setting.value
    if isinstance(value, str) and len(targets) == 1:
        return {targets[0]: Path(value)}
    if not isinstance(value, dict) or not all(isinstance(path, str) for path in value.values()):
        raise InputError(
            f"{setting.file.name}: {where}: table must say of which target it is\nlike table = {{ a10g = 'a10g.json' }}"
        )
    return {
        target: Path(value[key]) for target in targets for key in (target.partition(":")[0], target) if key in value
    }


def _budgets(settings: Settings, where: str) -> list[tuple[str, dict[str, float]]]:
    """Label and limits of each budget; one without a label where none is given."""
    setting = settings.get("budgets")
    if setting is None or setting.value == []:
        return [("", {})]
    name, found = setting.file.name, []
    if not isinstance(setting.value, list):
        raise InputError(f"{name}: {where}: budgets must be a list\nlike budgets = [{{ min_speedup = '2x' }}]")
    for value in setting.value:
        given = normalised(
            _table(value, setting.file, f"{where}: budgets"), _BUDGET_KEYS, setting.file, f"{where}: budgets"
        )
        limits = converted(given, BUDGETS, f"{where}: budgets")
        label = given["name"].value if "name" in given else _label(given)
        if not isinstance(label, str) or not _NAME.fullmatch(label):
            raise InputError(
                f"{name}: {where}: a budget has the name {shown(label)}\ngive it one of letters and digits"
            )
        found.append((label, limits))
    return found


def _label(given: Settings) -> str:
    """Limits as part of a name: min-speedup-2x."""
    parts = [f"{key.replace('_', '-')}-{str(setting.value).replace('%', 'pct')}" for key, setting in given.items()]
    return re.sub(r"[^\w.+-]+", "", "-".join(parts), flags=re.ASCII) or "none"
