"""What a device or a clock does wrong, as errors that a user can read."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager

from profilers.program import Program
from profilers.runtimes.interface import OutOfMemoryError
from profilers.workload import Workload
from targets.errors import TargetError

# PyTorch, ONNX Runtime's arenas, the C++ library, cuBLAS and cuDNN, TensorRT: each says it in its own words
_NO_MEMORY = re.compile(
    r"out ?of ?memory|can't allocate memory|failed to allocate memory|smaller than requested bytes|bad_alloc|ALLOC_FAILED",
    re.IGNORECASE,
)
_DEVICE = re.compile(r"(CUDA|CUDNN|CUBLAS|cuBLAS|cuDNN) (error|failure)[^;\n]*")


@contextmanager
def device_faults(program: Program, workload: Workload) -> Iterator[None]:
    """Raises OutOfMemoryError and TargetError for what runtimes raise when memory runs out or a GPU fails."""
    try:
        yield
    except TargetError:
        raise
    except Exception as error:
        if lacks_memory(error):
            raise OutOfMemoryError(
                f"{program.name} does not fit into the device's memory at batch {workload.batch}, "
                f"{workload.tokens} tokens, {workload.precision}\nask for less: --batch, --seq-len"
            ) from None
        fault = _DEVICE.search(str(error))
        if fault is not None:
            raise TargetError(
                f"the GPU failed while {program.name} ran ({fault[0].strip()})\n"
                "see nvidia-smi and the system's log, then run again: a run goes on where it was"
            ) from None
        raise


def lacks_memory(error: BaseException) -> bool:
    """Whether a runtime says that memory ran out."""
    return isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) is not None


def said(error: BaseException) -> str:
    """The first line of a runtime's error, without its code and without the host name that CUDA errors end with."""
    return re.sub(r"^(\[\w+\] : \d+ : \w+ : )+", "", (str(error).splitlines() or [""])[0]).split(" ; ")[0].strip()


def checked(samples_s: list[float]) -> list[float]:
    """The samples; TargetError where one is negative or no number."""
    wrong = next((s for s in samples_s if not (s >= 0 and math.isfinite(s))), None)
    if wrong is not None:
        raise TargetError(
            f"a call took {wrong * 1000:.3f} ms by the clock of this machine, which went backwards\n"
            "measure where the clock is steady: virtual machines that are moved or paused are not"
        )
    return samples_s
