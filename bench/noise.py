"""How often a machine's own table is accepted, alone and beside others that compute.

    python bench/noise.py --idle 10 --loaded 3 --json bench/results/noise.json

Each profile is all-MiniLM-L6-v2's at batch 1, 128 tokens and one thread, with a seed of its own, as a run makes it: once
more where it is too far off, then refused. The load is one process a core that multiplies matrices without a pause.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from output import write_json

from compiler.export import ModelWorkbench
from compiler.families import load_checkpoint
from compiler.families.embedded import embedded_model
from compiler.pipeline.costs import find_table
from compiler.pipeline.device import find_here
from compiler.pipeline.graphs import find_templates
from compiler.pipeline.measuring import too_noisy
from compiler.pipeline.options import Options
from compiler.store import DiskStore, default_root
from targets import usable_cpus

COMPUTE = "import numpy; a = numpy.ones((512, 512), 'f')\nwhile True: a = a @ a % 7"
"""Never ends."""


@contextmanager
def load(processes: int) -> Iterator[None]:
    """So many of them, for as long as the context lasts."""
    command, env = [sys.executable, "-c", COMPUTE], {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    others = [subprocess.Popen(command, env=env) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def profile(bench: ModelWorkbench, options: Options) -> dict[str, Any]:
    """One profile from nothing: its error, whether it is accepted, and how long it took."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        table, _ = find_table(options, find_here(options), bench, DiskStore(Path(folder)), lambda _: None)
    assert table.error is not None  # noqa: S101  it has check networks
    return {
        "seed": options.seed, "refused": too_noisy(table), "seconds": round(time.monotonic() - start, 1),
        "error": asdict(table.error),
    }  # fmt: skip


def main() -> None:
    """Profile again and again, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle", type=int, default=10)
    parser.add_argument("--loaded", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(str(embedded_model()), task="embedding")
    bench = ModelWorkbench(checkpoint, find_templates(checkpoint, DiskStore(default_root()), ["fp32"]))
    record: dict[str, Any] = {
        "command": "python bench/noise.py",
        "threads": arguments.threads,
        "idle": [],
        "loaded": [],
    }
    plan = [("idle", 0, seed) for seed in range(arguments.idle)]
    plan += [("loaded", usable_cpus(), seed) for seed in range(arguments.loaded)]
    for name, processes, seed in plan:
        options = Options(model="", seed=seed, threads=arguments.threads, accept_noisy_table=True, profile="full")
        with load(processes):
            record[name].append(profile(bench, options))
        sys.stderr.write(f"{name} {record[name][-1]}\n")
        write_json(arguments.json, record)
    json.dump(record, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
