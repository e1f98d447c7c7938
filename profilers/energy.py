"""Energy per call, from counters that the device has: NVML's on a GPU, RAPL's on a processor. Never an estimate.

A counter is of the whole device: whatever else ran on it in the meantime is in its figure.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from targets import Nvml, Target, open_nvml
from targets.errors import TargetError
from targets.nvml import find_gpu

POWERCAP = Path("/sys/class/powercap")

_TICK_TIMEOUT_S = 5.0


class EnergyMeter(Protocol):
    """A counter of energy; only differences of it mean something."""

    name: str
    """The counter and the device it is of, for reports."""

    def joules(self) -> float:
        """Energy since a moment that never changes."""


class NvmlMeter:
    """NVML's total energy counter of one GPU (Volta and newer)."""

    def __init__(self, nvml: Nvml, index: int) -> None:
        self.nvml, self.index = nvml, index
        self.name = f"NVML energy counter of GPU {index}"

    def joules(self) -> float:
        """Energy since the driver was loaded."""
        energy_j = self.nvml.state(self.index).energy_j
        if energy_j is None:
            raise TargetError(f"energy is not available: the {self.name} cannot be read")
        return energy_j


class RaplMeter:
    """The processor packages of Linux's powercap tree, summed; AMD's are under the same names as Intel's.

    A counter wraps around after its range (some minutes at full power): read it more often than that.
    """

    def __init__(self, domains: Sequence[Path]) -> None:
        self.name = f"RAPL, {' + '.join(_text(domain / 'name') for domain in domains)}"
        self._files = [domain / "energy_uj" for domain in domains]
        self._ranges_uj = [int(_text(domain / "max_energy_range_uj")) for domain in domains]
        self._last_uj = [int(_text(file)) for file in self._files]
        self._total_uj = 0

    def joules(self) -> float:
        """Energy since this meter was opened."""
        now_uj = [int(_text(file)) for file in self._files]
        for now, last, span in zip(now_uj, self._last_uj, self._ranges_uj, strict=True):
            self._total_uj += (now - last) % span
        self._last_uj = now_uj
        return self._total_uj / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyUse:
    """Energy of `calls` calls in a row. `idle_w` is the device's power before them, None where it was not measured."""

    meter: str
    calls: int
    seconds: float
    joules: float
    idle_w: float | None

    @property
    def joules_per_call(self) -> float:
        """All energy of the window, idle power included."""
        return self.joules / self.calls

    @property
    def joules_per_call_above_idle(self) -> float | None:
        """What the calls took more than an idle device would have; None where idle power was not measured."""
        return None if self.idle_w is None else (self.joules - self.idle_w * self.seconds) / self.calls


def open_meter(target: Target, nvml: Nvml | None = None, powercap: Path = POWERCAP) -> EnergyMeter:
    """The energy counter of a device that is here.

    Raises:
        TargetError: It has none, or it may not be read; the message says `not available` and why.
    """
    try:
        if target.kind == "gpu":
            return _nvml_meter(target, open_nvml() if nvml is None else nvml)
        if target.kind == "cpu":
            return _rapl_meter(powercap)
    except TargetError as error:
        raise TargetError(f"energy is not available: {error}") from None
    raise TargetError(f"energy is not available: {target.name} has no counter")


def measure_energy(
    call: Callable[[], object],
    meter: EnergyMeter,
    *,
    window_s: float = 1.0,
    updates: int = 50,
    warmup: int = 3,
    idle_s: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> EnergyUse:
    """Energy of `call`, repeated over `window_s` or `updates` steps of the counter, whichever is longer.

    `call` returns when the device has answered. With `idle_s` the device's idle power is taken first, over that long.
    TargetError where the counter stands still.
    """
    idle_w = _idle_w(meter, idle_s, clock, sleep) if idle_s else None
    for _ in range(warmup):
        call()
    window_s = max(window_s, updates * _step_s(meter, clock))
    start_j, start, calls = meter.joules(), clock(), 0
    while clock() - start < window_s:
        call()
        calls += 1
    seconds = clock() - start
    return EnergyUse(meter=meter.name, calls=calls, seconds=seconds, joules=meter.joules() - start_j, idle_w=idle_w)


def _idle_w(meter: EnergyMeter, seconds: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> float:
    start_j, start = meter.joules(), clock()
    sleep(seconds)
    return (meter.joules() - start_j) / (clock() - start)


def _step_s(meter: EnergyMeter, clock: Callable[[], float]) -> float:
    """Seconds between two steps of the counter; returns right after a step."""
    _next_step(meter, clock)
    start = clock()
    _next_step(meter, clock)
    return clock() - start


def _next_step(meter: EnergyMeter, clock: Callable[[], float]) -> None:
    first, deadline = meter.joules(), clock() + _TICK_TIMEOUT_S
    while meter.joules() == first:
        if clock() > deadline:
            raise TargetError(f"energy is not available: the {meter.name} did not move for {_TICK_TIMEOUT_S:.0f} s")


def _nvml_meter(target: Target, nvml: Nvml) -> NvmlMeter:
    gpu = find_gpu(target, nvml)
    if gpu.energy_j is None:
        raise TargetError(f"NVML reports no energy counter of {gpu.name}")
    return NvmlMeter(nvml, gpu.index)


def _rapl_meter(powercap: Path) -> RaplMeter:
    """Packages only: cores are counted in them, `psys` and `intel-rapl-mmio` count them again, memory stands apart."""
    domains = [d for d in sorted(powercap.glob("intel-rapl:*")) if _text(d / "name").startswith("package")]
    if not domains:
        raise TargetError(f"there is no processor package under {powercap}")
    try:
        return RaplMeter(domains)
    except OSError as error:
        raise TargetError(
            f"{error.filename} cannot be read ({error.strerror})\n"
            f"allow it: sudo chmod a+r {powercap}/intel-rapl:*/energy_uj"
        ) from None


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()
