"""Damage to one file or folder: an edit names what is done, to which file, where in it, and with what value."""

import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile.values import RAW

CANARY = "canary"
"""Folder beside the input that nothing may touch; links out of the input lead there."""


@dataclass(frozen=True, slots=True)
class Edit:
    """`kind` of EDITS, on the `file`-th of the files that may be damaged, at the `at`-th place in it."""

    kind: str
    file: str
    at: int = 0
    value: Any = None

    def apply(self, folder: Path) -> None:
        """Damage a file below `folder`; what an earlier edit has made senseless is left alone."""
        path = folder / self.file
        try:
            if path.is_dir() and self.kind in IN_FOLDERS:
                path = sorted(path.iterdir())[self.at % len(list(path.iterdir()))]
            if self.kind != "remove" and not is_plain(path):
                return  # what an earlier edit made of it must be neither read nor written here
            EDITS[self.kind](path, self.at, self.value)
        except Exception:  # noqa: BLE001  another edit came first: no document, no tensor, no row is left
            return


MOST_BYTES = 2**26


def is_plain(path: Path) -> bool:
    """Whether it is a folder or a regular file of no great size: links and pipes must not be followed by what makes inputs."""
    state = path.lstat()
    return stat.S_ISDIR(state.st_mode) or (stat.S_ISREG(state.st_mode) and state.st_size <= MOST_BYTES)


Place = tuple[Any, Any]


def places(value: Any) -> Iterator[Place]:
    """Every (container, key) below a JSON value, outermost first."""
    waiting = [value]
    while waiting:
        container = waiting.pop(0)
        keys = (
            container if isinstance(container, dict) else range(len(container)) if isinstance(container, list) else ()
        )
        for key in list(keys):
            yield container, key
            waiting.append(container[key])


def _place(document: Any, at: int) -> Place:
    """Half of the places are asked for among the first thirty: a table's entries would hide its head."""
    found = list(places(document))
    near = found[:30] if at % 2 else found
    return near[(at // 2) % len(near)]


def dump(document: Any) -> bytes:
    """JSON with the raw texts put in as they are; lone surrogates become escapes."""
    text = json.dumps(document)
    pattern = re.compile(r'"' + re.escape(RAW) + r'((?:[^"\\]|\\.)*)"')
    return pattern.sub(lambda match: str(json.loads(f'"{match[1]}"')), text).encode()


def changed_json(document: Any, kind: str, at: int, value: Any) -> Any:
    """The document after one structured change."""
    container, key = _place(document, at)
    if kind == "drop":
        del container[key]
    elif kind == "set":
        container[key] = value
    elif kind == "rename":
        container[str(value)[:400] if isinstance(container, dict) else key] = container.pop(key)
    elif kind == "swap":
        other, other_key = _place(document, at // 7 + 3)
        container[key], other[other_key] = other[other_key], container[key]
    elif kind == "wrap":
        container[key] = [container[key]] if at % 2 else {"value": container[key]}
    elif kind == "scale":
        container[key] = _scaled(container[key], at)
    elif kind == "repeat":
        container[key] = container[key] * (0, 2, 3, 1000)[at % 4]
    elif kind == "top":
        return value
    return document


def _scaled(found: Any, at: int) -> Any:
    """Another value of the type that was found: readers take it, so what follows must."""
    if isinstance(found, bool):
        return not found
    if isinstance(found, int | float):
        return type(found)(found * (-1, 0, 2, 1000, 10**6, 1)[at % 6] + (0, 1)[at % 2])
    if isinstance(found, str):
        return (found.upper(), found[::-1], found + " ", found + "x", found * 200, "")[at % 6]
    return found


def _json_edit(kind: str) -> Callable[[Path, int, Any], None]:
    def edit(path: Path, at: int, value: Any) -> None:
        path.write_bytes(dump(changed_json(json.loads(path.read_bytes()), kind, at, value)))

    return edit


def _twice(path: Path, at: int, value: Any) -> None:
    """A key that stands twice, the second time with another value."""
    document = json.loads(path.read_bytes())
    key = list(document)[at % len(document)]
    path.write_bytes(path.read_bytes().rstrip()[:-1] + b", " + json.dumps(key).encode() + b": " + dump(value) + b"}")


def _truncate(path: Path, at: int, _: Any) -> None:
    size = path.stat().st_size
    os.truncate(path, (0, 1, size // 2, max(size - 1, 0), at % (size + 1))[at % 5])


def _flip(path: Path, at: int, value: Any) -> None:
    content = bytearray(path.read_bytes())
    for step in range(1 + (value if isinstance(value, int) else 0) % 8):
        content[(at * 2654435761 + step * 40503) % len(content)] ^= 1 << (at + step) % 8
    path.write_bytes(bytes(content))


def _insert(path: Path, at: int, _: Any) -> None:
    content = path.read_bytes()
    middle = at % (len(content) + 1)
    extra = (b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"\r", b"\n\n", b"\xed\xa0\x80", b"," * 50)[at % 8]
    path.write_bytes(content[:middle] + extra + content[middle:])


def _encode(path: Path, at: int, _: Any) -> None:
    text = path.read_text("utf-8")
    path.write_bytes(text.encode(("utf-16", "utf-32-le", "utf-8-sig", "utf-7", "cp500")[at % 5], errors="replace"))


def _remove(path: Path, _: int, __: Any) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _become(make: Callable[[Path, Path], object]) -> Callable[[Path, int, Any], None]:
    """The file is replaced by something that is none of ours; `make` is given its path and a copy of what it was."""

    def edit(path: Path, at: int, value: Any) -> None:
        was = path.with_name(path.name + ".was")
        path.rename(was)
        make(path, was)
        _remove(was, at, value)

    return edit


def _canary(path: Path) -> Path:
    return next(parent / CANARY for parent in path.parents if (parent / CANARY).is_dir())


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 3 * 2**30)


def _nested_folders(path: Path) -> None:
    (path / "a" / "b").mkdir(parents=True)


def _swap_files(path: Path, at: int, _: Any) -> None:
    others = sorted(p for p in path.parent.rglob("*") if p != path and p.is_file() and is_plain(p))
    other = others[at % len(others)]
    one, two = path.read_bytes(), other.read_bytes()
    path.write_bytes(two)
    other.write_bytes(one)


def _touch_beside(path: Path, at: int, _: Any) -> None:
    """A file that somebody left in the folder."""
    names = (
        "model.onnx",
        "pytorch_model.bin",
        "adapter_config.json",
        ".lock",
        "weights.safetensors",
        "train.csv",
        "[x].json",
        "\x1b[31m",
    )
    path.with_name(names[at % len(names)]).write_bytes((b"", b"{}", b"\x80\x04.")[at % 3])


def _artifact(path: Path, at: int, value: Any) -> None:
    """A network's file said to lie elsewhere."""
    front = json.loads(path.read_bytes())
    nets = [front["dense"], *front["candidates"]]
    nets[at % len(nets)]["artifact"]["path"] = value
    path.write_bytes(json.dumps(front).encode())


EDITS: dict[str, Callable[[Path, int, Any], None]] = {
    **{
        f"json-{kind}": _json_edit(kind) for kind in ("drop", "set", "rename", "swap", "wrap", "scale", "repeat", "top")
    },
    "json-twice": _twice,
    "artifact": _artifact,
    "truncate": _truncate,
    "flip": _flip,
    "insert": _insert,
    "encode": _encode,
    "remove": _remove,
    "swap-files": _swap_files,
    "beside": _touch_beside,
    "fifo": _become(lambda path, _: os.mkfifo(path)),
    "device": _become(lambda path, _: path.symlink_to("/dev/zero")),
    "null-device": _become(lambda path, _: path.symlink_to("/dev/null")),
    "link-out": _become(lambda path, _: path.symlink_to(_canary(path) / "home" / "notes.txt")),
    "link-lost": _become(lambda path, _: path.symlink_to("nowhere")),
    "link-loop": _become(lambda path, _: path.symlink_to(path.name)),
    "folder": _become(lambda path, _: _nested_folders(path)),
    "sparse": _become(lambda path, _: _sparse(path)),
    "empty": _become(lambda path, _: path.touch()),
}

JSON_EDITS = tuple(name for name in EDITS if name.startswith("json-"))
IN_FOLDERS = ("truncate", "flip", "insert", "empty", "device", "fifo")
"""Of a folder, damage one of its files."""

BYTE_EDITS = ("truncate", "flip", "insert", "encode", "remove", "swap-files", "beside", "empty")
KIND_EDITS = ("fifo", "device", "null-device", "link-out", "link-lost", "link-loop", "folder", "sparse")
