"""What every stage of one target's run is given beside its inputs."""

from dataclasses import dataclass

from compiler.export import ModelWorkbench
from compiler.pipeline.device import Device
from compiler.pipeline.monitor import Monitor, Notes, Stages
from compiler.pipeline.options import Options
from compiler.pipeline.resources import Resources
from compiler.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Options of the run, graphs to fill, the store, and whom to tell of stages and notes."""

    options: Options
    bench: ModelWorkbench
    store: Store
    stages: Stages
    notes: Notes

    @property
    def monitor(self) -> Monitor:
        """Told of progress."""
        return self.stages.monitor

    def resources(self, device: Device) -> Resources:
        """Memory and energy on a device."""
        return Resources(device=device, bench=self.bench, store=self.store, seed=self.options.seed)
