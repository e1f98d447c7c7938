"""What a Ray cluster costs and gains: jobs that sleep on 1, 2 and 4 workers, and a whole run beside one in threads.

    python bench/ray_jobs.py --json bench/results/ray.json                    the sleeping jobs
    python bench/ray_jobs.py --run --json bench/results/ray.json              and MiniLM's fast compile, the cluster already up

All nodes are on this machine. The gain is the time that the jobs would take one after another, over the time they took; a run's overhead
is its time over that of the same run in threads, both from an empty cache, with the profile full and made before.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from output import write_json

from compiler.execution import Job
from compiler.execution.ray_cluster import OnRay, connected
from compiler.pipeline import Options, compile_model
from compiler.pipeline.monitor import SilentMonitor
from targets import usable_cpus

SLEEP_S, JOBS, WARM_S = 0.2, 40, 5.0


def sleep(_: str, text: str) -> str:
    """A job that waits."""
    time.sleep(json.loads(text)["body"]["s"])
    return json.dumps({"value": None})


def gains(workers: int) -> dict[str, Any]:
    """How much faster so many workers do sleeping jobs than one after another; starting the cluster and its workers apart."""
    from ray.cluster_utils import Cluster

    start = time.monotonic()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(workers):
        cluster.add_node(num_cpus=1)
    try:
        with connected(cluster.address) as ray:
            executor = OnRay(ray, sleep, "")
            executor.run([Job(kind="sleep", body={"s": WARM_S})] * workers)  # so long that each worker gets one
            up_s, start = time.monotonic() - start, time.monotonic()
            executor.run([Job(kind="sleep", body={"s": SLEEP_S})] * JOBS)
            took_s = time.monotonic() - start
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]
    gain = JOBS * SLEEP_S / took_s
    return {"workers": workers, "up_s": up_s, "took_s": took_s, "gain": gain, "of_linear": gain / workers}


def overhead() -> dict[str, Any]:
    """Seconds of a fast compile of MiniLM in threads and on a cluster of this machine's processors that is up."""
    from ray.cluster_utils import Cluster

    seconds = {}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": usable_cpus(), "include_dashboard": False})
    try:
        with tempfile.TemporaryDirectory() as root:
            for name, address in (("threads", None), ("ray", cluster.address)):
                options = Options(
                    model="", demo=True, target="null", cache=Path(root) / name, out=Path(root) / f"out-{name}"
                )
                start = time.monotonic()
                front = compile_model(replace(options, ray=address), SilentMonitor())
                seconds[name] = {"whole": time.monotonic() - start, "stages": front["timings_s"]}
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]
    return {**seconds, "ratio": seconds["ray"]["whole"] / seconds["threads"]["whole"]}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    found: dict[str, Any] = {"sleep_s": SLEEP_S, "jobs": JOBS, "gains": [gains(count) for count in arguments.workers]}
    if arguments.run:
        found["overhead"] = overhead()
    write_json(arguments.json, found)
    json.dump(found, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
