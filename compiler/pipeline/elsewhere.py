"""A device that a node of the cluster has: profiled and timed there, by jobs that have the node's device alone.

The node's Ray resource `paretoc-target:NAME` is 1 and every such job takes all of it, so nothing is timed beside anything.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compiler.execution import Job
from compiler.execution.ray_cluster import NODE_PREFIX, OnRay
from compiler.pipeline.options import Options, options_json
from compiler.spaces import Subnet
from compiler.store import Store
from profilers import CostTable, Plan, Program, Series, Session, Workload
from targets import Fingerprint, Target
from targets.errors import TargetError


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedFile:
    """A finished file to time: the network in it, its precision, and what identifies its content."""

    name: str
    subnet: Subnet
    precision: str
    sha256: str
    path: Path

    def to_json(self) -> dict[str, Any]:
        """Everything but where it lies here."""
        return {
            "name": self.name,
            "subnet": self.subnet.to_json(),
            "precision": self.precision,
            "sha256": self.sha256,
            "file": self.path.name,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], folder: Path) -> "TimedFile":
        """Inverse of `to_json`, its content unpacked in a folder."""
        return cls(
            name=data["name"], subnet=Subnet.from_json(data["subnet"]), precision=data["precision"],
            sha256=data["sha256"], path=folder / data["sha256"] / data["file"],
        )  # fmt: skip

    def publish(self, store: Store) -> None:
        """Put the file, and its weights beside it, into the store."""
        if store.get_arrays("file", self.sha256) is None:
            parts = [self.path, *self.path.parent.glob(f"{self.path.name}.data")]
            store.put_arrays("file", self.sha256, {part.name: np.fromfile(part, np.uint8) for part in parts})

    def unpack(self, store: Store) -> None:
        """Write what was published where `path` says. TargetError where the store no longer has it."""
        parts = store.get_arrays("file", self.sha256)
        if parts is None:
            raise TargetError(f"{self.name} is not in the store any more\nstart again with a larger --cache-size")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for name, content in parts.items():
            content.tofile(self.path.with_name(Path(name).name))


@dataclass(slots=True, kw_only=True)
class Elsewhere:
    """The runtime of a node's device. `source` is what its numbers are, `described` what it said of itself."""

    executor: OnRay
    options: Options
    target: Target
    name: str
    source: str
    described: Mapping[str, Any]

    def open(self, program: Program, workload: Workload) -> AbstractContextManager[Session]:
        """TargetError: no session of it can be opened from here."""
        raise TargetError(
            f"{self.target.name} is on another node: {program.name} cannot be run on it from here ({workload})"
        )

    def describe(self) -> dict[str, Any]:
        """What the node said of its runtime."""
        return dict(self.described)

    def profile(self) -> CostTable:
        """The table of all workloads of the run, measured on the node or read from the store."""
        (answer,) = self.executor.run([self._job("profile", {})])
        return CostTable.from_json(answer)

    def time(
        self, files: Sequence[TimedFile], reference: TimedFile, store: Store, workload: Workload, plan: Plan, seed: int
    ) -> dict[str, Series]:
        """Series of files, by name, timed on the node in turns with the reference."""
        for file in (reference, *files):
            file.publish(store)
        body = {
            "files": [file.to_json() for file in files],
            "reference": reference.to_json(),
            "workload": workload.to_json(),
            "plan": asdict(plan),
            "seed": seed,
        }
        (answer,) = self.executor.run([self._job("time", body)])
        return {name: Series.from_json(series) for name, series in answer.items()}

    def _job(self, kind: str, body: Mapping[str, Any]) -> Job:
        return node_job(kind, self.options, self.target, body)


def node_job(kind: str, options: Options, target: Target, body: Mapping[str, Any]) -> Job:
    """A job for a node that is the target, which has its device alone."""
    return Job(
        kind=kind,
        body={"options": options_json(options), **body},
        threads=1,
        needs={f"{NODE_PREFIX}{target.name}": 1.0},
    )


def find_elsewhere(executor: OnRay, options: Options, target: Target) -> tuple[Elsewhere, Fingerprint]:
    """The runtime of a node that is the target, and the node's fingerprint.

    TargetError where no node is, naming those there are.
    """
    there = executor.targets_there()
    if target.name not in there:
        named = ", ".join(f"{name} ({count})" for name, count in there.items()) or "none"
        raise TargetError(
            f"{target.name} is not here, and no node of the cluster says that it is one\n"
            f"targets of its nodes: {named}\n"
            f"on such a machine: compile worker --target {target.name} --ray ADDRESS"
        )
    only_here = sorted({"memory", "energy"} & set(options.costs)) + (
        ["--space width"] if options.space == "width" else []
    )
    if only_here:
        raise TargetError(
            f"{only_here[0]} is measured on the machine that compiles, and {target.name} is a node of the cluster\n"
            "leave it out, or run on that machine"
        )
    (answer,) = executor.run([node_job("identify", options, target, {})])
    runtime = Elsewhere(
        executor=executor, options=options, target=target, name=answer["runtime"], source=answer["source"],
        described=answer["described"],
    )  # fmt: skip
    return runtime, Fingerprint.from_json(answer["fingerprint"])
