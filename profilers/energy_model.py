"""A network's energy from its latency and its operations: what the device draws while it runs, and what arithmetic adds."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from profilers.energy import EnergyMeter, measure_energy
from profilers.memory_model import counts_of
from profilers.program import Dimensions, Program, Workbench
from profilers.roofline import operation_counts
from profilers.runtimes import Runtime
from profilers.sizes import LayerSizes, Stack
from profilers.workload import Workload
from targets import Target

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyError:
    """How far predicted joules were from measured ones on networks the model never saw; shares, not percent."""

    check_nets: int
    mape: float
    max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyModel:
    """Joules a call: so many a call, so many a second that it lasts, so many an operation."""

    meter: str
    source: Literal["measured", "null"]
    call_j: float
    power_w: float
    operation_j: float
    error: EnergyError | None = None
    seconds: float = 0.0

    def joules(self, latency_s: Floats, operations: Floats) -> Floats:
        """Predicted joules a call [N] of networks of these latencies [N] and floating-point operations [N]."""
        return np.asarray(self.call_j + self.power_w * latency_s + self.operation_j * operations)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` inverts it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "EnergyModel":
        """Inverse of `to_json`."""
        return cls(**{**data, "error": EnergyError(**data["error"]) if data["error"] else None})


def assumed_energy(target: Target) -> EnergyModel:
    """The null device's: its board's power while a call lasts. No other device is given a figure that nobody measured."""
    return EnergyModel(
        meter="closed form", source="null", call_j=0.0, power_w=target.tdp_w or 1.0, operation_j=0.0
    )  # fmt: skip


def fit_stacks(dims: Dimensions) -> list[Stack]:
    """Networks to fit on: whole ones of four widths, halves of the depth, attention alone, FFN alone."""
    widths = [LayerSizes(*(max(size // n, 1) for size in dims.largest)) for n in (1, 2, 4, 8)]
    shallow = (
        *[dims.dense[0]] * max(dims.layers // 2, 1),
        *[LayerSizes(0, 0)] * (dims.layers - max(dims.layers // 2, 1)),
    )
    alone = [LayerSizes(dims.largest.heads, 0), LayerSizes(0, dims.ffn_units)]
    return [*((sizes,) * dims.layers for sizes in (*widths, *alone)), shallow]


def measure_joules(runtime: Runtime, program: Program, workload: Workload, meter: EnergyMeter) -> float:
    """Joules a call of one network, idle power included, the mean of several lengths. TargetError where the counter stands still."""
    asked = program.asked(workload)
    with runtime.open(program, asked) as session:
        joules = measure_energy(lambda: session.sample(1), meter).joules_per_call
    return joules / max(len(asked.lengths), 1)  # a sample is a call of each length


def measure_energy_model(
    runtime: Runtime,
    workload: Workload,
    workbench: Workbench,
    meter: EnergyMeter,
    dims: Dimensions,
    latency_s: Callable[[Sequence[Stack]], Floats],
    *,
    checks: Sequence[Stack] = (),
    progress: Callable[[float], None] = lambda _: None,
) -> EnergyModel:
    """Measure a few networks, fit, and take the model's own error on `checks`. TargetError as in `measure_joules`.

    `latency_s` gives the predicted seconds [N] of networks: what the model will be asked with.
    """
    from scipy.optimize import nnls

    start = time.monotonic()
    fitted = fit_stacks(dims)
    measured: list[float] = []
    for stack in (*fitted, *checks):
        measured.append(measure_joules(runtime, workbench(stack), workload, meter))
        progress(len(measured) / (len(fitted) + len(checks)))
    known, unseen = np.array(measured[: len(fitted)]), np.array(measured[len(fitted) :])
    features = _features(fitted, workload, dims, latency_s)
    scale = features.max(axis=0)
    solution, _ = nnls(features / scale / known[:, None], np.ones(len(known)))
    call_j, power_w, operation_j = map(float, solution / scale)
    model = EnergyModel(
        meter=meter.name, source="measured", call_j=call_j, power_w=power_w, operation_j=operation_j,
        seconds=time.monotonic() - start,
    )  # fmt: skip
    if not checks:
        return model
    off = np.abs(model.joules(*_features(checks, workload, dims, latency_s)[:, 1:].T) / unseen - 1)
    return replace(model, error=EnergyError(check_nets=len(off), mape=float(off.mean()), max=float(off.max())))


def _features(
    stacks: Sequence[Stack], workload: Workload, dims: Dimensions, latency_s: Callable[[Sequence[Stack]], Floats]
) -> Floats:
    counted = operation_counts(workload, dims, *counts_of(stacks))
    return np.column_stack([np.ones(len(stacks)), latency_s(stacks), counted])
