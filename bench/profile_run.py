"""Where the time of a run goes: seconds of every stage by kind of work, and the calls that took most.

    python bench/profile_run.py bert-base --target null
    python bench/profile_run.py MODEL --data data/ --effort balanced --json bench/results/profile_run.json

A run of the fast path from an empty cache, on one processor under cProfile: Python itself looks slower than it is. MODEL is a
published shape with random weights (`bench/tables.py`) or a folder. Built-in functions tell their kind by name, and operators by the
function that they stand in. With --cpu the process's own time is counted, for a machine that others use too: what child
processes take is then missing, and reading that clock slows Python down several times.
"""

import argparse
import cProfile
import os
import pstats
import re
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmark_data import data_folder
from markdown_table import table
from output import write_json
from tables import RANDOM, model_folder

from compiler.pipeline import compile_model
from compiler.pipeline.options import Options

KINDS = ("products", "solves", "tensors", "runtime", "timing", "export", "waiting", "python")
"""Matrix products, their backward passes among them; linear systems; other tensor work; networks run in ONNX Runtime; the same to
be timed; making and checking graphs; child processes and files; all else."""

_PRODUCTS = re.compile("linear|matmul|.*mm|einsum|scaled_dot_product_attention|run_backward")
_SOLVES = re.compile("linalg_.*|cholesky.*|lstsq")
_WAITING = re.compile("sleep|poll|select|acquire|fsync|waitpid|read|write")
_OPERATORS = {
    "products": ("upper_products", "resolve", "_solve_uncached", "rank_groups", "_scores", "sensitivities"),
    "export": ("torch/onnx", "onnxscript", "onnx_ir", "/onnx/", "compiler/export"),
    "waiting": ("subprocess.py", "selectors.py"),
    "tensors": ("torch/nn", "transformers/models", "compiler/families", "compiler/oneshot"),
}
"""What functions of Python do between the built-in ones that they call, by parts of "file:function"."""

_TIMED = ("profile", "measure")
"""How stages begin in which networks run to be timed."""

Seconds = dict[str, dict[str, float]]


def kind_of(stage: str, where: tuple[str, int, str]) -> str:
    """Kind of work of one row of a profile: (file, line, function), the file "~" where the function is built in."""
    file, _, function = where
    if file == "~":
        return _kind_of_built_in(stage, function)
    text = f"{file}:{function}"
    return next((kind for kind, marks in _OPERATORS.items() if any(mark in text for mark in marks)), "python")


def _kind_of_built_in(stage: str, function: str) -> str:
    """`function` is as cProfile has it: "<built-in method torch.mm>", "<method 'run' of '...InferenceSession' objects>"."""
    name = re.search(r"method '?[\w.]*?(\w+)['> ]", function)
    bare = name[1] if name else function
    if "onnxruntime" in function and bare.startswith("run"):
        return "timing" if stage.startswith(_TIMED) else "runtime"
    if "torch" in function:
        kinds = {"products": _PRODUCTS, "solves": _SOLVES}
        return next((kind for kind, names in kinds.items() if names.fullmatch(bare)), "tensors")
    if "numpy" in function:
        return "tensors"
    return "waiting" if _WAITING.fullmatch(bare) else "python"


class StageProfiles:
    """A monitor that profiles each stage on its own."""

    def __init__(self, *, cpu: bool) -> None:
        self.timer = time.process_time if cpu else time.perf_counter
        self.profiles: dict[str, cProfile.Profile] = {}
        self._now: cProfile.Profile | None = None

    def stage(self, name: str) -> None:
        """A stage begins, and the one before is over."""
        self.end()
        self._now = self.profiles.setdefault(name, cProfile.Profile(self.timer))
        self._now.enable()

    def end(self) -> None:
        """The last stage is over."""
        if self._now is not None:
            self._now.disable()

    def progress(self, fraction: float) -> None:
        """Ignored."""

    def note(self, text: str) -> None:
        """Ignored."""

    def rows(self, stage: str) -> dict[tuple[str, int, str], float]:
        """Seconds in each function of a stage, without what it calls."""
        stats: Any = pstats.Stats(self.profiles[stage])
        return {where: row[2] for where, row in stats.stats.items()}

    def seconds(self) -> Seconds:
        """Seconds by stage and kind."""
        found: Seconds = {}
        for stage in self.profiles:
            kinds: dict[str, float] = defaultdict(float)
            for where, spent in self.rows(stage).items():
                kinds[kind_of(stage, where)] += spent
            found[stage] = dict(kinds)
        return found

    def largest(self, stage: str, count: int) -> list[dict[str, Any]]:
        """The functions of a stage that took most."""
        rows = sorted(self.rows(stage).items(), key=lambda row: -row[1])[:count]
        return [
            {
                "function": f"{Path(file).name}:{line} {name}",
                "kind": kind_of(stage, (file, line, name)),
                "s": round(s, 2),
            }
            for (file, line, name), s in rows
        ]


def table_of(seconds: Seconds) -> str:
    """One line a stage, the longest first, and one of all."""
    stages = sorted(seconds, key=lambda stage: -sum(seconds[stage].values()))
    whole = {kind: sum(kinds.get(kind, 0.0) for kinds in seconds.values()) for kind in KINDS}
    lines = [*((stage, seconds[stage]) for stage in stages), ("all", whole)]
    rows = [
        [name, *(f"{v:.1f}" for v in (sum(of.values()), *(of.get(kind, 0.0) for kind in KINDS)))] for name, of in lines
    ]
    return table(["stage", "all", *KINDS], rows)


def profiled(options: Options, *, cpu: bool) -> StageProfiles:
    """One run on one processor, so that no network is worked on in a thread that cProfile does not see."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    profiles = StageProfiles(cpu=cpu)
    try:
        compile_model(options, profiles)
    finally:
        profiles.end()
    return profiles


def main() -> None:
    """Profile, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help=f"a folder, or one of minilm, {', '.join(RANDOM)}")
    parser.add_argument("--data", default=data_folder("stsb"))
    parser.add_argument("--task", default="embedding")
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--effort", default="fast")
    parser.add_argument("--seq-len", type=int, default=128)
    parser.add_argument("--winners", type=int, default=8)
    parser.add_argument("--evaluations", type=int, default=None)
    parser.add_argument("--cpu", action="store_true", help="count the process's own time")
    parser.add_argument("--largest", type=int, default=5, help="functions to name of each stage")
    parser.add_argument("--json", type=Path, default=None)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        place = Path(root)
        known = asked.model == "minilm" or asked.model in RANDOM
        options = Options(
            model=str(model_folder(asked.model, place)) if known else asked.model, data=asked.data, task=asked.task,
            target=asked.target, effort=asked.effort, seq_len=asked.seq_len, winners=asked.winners, evaluations=asked.evaluations,
            out=place / "out", cache=place / "cache", accept_noisy_table=True,
        )  # fmt: skip
        profiles = profiled(options, cpu=asked.cpu)
    seconds = profiles.seconds()
    largest = {stage: profiles.largest(stage, asked.largest) for stage in seconds}
    sys.stdout.write(f"{table_of(seconds)}\n")
    for stage, rows in largest.items():
        sys.stdout.write(
            "\n".join([f"\n{stage}", *(f"  {row['s']:8.2f} s  {row['kind']:9} {row['function']}" for row in rows)])
            + "\n"
        )
    write_json(
        asked.json,
        {"model": asked.model, "clock": "cpu" if asked.cpu else "wall", "seconds": seconds, "largest": largest},
    )


if __name__ == "__main__":
    main()
