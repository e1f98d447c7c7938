"""Runs on a Ray cluster of several nodes on this machine: the same fronts, nothing lost, nothing timed twice at once."""

import itertools
import json
import os
import time
from pathlib import Path

import pytest

from compiler.execution import Job
from compiler.execution.ray_cluster import NODE_PREFIX, OnRay, connected
from compiler.pipeline.worker import SIMULATED, TIMING_LOG
from targets.errors import BudgetError, InputError, TargetError
from tests import ray_jobs
from tests.cli import call, classes, write_rows
from tests.tiny import save_tiny

pytest.importorskip("ray")
pytestmark = pytest.mark.xdist_group("ray")

FEW = ("--seq-len", 32, "--evaluations", 10, "--winners", 2, "--effort", "fast", "--quiet")


class Nodes:
    """A cluster whose nodes pretend to be GPUs, and a log of when they were timed."""

    def __init__(self, root):
        from ray.cluster_utils import Cluster

        self.root, self.log = root, root / "timed.jsonl"
        self.environment = {
            SIMULATED: "1", TIMING_LOG: str(self.log), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(Path.cwd()), os.environ.get("PYTHONPATH")))),
        }  # fmt: skip
        os.environ |= self.environment  # nodes inherit it
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        self.gpus = {name: self.add(name) for name in ("a10g", "t4")}

    def add(self, name):
        return self.cluster.add_node(num_cpus=1, resources={f"{NODE_PREFIX}{name}": 1}, num_gpus=0)

    def timed(self):
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines()] if self.log.exists() else []


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    before = dict(os.environ)
    found = Nodes(tmp_path_factory.mktemp("nodes"))
    yield found
    found.cluster.shutdown()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def executor(nodes, tmp_path):
    with connected(nodes.cluster.address) as ray:
        yield OnRay(ray, ray_jobs.perform, str(tmp_path), timeout_s=20.0)


def jobs(kind, count, **body):
    return [Job(kind=kind, body={"x": x, **body}) for x in range(count)]


def test_answers_come_in_the_order_of_the_jobs(executor):
    shares = []
    assert executor.run(jobs("square", 7), shares.append) == [x**2 for x in range(7)]
    assert shares == [pytest.approx((x + 1) / 7) for x in range(7)]
    assert executor.run([]) == []


def test_a_worker_that_is_killed_and_one_that_hangs_cost_their_job_a_second_try(executor, tmp_path):
    executor.timeout_s = 3.0
    assert executor.run([*jobs("die once", 1), *jobs("hang once", 2)[1:], *jobs("square", 3)]) == [0, 1, 0, 1, 4]
    assert {path.name for path in tmp_path.glob("first-*")} == {"first-0", "first-1"}


def test_a_job_that_is_lost_every_time_is_an_error_that_names_it(executor):
    with pytest.raises(TargetError, match=r"a job \(die\) was lost on the cluster 3 times"):
        executor.run(jobs("die", 1))


def test_the_error_of_a_job_is_that_of_the_run(executor):
    with pytest.raises(BudgetError, match="nothing meets the budget"):
        executor.run([*jobs("square", 2), *jobs("refuse", 1), *jobs("nap", 3, s=60)])


def test_a_node_that_goes_takes_no_job_with_it(nodes, executor, tmp_path):
    extra = nodes.add("l4")
    naps = [Job(kind="nap", body={"x": x, "s": 1.5}) for x in range(6)]
    begun = []

    def lose(_):
        if not begun:
            begun.append(time.time())
            nodes.cluster.remove_node(extra, allow_graceful=False)

    assert executor.run(naps, lose) == list(range(6))
    assert len(list(tmp_path.glob("nap-*"))) == 6
    until = time.monotonic() + 30
    while "l4" in executor.targets_there() and time.monotonic() < until:
        time.sleep(0.2)
    assert "l4" not in executor.targets_there()


@pytest.mark.parametrize(
    ("address", "said"),
    [("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"), ("here", "is no address"), ("h:99999", "is no address")],
)
def test_no_cluster_and_no_such_address_are_said(address, said):
    with pytest.raises(InputError, match=said), connected(address):
        pass


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("model")
    return save_tiny(root / "judge", labels=2), write_rows(root / "classes.csv", classes())


def run(files, root, name, *arguments):
    model, data = files
    out = root / name
    done = call(model, "--data", data, "--cache", root / f"cache-{name}", "--out", out, *FEW, *arguments)
    return done, out


def front(out):
    found = json.loads((out / "front.json").read_text("utf-8"))
    return [{k: v for k, v in net.items() if k != "artifact"} for net in found["candidates"]], found["best"]


def test_a_cluster_finds_the_front_that_threads_find(nodes, files, tmp_path):
    done, out = run(files, tmp_path, "threads", "--target", "null")
    assert done.code == 0, done.err
    spread, other = run(files, tmp_path, "ray", "--target", "null", "--ray", nodes.cluster.address)
    assert spread.code == 0, spread.err
    assert front(other) == front(out)


def test_devices_of_nodes_are_measured_there_one_thing_at_a_time(nodes, files, tmp_path):
    address = nodes.cluster.address
    done, out = run(files, tmp_path, "two", "--target", "a10g", "--target", "t4", "--ray", address)
    assert done.code == 0, done.err
    for name in ("a10g", "t4"):
        found = json.loads((out / name / "front.json").read_text("utf-8"))
        assert found["target"]["name"] == name
        assert all(net["speedup"] for net in found["candidates"])
    timed = nodes.timed()
    assert {one["target"] for one in timed} == {"a10g", "t4"}
    for name in ("a10g", "t4"):
        spans = sorted((one["from_s"], one["to_s"]) for one in timed if one["target"] == name)
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))


def test_a_target_that_no_node_has_is_refused_with_those_there_are(nodes, files, tmp_path):
    done, _ = run(files, tmp_path, "none", "--target", "h100", "--ray", nodes.cluster.address)
    assert done.code == 3
    assert "h100" in done.err
    assert "a10g (1), t4 (1)" in done.err


@pytest.mark.parametrize(
    ("asked", "what"), [(("--objectives", "latency,memory"), "memory"), (("--space", "width"), "--space width")]
)
def test_what_only_the_machine_itself_can_measure_is_refused_for_a_node(nodes, files, tmp_path, asked, what):
    done, _ = run(files, tmp_path, "only", "--target", "a10g", "--ray", nodes.cluster.address, *asked)
    assert done.code == 3
    assert f"{what} is measured on the machine that compiles" in done.err


def test_a_worker_does_not_claim_to_be_what_it_is_not():
    done = call("worker", "--target", "a10g", "--ray", "127.0.0.1:6379")
    assert done.code == 3
    assert "this machine is no a10g" in done.err
