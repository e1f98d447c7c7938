"""Watch a GPU while it is measured: one that is throttled or shared gives times that are not its own."""

from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from targets import Nvml, Target, open_nvml, present
from targets.errors import TargetError

# a power cap in software is how a GPU runs under full load, and is recorded only
_THROTTLED = (
    "hardware slowdown",
    "software thermal slowdown",
    "hardware thermal slowdown",
    "hardware power brake",
)


class GpuWatch:
    """Looks at a target's GPU when entered and when left, as often as that is, and keeps what it saw.

    It asks between measurements and never during one: a thread that asks takes time from what is timed.
    """

    def __init__(self, target: Target, nvml: Nvml | None = None) -> None:
        """TargetError where the target is not here, or is a slice of a GPU."""
        self.nvml = open_nvml() if nvml is None else nvml
        presence = present(target, self.nvml)
        if presence.gpu is None or presence.cuda_ordinal is None:
            raise TargetError(f"{target.name} is not here: {presence.reason}")
        self.gpu, self.ordinal = presence.gpu, presence.cuda_ordinal
        self.looks = 0
        self.reasons: Counter[str] = Counter()
        self.shared = 0
        self.clocks_mhz: list[int] = []

    def __enter__(self) -> Self:
        self.look()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.look()

    def look(self) -> None:
        """Take note of the GPU's state. TargetError where it is gone, another one, or cut into MIG slices."""
        state = self.nvml.state(self.gpu.index)
        if state.uuid != self.gpu.uuid:
            raise TargetError(f"GPU {self.gpu.index} is not the {self.gpu.name} any more that was measured\nrun again")
        if state.mig:
            raise TargetError(
                f"{state.name} is cut into MIG slices; a slice is not a whole GPU\nturn MIG off: nvidia-smi -mig 0"
            )
        self.looks += 1
        self.reasons.update(state.throttle_reasons or ())
        self.shared += _others(state.other_processes or ()) > 0
        if state.sm_clock_mhz is not None:
            self.clocks_mhz.append(state.sm_clock_mhz)

    @property
    def warnings(self) -> list[str]:
        """Why the times are not the device's own, a sentence each; empty where nothing was wrong."""
        found = [
            f"{self.gpu.name} was held back ({reason}) in {self.reasons[reason]} of {self.looks} looks at it: "
            "its times are too long"
            for reason in _THROTTLED
            if self.reasons[reason]
        ]
        if self.shared:
            found.append(
                f"other processes were on {self.gpu.name} in {self.shared} of {self.looks} looks at it: "
                "its times are not its own"
            )
        return found

    def seen(self) -> dict[str, Any]:
        """What was seen, as JSON values: looks, why clocks were below their maximum, the lowest and highest clock."""
        clocks = [min(self.clocks_mhz), max(self.clocks_mhz)] if self.clocks_mhz else []
        return {"looks": self.looks, "clock_reasons": dict(self.reasons), "sm_clock_mhz": clocks}


def _others(pids: tuple[int, ...]) -> int:
    """How many processes are not this one. In a container NVML gives ids of the host, this process's among them."""
    hidden = any(not Path(f"/proc/{pid}").exists() for pid in pids)
    return len(pids) - hidden
