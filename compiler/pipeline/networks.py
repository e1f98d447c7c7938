"""A sub-network on its way through a run: evaluated, then a finalist, exported, measured. Each is the one before and more."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from compiler.evaluation import Changes, Quality
from compiler.export import Artifact
from compiler.spaces import Form, Subnet
from profilers import Series


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """A sub-network in one form, its quality on the search split, and its predicted costs by objective.

    Attributes:
        id: Its name in the run.
        quality: On the search split.
        costs: Predicted, by objective (`compiler.costing.Costs.of`): seconds, bytes, joules, seconds a sequence, weights.
        trained: Share of a full training that its weights have had, where they are its own.
    """

    id: str
    subnet: Subnet
    form: Form
    quality: Quality
    costs: Mapping[str, float]
    trained: float = 1.0

    @property
    def precision(self) -> str:
        """That of all sub-blocks but the form's exceptions."""
        return self.form.precision

    @property
    def latency_s(self) -> float:
        """Predicted latency of a call, in seconds."""
        return self.costs["latency"]

    @property
    def parameters(self) -> int:
        """How many weights it has."""
        return int(self.costs["params"])

    @property
    def blocks(self) -> int:
        """How many sub-blocks it has kept."""
        return sum(size > 0 for sizes in self.subnet.shape for size in sizes)

    def values(self) -> dict[str, Any]:
        """Its fields by name, for the next kind of network."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalist(Evaluated):
    """A network that is kept, with final weights, judged as it will be served.

    Attributes:
        read: Gives the final weights: those of all finalists together may not fit into memory.
        decisions: Classes by split, int64 [examples or words]; empty where the task decides on none.
        changes: Against the dense model's decisions, by split.
    """

    read: Callable[[], Mapping[str, Tensor]]
    validation: Quality
    test: Quality
    decisions: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    changes: Mapping[str, Changes] = field(default_factory=dict)

    def exported(self, artifact: Artifact) -> "Exported":
        """The network with its files."""
        return Exported(**self.values(), artifact=artifact)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported(Finalist):
    """A finalist with its files."""

    artifact: Artifact

    def with_artifact(self, **changes: Any) -> Self:
        """The network after something of its files changed: where they lie, or what lies beside them."""
        return replace(self, artifact=replace(self.artifact, **changes))

    def measured(self, **taken: Any) -> "Measured":
        """The network with what it was measured to take; nothing where the target is not here."""
        return Measured(**self.values(), **taken)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured(Exported):
    """An exported network with what its files take on the device.

    Attributes:
        series: Its timings in turns with the dense model's; None where the target is not here.
        memory_bytes: Peak of a process that serves it; None where the run did not ask, as the next three.
        energy_j: Joules of a call.
        throughput_per_s: Sequences a second at the batch that is predicted to give most, `batch`.
    """

    series: Series | None = None
    memory_bytes: int | None = None
    energy_j: float | None = None
    throughput_per_s: float | None = None
    batch: int | None = None

    @property
    def speedups(self) -> list[float]:
        """Dense over this network, block by block; empty where nothing was measured."""
        return [] if self.series is None else self.series.ratio_to_reference()

    @property
    def speedup(self) -> float | None:
        """Median speed-up over the dense model, the two alternating in one run."""
        return float(np.median(self.speedups)) if self.speedups else None

    @property
    def peak_bytes(self) -> float | None:
        """Peak of a process that serves it: measured, else predicted, where the run asked."""
        return self.memory_bytes or self.costs.get("memory")

    def percentile_s(self, percentile: str) -> float | None:
        """Measured latency percentile ("p50", ...), in seconds."""
        return None if self.series is None else self.series.pooled.percentile_s(float(percentile[1:]))
