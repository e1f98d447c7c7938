"""The parts of the check of everything that needs a GPU: what is run, for how long, and which figures are read off it."""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profilers import make_runtime
from targets import Target
from targets.errors import TargetError

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A command, the seconds that it has, how its figures are read, and why it cannot run here (empty: it can)."""

    name: str
    command: Sequence[str]
    timeout_s: float
    figures: Callable[[], Figures] = dict
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """On what the parts run: a target, a precision, two models (a small and a large one), and where they write."""

    target: str
    precision: str
    small: str
    large: str
    device: str
    work: Path

    @classmethod
    def of(cls, gpu: Target | None, work: Path) -> "Setting":
        """On a GPU the real sizes at fp16; without one a rehearsal."""
        if gpu is None:
            return cls(target="cpu", precision="fp32", small="tiny", large="tiny", device="cpu", work=work)
        return cls(target=gpu.name, precision="fp16", small="minilm-shape", large="bert-base", device="cuda", work=work)


def parts_of(at: Setting) -> list[Part]:
    """What runs, in this order: what the later ones take longest to tell comes last."""
    return [
        Part(
            name="inputs", timeout_s=60,
            command=_bench("generated.py", "--models", *dict.fromkeys((at.small, at.large)), "--out", at.work / "inputs"),
        ),
        Part(
            name="tests", timeout_s=110, figures=lambda: count_tests(at.work / "tests" / "output.log"),
            command=[sys.executable, "-m", "pytest", "tests/gpu", "-q", "-ra", "-p", "no:cacheprovider"],
        ),
        _compile(at, "compile-small", at.small, timeout_s=230),
        _tables(at, "tables-small", at.small, timeout_s=50, precisions=at.precision, nets=40, cache="fresh"),
        _tables(at, "tables-large", at.large, timeout_s=140, precisions=",".join(dict.fromkeys((at.precision, "fp32"))), nets=15),
        _compile(at, "compile-large", at.large, timeout_s=90, table=True),
        Part(
            name="resources", timeout_s=40, figures=lambda: {"rows": read_json(at.work / "resources" / "resources.json")},
            command=_bench(
                "gpu_resources.py", "--models", *dict.fromkeys((at.small, at.large)), "--target", at.target,
                "--precision", at.precision, "--json", at.work / "resources" / "resources.json",
            ),
        ),
        _tables(at, "tables-onnxruntime", at.small, timeout_s=60, precisions=at.precision, nets=20, runtime="onnxruntime"),
    ]  # fmt: skip


def _bench(script: str, *arguments: object) -> list[str]:
    return [sys.executable, f"bench/{script}", *map(str, arguments)]


def _tables(
    at: Setting, name: str, model: str, *, timeout_s: float, precisions: str, nets: int, runtime: str = "torch", cache: str = "cache"
) -> Part:  # fmt: skip
    """Cost tables of a model, with their error on networks that they never saw; blocks in the cache are not measured again."""
    folder = at.work / name
    return Part(
        name=name, timeout_s=timeout_s, figures=lambda: {"tables": [_table_row(row) for row in read_json(folder / "tables.json")]},
        missing=_missing(at, runtime),
        command=_bench(
            "tables.py", "--models", model, "--target", at.target, "--runtime", runtime, "--precision", precisions, "--nets", nets,
            "--rounds", 1, "--check-rounds", 2, "--block-s", 0.1, "--json", folder / "tables.json", "--tables", folder,
            "--cache", at.work / cache,
        ),
    )  # fmt: skip


def _missing(at: Setting, runtime: str) -> str:
    try:
        make_runtime(runtime, Target.parse(at.target))
    except TargetError as error:
        return str(error).splitlines()[0]
    return ""


def _compile(at: Setting, name: str, model: str, *, timeout_s: float, table: bool = False) -> Part:
    """The fast path; from nothing, or with the table that was measured before."""
    out, tables = at.work / name / "out", at.work / "tables-large"
    told = ("--table", tables / f"{at.target}-{model}.json") if table else ("--profile", "full")
    command = (
        sys.executable, "-m", "compiler", "compile", at.work / "inputs" / model, "--data", at.work / "inputs" / "texts.txt",
        "--task", "embedding", "--target", at.target, "--runtime", "torch", "--precision", at.precision, "--effort", "fast",
        "--device", at.device, "--winners", 3, "--cache", at.work / ("cache" if table else "fresh"), "--out", out, "--overwrite",
        "--accept-noisy-table", *told,
    )  # fmt: skip
    return Part(
        name=name,
        command=list(map(str, command)),
        timeout_s=timeout_s,
        figures=lambda: _front(read_json(out / "front.json")),
    )


def read_json(path: Path) -> Any:
    """What a part wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def _front(front: Mapping[str, Any]) -> Figures:
    """Seconds of every stage, the table's error, and what was found."""
    found = [
        {name: c[name] for name in ("id", "metric", "speedup", "parameters", "precision")} for c in front["candidates"]
    ]
    return {
        "timings_s": front["timings_s"], "table": front["table"], "best": front["best"], "candidates": found,
        "target": front["target"], "notes": front["notes"],
    }  # fmt: skip


def _table_row(row: Mapping[str, Any]) -> Figures:
    return {name: value for name, value in row.items() if name not in ("checks", "fingerprint")}


def count_tests(log: Path) -> Figures:
    """How many passed, failed, were skipped."""
    counts = re.findall(r"(\d+) (passed|failed|skipped|errors?)", log.read_text(encoding="utf-8").splitlines()[-1])
    return {name: int(count) for count, name in counts}
