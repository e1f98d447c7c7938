"""Stage "measure": what the finished files take on the device, and the device's own best rates."""

from collections.abc import Mapping, Sequence
from typing import Any

from compiler.pipeline import file_times
from compiler.pipeline.device import Device
from compiler.pipeline.networks import Exported, Measured
from compiler.pipeline.pricing import Pricing
from compiler.pipeline.stages.context import Context
from profilers import Series
from profilers.peak import Peak, measure_peak


def measure(
    context: Context, device: Device, pricing: Pricing, effort: str, exported: Sequence[Exported]
) -> tuple[Measured, ...]:
    """The networks with timings and whatever else the run asked for; the dense one comes first.

    Nothing is measured where the target is not here, and times alone on the null device.
    """
    series: Mapping[str, Series] = {}
    resources: Mapping[str, tuple[int | None, float | None]] = {}
    rates: Mapping[str, tuple[int, float]] = {}
    if device.here:
        with context.stages("measure artefacts"):
            series = file_times.measure_latency(exported, context, device, effort)
    wanted = context.options.costs if device.has_clock else ()
    alone = sorted({"memory", "energy"} & set(wanted))
    if alone:
        with context.stages(f"measure {' and '.join(alone)}"):
            resources = file_times.measure_resources(exported, context, device, alone)
    if "throughput" in wanted:
        with context.stages("measure throughput"):
            rates = file_times.measure_throughput(exported, context, device, pricing)
    return tuple(_measured(network, series, resources, rates) for network in exported)


def _measured(
    network: Exported,
    series: Mapping[str, Series],
    resources: Mapping[str, tuple[int | None, float | None]],
    rates: Mapping[str, tuple[int, float]],
) -> Measured:
    memory_bytes, energy_j = resources.get(network.id, (None, None))
    batch, throughput_per_s = rates.get(network.id, (None, None))
    return network.measured(
        series=series.get(network.id), memory_bytes=memory_bytes, energy_j=energy_j, batch=batch,
        throughput_per_s=throughput_per_s,
    )  # fmt: skip


def measure_grid(context: Context, device: Device, best: Exported, dense: Exported) -> tuple[dict[str, Any], ...]:
    """Speed-ups of the chosen network at other workloads, whatever the effort; none without a clock."""
    if not device.has_clock:
        return ()
    with context.stages("measure grid"):
        return file_times.measure_grid(best, dense, context, device)


def measure_device_peak(context: Context, device: Device) -> Peak | None:
    """The device's own best rates, where there is a device on this machine and a clock."""
    if not device.has_clock or device.elsewhere:
        return None
    with context.stages("measure device peak"):
        return measure_peak(device.target, device.workload.threads)
