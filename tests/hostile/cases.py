"""One generated input: which verb, what is damaged and how, and the command line that is run on it."""

import hashlib
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tests.hostile.tensors  # noqa: F401  adds its edits to EDITS
from tests.hostile.edits import Edit, is_plain
from tests.hostile.seeds import TOKENS
from tests.hostile.tables import DataPlan

RESEALED = ("front.json", "run.json", "manifest.json")
"""Files of a run that hold hashes of others: damage behind a right hash is what gets past the first check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A bad input.

    `part` is what is damaged and `base` the seed that it starts from; `flags` come after the verb's own. `sealed` hashes are
    made right again after the damage. `whole` runs to the end where others stop once the input is accepted.
    """

    verb: str
    part: str
    base: str = ""
    edits: tuple[Edit, ...] = ()
    data: DataPlan | None = None
    flags: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    sealed: bool = False
    whole: bool = False

    def prepare(self, seeds: Path, folder: Path) -> list[str]:
        """Write the input below a folder; the arguments of the command line."""
        if self.base:
            _copy(seeds / self.base, folder / self.part)
        if self.data is not None:
            self.data.write(folder)
        before = _hashes(folder) if self.sealed else {}
        for edit in self.edits:
            edit.apply(folder)
        if self.sealed:
            _seal(folder, before)
        place = {"in": str(folder), "seeds": str(seeds), "part": str(folder / self.part)}
        place["data"] = str(folder / self.data.path) if self.data is not None else str(seeds / "data.txt")
        if self.whole:
            shutil.copytree(seeds / "cache", folder / "cache", dirs_exist_ok=True)
        base = [argument.format(**place) for argument in ARGUMENTS[self.verb, self.part]]
        return [*base, *(_placed(flag, place) for flag in self.flags)]

    def to_json(self) -> dict[str, Any]:
        """For the record beside a kept input."""
        return asdict(self)


def _placed(flag: str, place: dict[str, str]) -> str:
    for name, path in place.items():
        flag = flag.replace(f"<{name}>", path)
    return flag


def _copy(source: Path, to: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, to, symlinks=True)
    else:
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, to)


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file() and not p.is_symlink()
    }


def _seal(folder: Path, before: dict[str, str]) -> None:
    """Every hash of a changed file, wherever a run's own files state it, becomes that of the file as it is now."""
    ours = [p for name in RESEALED for p in folder.rglob(name) if is_plain(p) and p.is_file()]
    for name, old in before.items():
        path = folder / name
        if not path.exists() or path.is_dir() or not is_plain(path):
            continue
        content = path.read_bytes()
        new = hashlib.sha256(content).hexdigest()
        if new != old and path.name not in RESEALED:
            for file in ours:
                file.write_bytes(file.read_bytes().replace(old.encode(), new.encode()))
    # a list that holds front.json's own hash is put right last
    for file in sorted(ours, key=lambda p: RESEALED.index(p.name)):
        name = str(file.relative_to(folder))
        new = hashlib.sha256(file.read_bytes()).hexdigest()
        for other in ours:
            if name in before and other != file:
                other.write_bytes(other.read_bytes().replace(before[name].encode(), new.encode()))


_RUN = (
    "--target",
    "null",
    "--seq-len",
    str(TOKENS),
    "--evaluations",
    "3",
    "--winners",
    "1",
    "--quiet",
    "--out",
    "{in}/out",
    "--cache",
    "{in}/cache",
)
_ENCODER, _CLASSIFIER = "{seeds}/encoder", "{seeds}/classifier"

ARGUMENTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("compile", "data"): (_ENCODER, "--data", "{data}", *_RUN),
    ("compile", "labels"): (_CLASSIFIER, "--data", "{data}", *_RUN),
    ("compile", "model"): ("{part}", "--data", "{data}", *_RUN),
    ("compile", "table.json"): (_ENCODER, "--data", "{data}", "--table", "{part}", *_RUN),
    ("compile", "traffic.json"): (_ENCODER, "--data", "{data}", "--traffic", "{part}", *_RUN),
    ("compile", "flags"): (_ENCODER, "--data", "{data}", *_RUN),
    ("profile", "model"): ("profile", "--target", "null", "--seq-len", str(TOKENS), "--model", "{part}", "-o", "{in}/out.json"),
    ("profile", "table.json"): (
        *("profile", "--target", "null", "--seq-len", str(TOKENS), "--model", _ENCODER, "-o", "{in}/out.json"), "--from", "{part}",
    ),
    ("profile", "flags"): ("profile", "--target", "null", "--seq-len", str(TOKENS), "--model", _ENCODER, "-o", "{in}/out.json"),
    ("data", "data"): ("data", "{data}"),
    ("data", "flags"): ("data", "{data}"),
    ("verify", "run"): ("verify", "{part}"),
    ("report", "run"): ("report", "{part}"),
    ("report", "targets"): ("report", "{part}"),
    ("diff", "run"): ("diff", "{part}", "{seeds}/targets/null"),
    ("diff", "flags"): ("diff", "{seeds}/targets/null", "{seeds}/targets/null"),
    ("bench", "run"): ("bench", "{part}", "--seconds", "0.2"),
    ("bench", "model.onnx"): ("bench", "{part}", "--seconds", "0.2"),
    ("bench", "flags"): ("bench", "{seeds}/compiled/model.onnx", "--seconds", "0.2"),
    ("cache", "cache"): ("cache", "--cache", "{part}"),
    ("cache", "others"): ("cache", "--cache", "{part}"),
    ("targets", "flags"): ("targets",),
    ("doctor", "flags"): ("doctor",),
    ("worker", "flags"): ("worker", "--target", "cpu", "--ray", "127.0.0.1:1"),
}  # fmt: skip


def surrogates(text: str) -> str:
    """An argument as a shell can pass it: no NUL byte, and halves of surrogate pairs as undecodable bytes."""
    return os.fsdecode(os.fsencode(text.replace("\x00", ""))) if _passable(text) else ""


def _passable(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True
