"""What this device can do at best, measured here: large matrix products by several libraries, and large copies.

A time is put into context by it (Williams, Waterman, Patterson, "Roofline", CACM 52(4), 2009); no time is ever
predicted from it. Which library is the fastest depends on the processor: on some, PyTorch's product reaches less than half of
what oneDNN and ONNX Runtime do. So each is tried at several sides, and the best counts. Where a measured file moves its weights
faster than any copy (they stay in a cache that copies are too large for), the peak of memory is what that file reached. Where one
does more arithmetic than the peak allows, the peak was mismeasured: `method` says so, and no share of it is given.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from profilers.peak_products import Product, copies, products
from targets import STATIC, Target, present
from targets.errors import TargetError

_SIDES = {"cpu": (512, 1024, 2048), "gpu": (8192,), "null": (512, 1024, 2048)}
_COPY_BYTES = {"cpu": 1 << 27, "gpu": 1 << 30, "null": 1 << 27}
_LEAST_CALLS, _LEAST_S = 3, 0.2
_ROUNDING = 1 + 1e-9  # of a share that is one
_INT8 = frozenset({"int8", STATIC})


class Reached(NamedTuple):
    """A measured network: the arithmetic and traffic of a call, the precision it runs in, and the seconds that it took."""

    name: str
    operations: float
    traffic_bytes: float
    precision: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Best rates of a device on so many threads; `method` says how they were taken.

    `flops_per_s` is of float32, `half_flops_per_s` of fp16 and bf16 where the device has units for them, `int8_ops_per_s` of
    8-bit products in the runtime that serves, None where they were not measured. `mismeasured` are precisions whose rate a measured
    network exceeded.
    """

    flops_per_s: float
    bytes_per_s: float
    threads: int
    method: str
    half_flops_per_s: Mapping[str, float] = field(default_factory=dict)
    int8_ops_per_s: float | None = None
    mismeasured: frozenset[str] = frozenset()

    def rate(self, precision: str) -> float | None:
        """Operations a second at a precision; None where that of 8 bits is not known."""
        if precision in _INT8:
            return None if self.int8_ops_per_s is None else max(self.int8_ops_per_s, self.flops_per_s)
        return self.half_flops_per_s.get(precision, self.flops_per_s)

    def seconds(self, operations: float, traffic_bytes: float, precision: str = "fp32") -> float | None:
        """The least time for so much arithmetic and traffic, one hidden behind the other; None where the rate is not known."""
        rate = self.rate(precision)
        return None if rate is None else max(operations / rate, traffic_bytes / self.bytes_per_s)

    def share(self, run: Reached) -> float | None:
        """The least time for a network over the time that it took; None where the rate is not known, or is known to be too low."""
        least = self.seconds(run.operations, run.traffic_bytes, run.precision)
        if least is None or self._measured_as(run.precision) in self.mismeasured or least > _ROUNDING * run.seconds:
            return None
        return min(least / run.seconds, 1.0)

    def against(self, runs: Iterable[Reached]) -> "Peak":
        """The peak held against measured networks, after which `share` is of it what they reached; `method` says what they exceeded."""
        runs = [run for run in runs if self.rate(run.precision) is not None]
        moved, fastest = max(((run.traffic_bytes / run.seconds, run.name) for run in runs), default=(0.0, ""))
        above = {self._measured_as(run.precision): run.name for run in runs if self._exceeded_by(run)}
        told = [
            f"mismeasured: {name} did more arithmetic in {kind}, of which no share is given"
            for kind, name in above.items()
        ]
        if moved > self.bytes_per_s:
            told.append(f"memory is what {fastest} reached, which is more: weights may stay in a cache")
        return replace(
            self, bytes_per_s=max(moved, self.bytes_per_s), mismeasured=self.mismeasured | above.keys(), method="; ".join([self.method, *told])
        )  # fmt: skip

    def _exceeded_by(self, run: Reached) -> bool:
        rate = self.rate(run.precision)
        return rate is not None and run.operations / run.seconds > rate

    def _measured_as(self, precision: str) -> str:
        """The precision of the products that its rate was taken on."""
        if precision in _INT8:
            return "int8"
        return precision if precision in self.half_flops_per_s else "fp32"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `method` has said what was mismeasured."""
        return {name: value for name, value in asdict(self).items() if name != "mismeasured"}


class _Best(NamedTuple):
    """The fastest of several products of one precision: what it did, operations a second, and the side."""

    what: str
    rate: float
    side: int


def measure_peak(
    target: Target,
    threads: int,
    *,
    sides: tuple[int, ...] = (),
    copy_bytes: int | None = None,
    repeats: int | None = None,
) -> Peak:
    """The fastest of products [side, side] of several libraries and sides, and of copies, bytes read and written counted.

    Each is called `repeats` times, or as often as fits into a fifth of a second and three times at least. TargetError where the
    target is a GPU that PyTorch does not see.
    """
    import torch

    device = torch.device("cuda", _ordinal(target)) if target.kind == "gpu" else torch.device("cpu")
    sides, copy_bytes = sides or _SIDES[target.kind], copy_bytes or _COPY_BYTES[target.kind]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        best = _best_products(products(device, threads, _halves(target)), sides, device, repeats)
        copied, copy_s = min(
            ((name, _best_s(call, device, repeats)) for name, call in copies(device, copy_bytes)),
            key=lambda one: one[1],
        )
    finally:
        torch.set_num_threads(before)
    whole = best.pop("fp32")
    int8 = best.pop("int8", None)
    told = [f"fp32 product of side {whole.side} in {whole.what}"]
    told += [f"{name} product of side {one.side} in {one.what}" for name, one in best.items()]
    told += [] if int8 is None else [f"int8 product of side {int8.side} in {int8.what}"]
    return Peak(
        flops_per_s=whole.rate,
        half_flops_per_s={name: one.rate for name, one in best.items()},
        int8_ops_per_s=None if int8 is None else int8.rate,
        bytes_per_s=2 * copy_bytes / copy_s,
        threads=threads,
        method=f"the fastest of several: {', '.join(told)}; copy of {copy_bytes / 1e6:.0f} MB in {copied}",
    )


def _best_products(
    tried: Iterable[Product], sides: tuple[int, ...], device: Any, repeats: int | None
) -> dict[str, _Best]:
    """The fastest by precision; a library that does not run here is left out."""
    best: dict[str, _Best] = {}
    for product in tried:
        for side in sides:
            call = product.make(side)
            if call is None:
                break
            rate = 2 * side**3 / _best_s(call, device, repeats)
            if product.precision not in best or rate > best[product.precision].rate:
                best[product.precision] = _Best(product.library, rate, side)
    return best


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


def _best_s(call: Callable[[], Any], device: Any, repeats: int | None) -> float:
    """Seconds of the fastest call after one warm-up: noise only ever adds."""
    import torch

    def timed() -> float:
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    timed()
    if repeats is not None:
        return min(timed() for _ in range(repeats))
    taken = [timed() for _ in range(_LEAST_CALLS)]
    while sum(taken) < _LEAST_S:
        taken.append(timed())
    return min(taken)
