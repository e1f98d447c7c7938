"""The part of a run that a worker of a cluster plays: it prepares what the store holds and does jobs with it.

A worker gets the description of a run as text, loads the same model and data, and finds everything that the run has made
so far in the store. It keeps the last run that it worked for in memory.
"""

import contextlib
import faulthandler
import json
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from compiler.execution import Job
from compiler.export import ModelWorkbench
from compiler.pipeline.graphs import find_templates
from compiler.pipeline.jobs import Correct, Evaluate, Score
from compiler.pipeline.judge import Judge
from compiler.pipeline.learned import Learned, learn
from compiler.pipeline.monitor import SilentMonitor, Stages
from compiler.pipeline.options import Options
from compiler.pipeline.subject import load_subject
from compiler.slicing import float32_by, float32_library
from compiler.store import Store
from targets.errors import InputError, ParetocError

_LIBRARIES = ("paretoc", "torch", "transformers", "onnx", "onnxruntime", "numpy", "safetensors")
_OPTIONS = TypeAdapter(Options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A run before its search: weights and yardsticks, graphs to fill, and the store."""

    learned: Learned
    bench: ModelWorkbench
    store: Store


def _evaluate(prepared: Prepared, body: Mapping[str, Any]) -> None:
    asked = Evaluate.from_json(body)
    judge = Judge(prepared.learned, prepared.bench, prepared.store)
    judge.quality(asked.subnet, asked.form, asked.share, asked.rival)


def _correct(prepared: Prepared, body: Mapping[str, Any]) -> None:
    asked = Correct.from_json(body)
    prepared.learned.weights.corrected(asked.subnet, asked.share)


def _score(prepared: Prepared, body: Mapping[str, Any]) -> None:
    asked = Score.from_json(body)
    judge = Judge(prepared.learned, prepared.bench, prepared.store)
    judge.finished(asked.subnet, asked.form, prepared.learned.weights.final(asked.subnet, asked.share))


_KINDS: dict[str, Callable[[Prepared, Mapping[str, Any]], Any]] = {
    "evaluate": _evaluate,
    "correct": _correct,
    "score": _score,
}
"""What each kind of job does; its answer is a JSON value, None where all of it is in the store."""


def describe(options: Options, store: Store, precisions: Collection[str]) -> str:
    """A run as JSON text: its options, its store, the precisions of its graphs, and the versions that a worker must have."""
    return json.dumps(
        {
            "options": _OPTIONS.dump_python(replace(options, ray=None), mode="json"),
            "store": str(store.root),
            "precisions": sorted(precisions),
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
    faulthandler.dump_traceback_later(asked["timeout_s"], exit=True)
    try:
        return json.dumps({"value": _performed(description, job)})
    except ParetocError as error:
        return json.dumps({"error": type(error).__name__, "message": str(error)})
    finally:
        faulthandler.cancel_dump_traceback_later()


def _performed(description: str, job: Job) -> Any:
    run = json.loads(description)
    check_versions(run["versions"])
    with float32_by(run["float32"]):
        prepared = _prepared(description)
        torch.set_num_threads(job.threads)
        return _KINDS[job.kind](prepared, job.body)


@lru_cache(maxsize=1)
def _prepared(description: str) -> Prepared:
    """What the run has prepared, read from its store."""
    run = json.loads(description)
    options = _OPTIONS.validate_python(run["options"])
    store = Store(Path(run["store"]))
    subject = load_subject(options)
    templates = find_templates(
        subject.checkpoint, store, set(run["precisions"]), options.opset, narrow=options.space == "width"
    )
    bench = ModelWorkbench(subject.checkpoint, templates, subject.range_texts(set(run["precisions"])))
    learned = learn(subject, store, options, Stages(SilentMonitor()))
    return Prepared(learned=learned, bench=bench, store=store)
