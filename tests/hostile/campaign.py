"""A campaign of a test: in a process of its own, since one in which libraries have run threads must not be forked."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.hostile.harness import ROOT

SEED = 24
LEAST_PAST_PARSING = 0.4


def campaign(folder: Path, seeds: Path, verbs: str, count: int) -> dict[str, Any]:
    """The counts of `count` inputs for the verbs, on one processor."""
    file = folder / "counts.json"
    flags = {"verbs": verbs, "count": count, "seed": SEED, "workers": 1, "seeds": seeds, "json": file}
    command = [
        sys.executable,
        "-m",
        "tests.hostile",
        *(str(word) for name, value in flags.items() for word in (f"--{name}", value)),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    if not file.is_file():
        raise AssertionError(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    print("\n".join(found["text"]))
    return found


def check(found: dict[str, Any]) -> None:
    """Every outcome was a right answer or a refusal of three lines, and the inputs went deep enough to say so."""
    assert not found["failures"], "\n".join(found["text"])
    assert found["past_parsing"] >= LEAST_PAST_PARSING
