"""What an entry depends on, as short digests: its options and its files. Two equal ones need not be run twice.

Of a file up to `WHOLE_BYTES` the content counts, of a larger one size and time of change: weights of hundreds of models are not
read to make a plan. A large file that was only copied or touched makes its entries run again, which the store answers. Names
of the hub stand for themselves.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from compiler.pipeline.options import Options
from compiler.store import key_of
from targets.json_file import is_there

WHOLE_BYTES = 2**20
MOST_FILES = 100_000
"""Of a folder of data that are looked at."""

_FILES = ("model", "data", "table", "traffic")
_NO_PART = {"out", "cache", "cache_bytes", "ray", "overwrite", *_FILES}
"""Options that change where and by whom something is computed, or stand for files."""

_OF_TARGETS = {
    "target", "precisions", "budgets", "batch", "threads", "runtime", "opset", "percentile", "profile", "accept_modelled",
    "accept_noisy_table", "evaluations", "winners", "search", "objectives",
}  # fmt: skip
"""Options that nothing which is learned of a model depends on."""

_OF_TABLES = ("target", "precisions", "batch", "seq_len", "threads", "runtime", "opset", "objectives", "space", "seed")


@dataclass(frozen=True, slots=True)
class Depends:
    """Digests of what an entry depends on by part (options, model, data, …), and of what it shares with others."""

    parts: dict[str, str]
    learned: str
    table: str
    model_bytes: int
    gone: str | None


@dataclass(slots=True)
class Fingerprints:
    """Digests of files, each looked at once: hundreds of entries may name the same ones."""

    seen: dict[str, str] = field(default_factory=dict)
    bytes_of: dict[str, int] = field(default_factory=dict)

    def of(self, options: Options) -> Depends:
        """What one entry depends on; `gone` says which of its files is not there."""
        given = _given(options)
        named = {name: str(value) for name in _FILES if (value := getattr(options, name)) is not None}
        word = {"traffic": "data"}  # which is no file
        files = {name: value if word.get(name) == value else self.of_path(value) for name, value in named.items()}
        parts = {"options": key_of({k: v for k, v in given.items() if k not in _NO_PART}), **files}
        learned = [
            {k: v for k, v in given.items() if k not in _NO_PART | _OF_TARGETS},
            files["model"],
            files.get("data"),
        ]
        table = [
            {k: given.get(k) for k in _OF_TABLES},
            self._architecture(options.model),
            files.get("traffic"),
            files.get("table"),
        ]
        return Depends(
            parts=parts, learned=key_of(learned), table=key_of(table), model_bytes=self.bytes_of.get(options.model, 0),
            gone=next((f"{name} {value}" for name, value in named.items() if _is_gone(value)), None),
        )  # fmt: skip

    def of_path(self, name: str) -> str:
        """The digest of a file or folder, of a name that is neither here the name itself."""
        if name not in self.seen:
            found = [name] if not is_there(Path(name)) else list(_described(Path(name)))
            self.seen[name] = key_of(found)
            self.bytes_of[name] = sum(each[1] for each in found if isinstance(each, list))
        return self.seen[name]

    def _architecture(self, model: str) -> str:
        """The digest of a model's configuration, else of the model."""
        config = Path(model) / "config.json"
        return self.of_path(str(config) if is_there(config) else model)


def _given(options: Options) -> dict[str, Any]:
    """Options that are not the defaults, as JSON values: a release with one option more changes no digest."""
    values = {each.name: getattr(options, each.name) for each in fields(options)}
    values["budgets"] = asdict(options.budgets) if options.budgets.limits() else None
    defaults = {each.name: each.default for each in fields(options)} | {"budgets": None}
    return {k: str(v) if isinstance(v, Path) else v for k, v in values.items() if v != defaults[k]}


def _described(path: Path) -> Iterator[list[Any]]:
    """Name, bytes, and content or time of change of each file."""
    if path.is_file():
        yield _file(path, path.name)
        return
    for count, (place, folders, names) in enumerate(os.walk(path)):
        folders.sort()
        for name in sorted(names)[:MOST_FILES]:
            yield _file(Path(place, name), Path(place, name).relative_to(path).as_posix())
        if count >= MOST_FILES:
            return


def _file(path: Path, name: str) -> list[Any]:
    try:
        found = path.stat()
        if path.is_file() and found.st_size <= WHOLE_BYTES:
            return [name, found.st_size, hashlib.sha256(path.read_bytes()).hexdigest()]
    except OSError:  # a broken link, or closed to us: the run will say so
        return [name, 0, ""]
    return [name, found.st_size, found.st_mtime_ns]


def _is_gone(name: str) -> bool:
    """Whether a name can be nothing but a path, and nothing is there."""
    return (name.startswith(("/", ".", "~")) or name.count("/") > 1) and "://" not in name and not is_there(Path(name))
