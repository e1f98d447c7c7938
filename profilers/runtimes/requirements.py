"""The oldest versions that serve what paretoc exports, and the check of what is here."""

import re
from dataclasses import dataclass

from targets import Nvml
from targets.errors import TargetError


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """Versions from `minimum` on, up to but without `below`, and the line that installs one."""

    name: str
    minimum: str
    below: str | None = None
    install: str

    def check(self, found: str | None) -> None:
        """TargetError where the version found is none of these, or None."""
        if found is None or _older(found, self.minimum) or (self.below and not _older(found, self.below)):
            wanted = f"{self.minimum} or newer" + (f", below {self.below}" if self.below else "")
            raise TargetError(f"{self.name} {wanted} is needed, found {found or 'none'}\ninstall it: {self.install}")


# ONNX Runtime's release notes: 1.23 is the first with a kernel for the standard Attention operator of opset 23
ONNX_RUNTIME = Requirement(name="ONNX Runtime", minimum="1.23", install="pip install 'paretoc[cpu]'")

# microsoft/onnxruntime, pull requests 27428 and 27542: before 1.25 the CUDA kernel of Attention refuses boolean masks.
# Both packages fill one folder, so the other one has to go first.
ONNX_RUNTIME_GPU = Requirement(
    name="ONNX Runtime with CUDA",
    minimum="1.25",
    install="pip uninstall -y onnxruntime onnxruntime-gpu; pip install 'paretoc[gpu]'",
)


def tensorrt(cuda: str) -> Requirement:
    """TensorRT for the CUDA version that ONNX Runtime was built with.

    TensorRT's release notes: the ONNX parser has Attention from 10.14 on. ONNX Runtime up to 1.31 links libnvinfer.so.10.
    """
    return Requirement(
        name="TensorRT", minimum="10.14", below="11", install=f"pip install 'tensorrt-cu{_major(cuda)}>=10.14,<11'"
    )


# NVIDIA, CUDA Compatibility, minor version compatibility: the oldest driver of each CUDA major version that is served
_DRIVERS = {12: "525", 13: "580"}


def check_driver(cuda: str, nvml: Nvml) -> None:
    """TargetError where the NVIDIA driver is older than a library built with this CUDA version needs, or that is too old."""
    if _major(cuda) < min(_DRIVERS):
        raise TargetError(
            f"CUDA {min(_DRIVERS)} or newer is needed, this package is built with {cuda}\n"
            "install packages that are built with a newer CUDA"
        )
    found, minimum = nvml.driver_version(), _DRIVERS.get(_major(cuda), max(_DRIVERS.values()))
    if found is None or _older(found, minimum):
        raise TargetError(
            f"CUDA {cuda} needs an NVIDIA driver {minimum} or newer, found {found or 'none'}\n"
            "update the driver, or install packages that are built with an older CUDA"
        )


def _major(version: str) -> int:
    return _numbers(version)[0]


def _older(version: str, minimum: str) -> bool:
    return _numbers(version) < _numbers(minimum)


def _numbers(version: str) -> tuple[int, ...]:
    """`1.23.2+cpu` is (1, 23, 2)."""
    digits = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in digits[0].split(".")) if digits else (0,)
