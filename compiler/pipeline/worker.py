"""The part of a run that a worker of a cluster plays: it prepares what the store holds and does jobs with it.

A worker gets the description of a run as text, loads the same model and data, and finds everything that the run has made
so far in the store. It keeps the last run that it worked for in memory.
"""

import contextlib
import faulthandler
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from compiler.execution import Job
from compiler.export import ModelWorkbench
from compiler.pipeline.demand import find_demand
from compiler.pipeline.device import Device, find_here, precisions_of
from compiler.pipeline.elsewhere import TimedFile
from compiler.pipeline.file_times import alternate
from compiler.pipeline.graphs import find_templates
from compiler.pipeline.inputs import fetched, published
from compiler.pipeline.jobs import Correct, Evaluate, Score
from compiler.pipeline.judge import Judge
from compiler.pipeline.learned import Learned, learn
from compiler.pipeline.monitor import SilentMonitor, Stages
from compiler.pipeline.options import Options, options_from_json, options_json
from compiler.pipeline.subject import Subject, load_subject
from compiler.pipeline.tables import measure_all
from compiler.slicing import float32_by, float32_library
from compiler.store import Store, open_store
from profilers import Plan, Workload
from targets import Target
from targets.errors import InputError, ParetocError

_LIBRARIES = ("paretoc", "torch", "transformers", "onnx", "onnxruntime", "numpy", "safetensors")

SIMULATED, TIMING_LOG = "PARETOC_SIMULATED", "PARETOC_TIMING_LOG"
"""Variables of a worker: whether its target is simulated, and where it writes when it timed."""


class Prepared:
    """A run as a worker has it: read from the store, each part when a job first asks for it."""

    def __init__(self, description: str) -> None:
        run = json.loads(description)
        self.store = open_store(run["store"])
        self.each = [fetched(options_from_json(values), run["inputs"], self.store) for values in run["options"]]

    @cached_property
    def subject(self) -> Subject:
        """The model and its data."""
        return load_subject(self.each[0])

    @cached_property
    def bench(self) -> ModelWorkbench:
        """Graphs to fill, at every precision of the run."""
        options, precisions = self.each[0], {p for options in self.each for p in precisions_of(options)}
        templates = find_templates(
            self.subject.checkpoint, self.store, precisions, options.opset, narrow=options.space == "width"
        )
        return ModelWorkbench(self.subject.checkpoint, templates, self.subject.range_texts(precisions))

    @cached_property
    def learned(self) -> Learned:
        """Weights and yardsticks."""
        return learn(self.subject, self.store, self.each[0], Stages(SilentMonitor()))

    @cached_property
    def judge(self) -> Judge:
        """Judges networks as the run does."""
        return Judge(self.learned, self.bench, self.store)


def _evaluate(run: Prepared, body: Mapping[str, Any]) -> None:
    asked = Evaluate.from_json(body)
    run.judge.quality(asked.subnet, asked.form, asked.share, asked.rival)


def _correct(run: Prepared, body: Mapping[str, Any]) -> None:
    asked = Correct.from_json(body)
    run.learned.weights.corrected(asked.subnet, asked.share)


def _score(run: Prepared, body: Mapping[str, Any]) -> None:
    asked = Score.from_json(body)
    run.judge.finished(asked.subnet, asked.form, run.learned.weights.final(asked.subnet, asked.share))


def _identify(_: Prepared, body: Mapping[str, Any]) -> dict[str, Any]:
    """The device of this node: TargetError where it is not what the node says."""
    device = _device(body)
    assert device.runtime is not None  # noqa: S101  it is here
    return {
        "runtime": device.runtime.name,
        "source": device.runtime.source,
        "described": device.runtime.describe(),
        "fingerprint": device.fingerprint.to_json(),
    }


def _profile(run: Prepared, body: Mapping[str, Any]) -> dict[str, Any]:
    options, device = options_from_json(body["options"]), _device(body)
    device = replace(device, demand=find_demand(options, run.subject))
    with logged(device.target):
        full = options.profile == "full"
        return measure_all(device, run.bench, run.store, options.seed, lambda _: None, full=full).to_json()


def _time(run: Prepared, body: Mapping[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        reference, *files = (TimedFile.from_json(data, Path(folder)) for data in (body["reference"], *body["files"]))
        for file in (reference, *files):
            file.unpack(run.store)
        device = _device(body)
        with logged(device.target):
            series = alternate(
                files, reference, run.bench, device, run.store, Workload.from_json(body["workload"]),
                Plan(**body["plan"]), body["seed"],
            )  # fmt: skip
    return {name: one.to_json() for name, one in series.items()}


def _device(body: Mapping[str, Any]) -> Device:
    options = options_from_json(body["options"])
    return find_here(replace(options, runtime="null") if os.environ.get(SIMULATED) else options)


_KINDS: dict[str, Callable[[Prepared, Mapping[str, Any]], Any]] = {
    "evaluate": _evaluate,
    "correct": _correct,
    "score": _score,
    "identify": _identify,
    "profile": _profile,
    "time": _time,
}
"""What each kind of job does; its answer is a JSON value, None where all of it is in the store."""


@contextlib.contextmanager
def logged(target: Target) -> Iterator[None]:
    """Write when a node's device was timed, a line of JSON each, into the file that `TIMING_LOG` names, if it names one."""
    start, path = time.time(), os.environ.get(TIMING_LOG)
    try:
        yield
    finally:
        if path:
            line = json.dumps({"target": target.name, "from_s": start, "to_s": time.time(), "process": os.getpid()})
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def describe(each: Sequence[Options], store: Store) -> str:
    """The runs of several targets as JSON text: options, store, and the versions and arithmetic that a worker must have."""
    return json.dumps(
        {
            "options": [options_json(replace(options, ray=None)) for options in each],
            "store": store.place,
            "inputs": published(each[0], store),
            "float32": float32_library(),
            "versions": versions(),
        }
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on; of those that are not installed, none."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def check_versions(wanted: Mapping[str, str]) -> None:
    """InputError where a library here is of another version than where the run was started, naming both."""
    here = versions()
    different = [
        f"{name} {wanted.get(name)} and {here.get(name)}" for name in wanted if wanted.get(name) != here.get(name)
    ]
    if different:
        raise InputError(
            f"a worker of the cluster has other versions than this machine: {', '.join(different)}\n"
            "install the same on both: pip freeze, then pip install -r"
        )


def perform(description: str, text: str) -> str:
    """Do one job of a run; both are JSON text, and so is the answer: a value, or the kind and message of an error.

    A job that takes longer than its time ends the process.
    """
    asked = json.loads(text)
    job = Job(kind=asked["kind"], body=asked["body"], threads=asked["threads"])
    try:
        with watched(asked["timeout_s"]):
            return json.dumps({"value": _performed(description, job)})
    except ParetocError as error:
        return json.dumps({"error": type(error).__name__, "message": str(error)})


@contextlib.contextmanager
def watched(timeout_s: float) -> Iterator[None]:
    """End this process where the block takes longer, whatever it waits for: to the cluster the worker has died."""
    faulthandler.dump_traceback_later(timeout_s, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _performed(description: str, job: Job) -> Any:
    run = json.loads(description)
    check_versions(run["versions"])
    with float32_by(run["float32"]):
        prepared = _prepared(description)
        torch.set_num_threads(job.threads)
        return _KINDS[job.kind](prepared, job.body)


_prepared = lru_cache(maxsize=1)(Prepared)
