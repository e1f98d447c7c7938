"""Memory, energy and throughput of a run: models to search on, measurements of the finished files."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from compiler.costing import CostModel, Costs
from compiler.export import ModelWorkbench
from compiler.export.files import inline
from compiler.pipeline.device import Device
from compiler.pipeline.measuring import check_shapes
from compiler.pipeline.monitor import part
from compiler.store import Store, key_of
from profilers import CostTable, Program, Stack, Workload
from profilers.energy import open_meter
from profilers.energy_model import EnergyModel, assumed_energy, measure_energy_model, measure_joules
from profilers.graph import Graph
from profilers.memory import measure_taken_bytes
from profilers.memory_model import (
    MemoryModel,
    NetworkBytes,
    measure_gpu_memory_model,
    measure_memory_model,
    modelled_memory,
)
from targets.errors import TargetError

CHECK_NETS = 6
PROCESSES = 2

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a run measures on its device beside latency, and where it keeps it."""

    device: Device
    bench: ModelWorkbench
    store: Store
    seed: int

    def costs(
        self,
        table: CostTable,
        wanted: Iterable[str],
        ceiling_s: float | None,
        progress: Progress,
        narrower: Sequence[CostTable] = (),
    ) -> dict[str, Costs]:
        """Costs by precision: latency from the table, and models of what else is wanted.

        `narrower` are tables of the same network at smaller widths.
        TargetError where the device cannot tell its memory or its energy.
        """
        device, architecture = self.device, self.bench.checkpoint.architecture
        latency = device.costs(table, narrower)
        batches = partial(device.batch_model, table, ceiling_s=ceiling_s, narrower=narrower)
        wanted, found = set(wanted), {}
        for i, (precision, model) in enumerate(latency.items()):
            own = 1 / len(latency) / max(len({"memory", "energy"} & wanted), 1)
            shares = [part(progress, (i / len(latency)) + j * own, own) for j in range(2)]

            found[precision] = Costs(
                architecture=architecture,
                latency=model,
                memory=self._memory(precision, shares[0]) if "memory" in wanted else None,
                energy=self._energy(model, precision, shares["memory" in wanted]) if "energy" in wanted else None,
                throughput=batches(precision) if "throughput" in wanted else None,
            )
        return found

    def _asked(self, precision: str) -> Workload:
        return replace(self.device.served, precision=precision)

    def _inputs(self, workload: Workload) -> Mapping[str, NDArray[Any]]:
        """The longest that is asked: what memory has to hold."""
        return self.bench.inputs(workload.batch, max(workload.lengths, default=workload.tokens))

    def _checks(self) -> list[Stack]:
        return check_shapes(
            self.bench.checkpoint.architecture, self.device.target.size_alignment, self.seed, CHECK_NETS
        )  # fmt: skip

    def _about(self, what: str, workload: Workload) -> str:
        return key_of([
            what, self.device.target.name, self.device.fingerprint.to_json(), workload.to_json(),
            repr(self.bench.dimensions), self.bench.checkpoint.digest, self.seed,
        ])  # fmt: skip

    def _memory(self, precision: str, progress: Progress) -> MemoryModel:
        workload = self._asked(precision)
        network = NetworkBytes(
            dimensions=self.bench.dimensions,
            stem_parameters=self.bench.checkpoint.architecture.stem_parameters,
            workload=workload,
        )
        target, runtime, fingerprint = self.device.target, self.device.runtime, self.device.fingerprint
        if runtime is None or runtime.source == "null":
            return modelled_memory(target, network, fingerprint)
        key = self._about("memory", workload)
        stored = self.store.get("memory", key)
        if stored is not None:
            return MemoryModel.from_json(stored)
        if target.kind == "cpu" and workload.runtime != "onnxruntime":
            raise TargetError(
                f"memory is not available: on a CPU it is measured in ONNX Runtime, not in {workload.runtime}\n"
                "leave memory out, or compile for --runtime onnxruntime"
            )
        if target.kind == "gpu":
            model = measure_gpu_memory_model(
                target, network, fingerprint, runtime, self.bench, checks=self._checks(), progress=progress
            )
        else:
            model = measure_memory_model(
                target, network, fingerprint, lambda stack, path: self._write(stack, path, precision),
                self._inputs(workload), checks=self._checks(), processes=PROCESSES, progress=progress,
            )  # fmt: skip
        return MemoryModel.from_json(self.store.put("memory", key, model.to_json()))

    def _write(self, stack: Stack, path: Path, precision: str) -> None:
        graph = self.bench(stack).graph(precision)
        assert isinstance(graph, Graph)  # noqa: S101  a stack has no file yet
        onnx.save_model(inline(graph), path)

    def _energy(self, latency: CostModel, precision: str, progress: Progress) -> EnergyModel:
        device, workload = self.device, self._asked(precision)
        if device.runtime is None:
            raise TargetError(
                f"energy is not available: {device.target.name} is not here, and nobody's counter can be read elsewhere\n"
                "leave energy out of --objectives, or run on the device"
            )
        if device.runtime.source == "null":
            return assumed_energy(device.target)
        key = self._about("energy", workload)
        stored = self.store.get("energy", key)
        if stored is not None:
            return EnergyModel.from_json(stored)
        model = measure_energy_model(
            device.runtime, workload, self.bench, open_meter(device.target), self.bench.dimensions,
            latency.of_stacks, checks=self._checks(), progress=progress,
        )  # fmt: skip
        return EnergyModel.from_json(self.store.put("energy", key, model.to_json()))

    def peak_bytes(self, program: Program, file: Path, precision: str) -> int | None:
        """Measured peak of a process that serves a finished file; on a GPU, what is taken of its memory."""
        runtime, workload = self.device.runtime, self._asked(precision)
        if runtime is None or runtime.source == "null":
            return None
        return measure_taken_bytes(
            file, program, self._inputs(workload), runtime, workload, self.device.target, processes=PROCESSES
        )

    def joules(self, program: Program, precision: str) -> float | None:
        """Measured joules a call of a finished file."""
        runtime = self.device.runtime
        if runtime is None or runtime.source == "null":
            return None
        return measure_joules(runtime, program, self._asked(precision), open_meter(self.device.target))


def model_errors(costs: Mapping[str, Costs]) -> dict[str, Any]:
    """The published errors of the models, by objective and precision; None where there was nothing to hold them against."""
    errors: dict[str, Any] = {}
    for precision, cost in costs.items():
        if cost.memory is not None:
            error = cost.memory.peak_error
            errors.setdefault("memory", {})[precision] = asdict(error) if error else None
        if cost.energy is not None:
            errors.setdefault("energy", {})[precision] = asdict(cost.energy.error) if cost.energy.error else None
    return errors
