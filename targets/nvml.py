"""NVML, the driver's own library, reduced to what a measurement has to know about a GPU."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from targets.errors import TargetError
from targets.target import Target

T = TypeVar("T")

# NVML's bits (nvmlClocksEventReasons*), by names that can be printed
_THROTTLE_REASONS = {
    0x001: "idle",
    0x002: "application clocks",
    0x004: "software power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "software thermal slowdown",
    0x040: "hardware thermal slowdown",
    0x080: "hardware power brake",
    0x100: "display clocks",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuState:
    """One GPU at one moment. A field is None where the driver or the board does not report it.

    Attributes:
        index: NVML's index of the GPU.
        name: NVML's name of it.
        uuid: NVML's identity of it.
        memory_total_bytes: Memory the driver shows.
        memory_used_bytes: Memory in use, by anyone.
        process_memory_bytes: Memory of this process; None too where the driver knows it by another id (containers).
        sm_clock_mhz: Present clock of the multiprocessors.
        sm_clock_max_mhz: Highest clock they may take.
        throttle_reasons: Why the clock is below its maximum; empty if nothing holds it down.
        power_w: Present board power.
        energy_j: Energy since the driver was loaded; differences of it are what a run has used.
        other_processes: Process ids computing on the GPU, this one's left out. In a container NVML gives the host's
            ids, so this process may be among them.
        mig: Whether the GPU is cut into MIG slices.
    """

    index: int
    name: str
    uuid: str | None = None
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    process_memory_bytes: int | None = None
    sm_clock_mhz: int | None = None
    sm_clock_max_mhz: int | None = None
    throttle_reasons: tuple[str, ...] | None = None
    power_w: float | None = None
    energy_j: float | None = None
    other_processes: tuple[int, ...] | None = None
    mig: bool | None = None


class Nvml(Protocol):
    """What paretoc asks of NVML; a test puts its own in place."""

    def driver_version(self) -> str | None:
        """The driver's version, as `570.124.06`."""

    def cuda_version(self) -> str | None:
        """The newest CUDA the driver serves, as `12.8`."""

    def device_count(self) -> int:
        """How many GPUs the driver sees."""

    def state(self, index: int) -> GpuState:
        """The GPU at `index`, now; TargetError where it does not answer any more."""


def open_nvml() -> Nvml:
    """NVML of this machine. It stays open until the process ends: opening is counted and costs nothing twice.

    Raises:
        TargetError: The Python binding or the driver is missing; the message says which.
    """
    try:
        import pynvml
    except ImportError:
        raise TargetError("NVML is missing: install it with `pip install nvidia-ml-py`") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        updated = error.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
        advice = "\nthe driver was updated under the running system: restart the machine" if updated else ""
        raise TargetError(f"no NVIDIA driver answers here ({error}){advice}") from None
    return _DriverNvml(pynvml)


def visible_gpus(nvml: Nvml) -> list[GpuState]:
    """The GPUs that CUDA programs started from here see, in the order of `CUDA_VISIBLE_DEVICES`.

    An entry that names no GPU ends the list, as in CUDA. On a machine with different GPUs the order is CUDA's own
    only under `CUDA_DEVICE_ORDER=PCI_BUS_ID`.
    """
    states = [nvml.state(index) for index in range(nvml.device_count())]
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return states
    chosen = []
    for entry in wanted.split(","):
        state = next((s for s in states if _is_named(s, entry.strip())), None)
        if state is None:
            break
        chosen.append(state)
    return chosen


def find_gpu(target: Target, nvml: Nvml) -> GpuState:
    """The first visible GPU that is `target`.

    Raises:
        TargetError: None is; the message says what is there instead.
    """
    states = visible_gpus(nvml)
    matches = [s for s in states if target.recognises(s.name)]
    whole = next((s for s in matches if not s.mig), None)
    if whole is not None:
        return whole
    if matches:
        raise TargetError(f"{matches[0].name} is cut into MIG slices; a slice is not a {target.name}")
    if states:
        raise TargetError(f"NVML sees {_listed(states)}, which is not the catalogue's {target.name}")
    if nvml.device_count():
        raise TargetError("CUDA_VISIBLE_DEVICES hides every GPU")
    raise TargetError("the NVIDIA driver sees no GPU")


def gpu_state(index: int = 0, nvml: Nvml | None = None) -> GpuState:
    """The GPU at NVML's `index`, now.

    Raises:
        TargetError: NVML is missing, or there is no such GPU.
    """
    nvml = open_nvml() if nvml is None else nvml
    count = nvml.device_count()
    if not 0 <= index < count:
        raise TargetError(f"no GPU has the index {index}; the driver sees {count}")
    return nvml.state(index)


def _is_named(state: GpuState, entry: str) -> bool:
    return entry == str(state.index) or (entry.startswith("GPU-") and (state.uuid or "").startswith(entry))


def _listed(states: list[GpuState]) -> str:
    return ", ".join(dict.fromkeys(s.name for s in states))


class _DriverNvml:
    """`Nvml` on the pynvml module; whatever a board does not support is None."""

    def __init__(self, pynvml: Any) -> None:
        self._pynvml = pynvml

    def driver_version(self) -> str | None:
        return self._optional(lambda: _text(self._pynvml.nvmlSystemGetDriverVersion()))

    def cuda_version(self) -> str | None:
        number = self._optional(lambda: int(self._pynvml.nvmlSystemGetCudaDriverVersion_v2()))
        return None if number is None else f"{number // 1000}.{number % 1000 // 10}"

    def device_count(self) -> int:
        return int(self._pynvml.nvmlDeviceGetCount())

    def state(self, index: int) -> GpuState:
        nvml, optional = self._pynvml, self._optional
        gpu, name = self._answered(index)
        memory = optional(lambda: nvml.nvmlDeviceGetMemoryInfo(gpu))
        return GpuState(
            index=index,
            name=name,
            uuid=optional(lambda: _text(nvml.nvmlDeviceGetUUID(gpu))),
            memory_total_bytes=None if memory is None else int(memory.total),
            memory_used_bytes=None if memory is None else int(memory.used),
            process_memory_bytes=optional(lambda: self._process_memory_bytes(gpu)),
            sm_clock_mhz=optional(lambda: int(nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM))),
            sm_clock_max_mhz=optional(lambda: int(nvml.nvmlDeviceGetMaxClockInfo(gpu, nvml.NVML_CLOCK_SM))),
            throttle_reasons=self._throttle_reasons(gpu),
            power_w=optional(lambda: nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3),
            energy_j=optional(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1e3),
            other_processes=optional(lambda: self._other_processes(gpu)),
            mig=optional(lambda: nvml.nvmlDeviceGetMigMode(gpu)[0] == nvml.NVML_DEVICE_MIG_ENABLE),
        )

    def _answered(self, index: int) -> tuple[Any, str]:
        """The GPU's handle and name, which every GPU gives that is still there."""
        try:
            gpu = self._pynvml.nvmlDeviceGetHandleByIndex(index)
            return gpu, _text(self._pynvml.nvmlDeviceGetName(gpu))
        except self._pynvml.NVMLError as error:
            raise TargetError(f"GPU {index} does not answer ({error})\nsee nvidia-smi and the system's log") from None

    def _optional(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except self._pynvml.NVMLError:
            return None

    def _throttle_reasons(self, gpu: Any) -> tuple[str, ...] | None:
        bits = self._optional(lambda: int(self._pynvml.nvmlDeviceGetCurrentClocksEventReasons(gpu)))
        if bits is None:  # drivers before 535 know the call by its old name only
            bits = self._optional(lambda: int(self._pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)))
        return None if bits is None else tuple(name for bit, name in _THROTTLE_REASONS.items() if bits & bit)

    def _process_memory_bytes(self, gpu: Any) -> int | None:
        running = self._pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)
        own = next((p for p in running if int(p.pid) == os.getpid()), None)
        used: int | None = getattr(own, "usedGpuMemory", None)
        return used

    def _other_processes(self, gpu: Any) -> tuple[int, ...]:
        running = self._pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)
        return tuple(sorted({int(p.pid) for p in running} - {os.getpid()}))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
