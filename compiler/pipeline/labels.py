"""Class ids of the data → outputs of a trained head: by the names of both, or by what the user says, never by a guess."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from compiler.data import Split, TextData
from compiler.export import is_compiled, read_origin
from compiler.families.loading.config import Configuration, read_configuration
from compiler.tasks import Task, task_named
from targets.errors import InputError, printable
from targets.json_file import read_json

_NUMBERED = re.compile(r"(?:LABEL_)?(\d{1,6})")
_SHOWN = 6


def head_names(folder: Path, task: Task, *, trust_remote_code: bool = False) -> tuple[str, ...] | None:
    """Names of a task's outputs, in their order, by its configuration.

    None where it declares no head of the task, or not one name for each output, which loading refuses. InputError
    where two outputs have one name.
    """
    if not (folder / "config.json").is_file() or not task.head:
        return None
    configuration = read_configuration(folder, task=task, trust_remote_code=trust_remote_code)
    config = configuration.values
    names = config.id2label or {}
    if not _declares_head(folder, configuration, task) or len(names) < 2 or set(names) != set(range(config.num_labels)):
        return None
    ordered = tuple(str(names[i]) for i in range(config.num_labels))
    twice = next((name for name in ordered if ordered.count(name) > 1), None)
    if twice is not None:
        raise InputError(
            f"{folder.name}: config.json names two outputs {printable(twice, 60)!r}\ngive each its own name in id2label"
        )
    return ordered


def _declares_head(folder: Path, configuration: Configuration, task: Task) -> bool:
    """Whether the configuration is of a head of the task, or names classes and says nothing about its architecture."""
    if is_compiled(folder):
        return read_origin(folder).task == task.name
    if configuration.values.architectures:
        return configuration.head.of(task)
    written = read_json(folder / "config.json")
    return isinstance(written, dict) and "id2label" in written


def aligned(data: TextData, names: tuple[str, ...] | None, mapping: Sequence[str] | None = None) -> TextData:
    """The data with class ids in the order of a head's `names`. A head may have classes that the data lack.

    Args:
        data: of any task; only classes are changed.
        names: the head's, or None where there is none.
        mapping: entries `data=model` of --labels.

    Raises InputError, naming both sets, where the names of a label cannot be told.
    """
    if mapping is not None and (data.label_names is None or names is None):
        lacking = "the data have no classes" if data.label_names is None else "the model has no trained classes"
        raise InputError(f"--labels maps classes of the data to those of the model, and {lacking}\nleave it out")
    if data.label_names is None or names is None or (mapping is None and data.label_names == names):
        return data
    sides = _Sides(data=data.label_names, model=names)
    said = _said(mapping or (), sides)
    left = tuple(name for name in data.label_names if name not in said)
    free = tuple(name for name in names if name not in said.values())
    found, notes = _matched(left, free, sides, numbered=data.numbered and not said)
    aligned_data = _renumbered(data, {**said, **found}, names)
    return replace(aligned_data, notes=(*data.notes, *notes), sha256=_with_mapping(data.sha256, said))


def _with_mapping(sha256: str, said: Mapping[str, str]) -> str:
    """The digest of data whose labels the user has mapped: other labels on the same texts are other data."""
    if not said:
        return sha256
    return hashlib.sha256(f"{sha256} {json.dumps(sorted(said.items()))}".encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sides:
    """The names on both sides, for messages."""

    data: tuple[str, ...]
    model: tuple[str, ...]

    def error(self, what: str) -> InputError:
        """A refusal that names both sets and the flag that maps them."""
        return InputError(
            f"{what}: the data have {_listed(self.data)}, the trained head has {len(self.model)} outputs, "
            f"{_listed(self.model)}\nsay which is which: --labels '{self._line()}', or use the checkpoint before fine-tuning"
        )

    def _line(self) -> str:
        shown = ",".join(f"{name}=…" for name in self.data[:4])
        return shown if len(self.data) <= 4 else f"{shown},…"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(printable(name, 28)) for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def _said(mapping: Sequence[str], sides: _Sides) -> dict[str, str]:
    """Model names by data names, as the user wrote them: each known, and no two onto one output."""
    said: dict[str, str] = {}
    for entry in mapping:
        cuts = [place for place, mark in enumerate(entry) if mark == "="]
        pairs = [(_one_of(entry[:cut], sides.data), _one_of(entry[cut + 1 :], sides.model)) for cut in cuts]
        pair = next((pair for pair in pairs if None not in pair), None)
        if pair is None:
            raise sides.error(f"--labels {printable(entry, 60)!r} is no DATA=MODEL of names on both sides")
        if pair[0] in said or pair[1] in said.values():
            raise sides.error(
                f"--labels {printable(entry, 60)!r} names a class a second time, and each has one partner"
            )
        said[str(pair[0])] = str(pair[1])
    return said


def _one_of(word: str, names: Sequence[str]) -> str | None:
    """The name that a word is, without case and surrounding space where that is unambiguous."""
    if word.strip() in names:
        return word.strip()
    alike = [name for name in names if _folded(name) == _folded(word)]
    return alike[0] if len(alike) == 1 else None


def _folded(name: str) -> str:
    return name.strip().casefold()


def _bare(name: str) -> str:
    return re.sub(r"[\s_-]+", "", _folded(name))


_KEYS: tuple[Callable[[str], str], ...] = (str, _folded, _bare)
"""How names are compared: as they are; without case and surrounding space; without spaces, hyphens and underscores."""


def _matched(
    left: tuple[str, ...], free: tuple[str, ...], sides: _Sides, *, numbered: bool
) -> tuple[dict[str, str], list[str]]:
    """Model names by data names, for those that nobody mapped, and what was done."""
    for key in _KEYS:
        by_key = {key(name): name for name in free}
        ours = {key(name) for name in left}
        if len(by_key) == len(free) and len(ours) == len(left) and ours <= set(by_key):
            return {name: by_key[key(name)] for name in left}, []
    if len(left) == len(sides.data) and (found := _by_number(sides, numbered=numbered)) is not None:
        note = f"the model never named its classes: {found[sides.data[0]]} is taken for {sides.data[0]!r} and so on, by number"
        return found, [note]
    raise sides.error("the labels of the data and of the model do not match")


def _by_number(sides: _Sides, *, numbered: bool) -> dict[str, str] | None:
    """LABEL_0, LABEL_1, … are numbers that a configuration writes where nobody named the classes.

    They are the data's where those are numbers from 0 on, or numbered in the data's own file. Labels that start at 1 may be
    off by one: they are not.
    """
    if sides.model != tuple(f"LABEL_{i}" for i in range(len(sides.model))):
        return None
    if numbered and len(sides.data) == len(sides.model):
        return dict(zip(sides.data, sides.model, strict=True))
    matches = [_NUMBERED.fullmatch(name) for name in sides.data]
    numbers = [int(match[1]) for match in matches if match is not None]
    if (
        len(numbers) < len(matches)
        or len(set(numbers)) < len(numbers)
        or 0 not in numbers
        or max(numbers) >= len(sides.model)
    ):
        return None
    return {name: sides.model[number] for name, number in zip(sides.data, numbers, strict=True)}


def _renumbered(data: TextData, to_model: Mapping[str, str], names: tuple[str, ...]) -> TextData:
    """The data with the model's names and ids."""
    ids = np.array([names.index(to_model[name]) for name in data.label_names or ()], dtype=np.int64)

    def mapped(split: Split) -> Split:
        if split.labels is None:
            return split
        return replace(split, labels=task_named(data.task).renumbered(split.labels, ids, len(names)))

    return replace(
        data,
        label_names=names,
        train=mapped(data.train),
        validation=mapped(data.validation),
        test=mapped(data.test),
    )
