"""What this device can do at best, measured here: a large matrix product and a large copy, in PyTorch.

A time is put into context by it (Williams, Waterman, Patterson, "Roofline", CACM 52(4), 2009); no time is ever
predicted from it. Products are of float32, on a GPU of its half-precision formats too, whose units are others. Copies are
larger than caches: weights that stay in a cache can beat the bandwidth, and integers can beat the float32 rate.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from targets import Target, present
from targets.errors import TargetError

_SIDE = {"cpu": 1024, "gpu": 8192, "null": 1024}
_COPY_BYTES = {"cpu": 1 << 27, "gpu": 1 << 30, "null": 1 << 27}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Best rates of a device on so many threads; `method` says how they were taken.

    `flops_per_s` is of float32, `half_flops_per_s` of fp16 and bf16 where the device has units for them.
    """

    flops_per_s: float
    bytes_per_s: float
    threads: int
    method: str
    half_flops_per_s: Mapping[str, float] = field(default_factory=dict)

    def seconds(self, operations: float, traffic_bytes: float, precision: str = "fp32") -> float:
        """The least time for so much arithmetic and traffic, one hidden behind the other."""
        rate = self.half_flops_per_s.get(precision, self.flops_per_s)
        return max(operations / rate, traffic_bytes / self.bytes_per_s)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def measure_peak(
    target: Target, threads: int, *, side: int | None = None, copy_bytes: int | None = None, repeats: int = 20
) -> Peak:
    """Best of `repeats` products of two matrices [side, side] a format and of as many copies, bytes read and written counted.

    TargetError where the target is a GPU that PyTorch does not see.
    """
    import torch

    device = torch.device("cuda", _ordinal(target)) if target.kind == "gpu" else torch.device("cpu")
    side, copy_bytes = side or _SIDE[target.kind], copy_bytes or _COPY_BYTES[target.kind]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        product_s, copy_s = _product_s(device, side, repeats, torch.float32), _copy_s(device, copy_bytes, repeats)
        halves = {name: _product_s(device, side, repeats, kind) for name, kind in _halves(target).items()}
    finally:
        torch.set_num_threads(before)
    return Peak(
        flops_per_s=2 * side**3 / product_s,
        half_flops_per_s={name: 2 * side**3 / seconds for name, seconds in halves.items()},
        bytes_per_s=2 * copy_bytes / copy_s,
        threads=threads,
        method=f"PyTorch {torch.__version__}, best of {repeats}: {' and '.join(['float32', *halves])} product of side {side}, "
        f"copy of {copy_bytes / 1e6:.0f} MB",
    )


def _ordinal(target: Target) -> int:
    import torch

    ordinal = present(target).cuda_ordinal
    if ordinal is None or not torch.cuda.is_available():
        raise TargetError(f"PyTorch {torch.__version__} sees no CUDA device to take the peak of {target.name} on")
    return ordinal


def _halves(target: Target) -> dict[str, Any]:
    """The half-precision formats that a GPU multiplies; a processor's are not served."""
    import torch

    kinds = {"fp16": torch.float16, "bf16": torch.bfloat16} if target.kind == "gpu" else {}
    return {name: kind for name, kind in kinds.items() if name in target.peak_flops_per_s}


def _product_s(device: Any, side: int, repeats: int, kind: Any) -> float:
    import torch

    left, right = (torch.rand(side, side, device=device).to(kind) for _ in range(2))
    answer = torch.empty_like(left)
    return _best_s(lambda: torch.mm(left, right, out=answer), device, repeats)


def _copy_s(device: Any, size_bytes: int, repeats: int) -> float:
    import torch

    source = torch.ones(size_bytes // 4, device=device)
    copy = torch.empty_like(source)
    return _best_s(lambda: copy.copy_(source), device, repeats)


def _best_s(call: Callable[[], Any], device: Any, repeats: int) -> float:
    """Seconds of the fastest call after one warm-up: noise only ever adds."""
    import torch

    def timed() -> float:
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    timed()
    return min(timed() for _ in range(repeats))
