"""The command line, called in this process, and small data for it."""

import contextlib
import io
import random
from dataclasses import dataclass
from pathlib import Path

from compiler.cli import main
from tests.tiny import WORDS


@dataclass(frozen=True)
class Done:
    """What one call left behind."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> list[str]:
        """The lines after `error: `."""
        return self.err.partition("error: ")[2].strip().splitlines()


def call(*arguments: object) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Done(code, out.getvalue(), err.getvalue())


def texts(count: int, seed: int = 0) -> list[str]:
    """Texts of 3 to 12 words, all different."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(3, 12))) + f" {WORDS[i % len(WORDS)]}" for i in range(count)]


def write_texts(path: Path, count: int = 60) -> Path:
    path.write_text("\n".join(texts(count)) + "\n", encoding="utf-8")
    return path


def write_rows(path: Path, labels: list[object], header: str = "text,label") -> Path:
    rows = [f"{text},{label}" for text, label in zip(texts(len(labels)), labels, strict=True)]
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def classes(count: int = 80) -> list[object]:
    """Two classes, 0 where the text starts with an early word."""
    return [int(WORDS.index(text.split()[0]) > len(WORDS) // 2) for text in texts(count)]


def scores(count: int = 80) -> list[object]:
    """A score of each text: its words, and a little of the first."""
    return [len(text.split()) + WORDS.index(text.split()[0]) / 100 for text in texts(count)]
