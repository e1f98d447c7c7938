"""What was really there when something was measured: read from the machine, never from the catalogue."""

import os
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

from targets.errors import InputError
from targets.nvml import Nvml, find_gpu, open_nvml
from targets.target import FrozenMap, Kind, Target

# one library may come in several distributions; the first that is installed counts
_LIBRARIES = {
    "torch": ("torch",),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime"),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "onnx": ("onnx",),
    "onnxscript": ("onnxscript",),
    "transformers": ("transformers",),
    "optimum": ("optimum",),
    "numpy": ("numpy",),
    "paretoc": ("paretoc",),
}
_RUNTIMES = ("onnxruntime", "tensorrt", "torch")

# instruction sets that decide which matrix kernels a runtime picks: x86 by /proc/cpuinfo's names, then Arm's
_ISA = (
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """The device and the software of one measurement. It holds no host name, no user and no path.

    Attributes:
        device_name: The processor's or the driver's own name of the device.
        kind: `cpu`, `gpu` or `null`.
        driver: Version of the GPU driver, or None.
        cuda: Newest CUDA version the driver serves, or None.
        libraries: Versions of the installed libraries, by name.
        threads: Threads the runtime was given; None on a GPU unless asked for, and where they were several numbers.
        clock_mhz: Highest clock where the system tells it, else the present one; None if it tells neither.
        cpu_count: Processors this process may use.
        isa: Instruction sets of the processor that decide which kernels are chosen.
        python: Version of Python.
        platform: Operating system and machine, as `Linux-x86_64`.
    """

    device_name: str
    kind: Kind
    driver: str | None
    cuda: str | None
    libraries: FrozenMap[str]
    threads: int | None
    clock_mhz: int | None
    cpu_count: int | None
    isa: tuple[str, ...]
    python: str | None
    platform: str | None

    def to_json(self) -> dict[str, Any]:
        """The fingerprint as plain JSON values; `Fingerprint.from_json` inverts it."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return plain | {"libraries": dict(sorted(self.libraries.items())), "isa": list(self.isa)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Fingerprint":
        """The fingerprint that `to_json` wrote.

        Raises:
            InputError: A field is missing, unknown or of the wrong type.
        """
        _check_fields(data, {field.name for field in fields(cls)})
        return cls(**{**data, "libraries": FrozenMap(data["libraries"]), "isa": tuple(data["isa"])})

    def differences(self, here: "Fingerprint", *, runtime: str | None = None) -> list[str]:
        """Why costs measured under `self` do not hold under `here`, one readable line each; empty if they do.

        Compared are the kind and name of the device, the runtime's version up to its minor number and, on a CPU,
        instruction sets and, if it was one number, threads, on a GPU the driver's and CUDA's major versions. The rest is
        recorded only.

        Args:
            here: The fingerprint to use the costs under.
            runtime: The runtime that was measured; None compares all that either side has.
        """
        pairs = [("kind of device", self.kind, here.kind), ("device", self.device_name, here.device_name)]
        if self.kind == here.kind == "gpu":
            pairs += [
                ("driver", _release(self.driver, 1), _release(here.driver, 1)),
                ("CUDA", _release(self.cuda, 1), _release(here.cuda, 1)),
            ]
        if self.kind == here.kind == "cpu":
            pairs.append(("instruction sets", _joined(self.isa), _joined(here.isa)))
            if self.threads is not None:
                pairs.append(("threads", str(self.threads), str(here.threads)))
        for name in _RUNTIMES if runtime is None else (runtime,):
            pairs.append((name, _release(self.libraries.get(name), 2), _release(here.libraries.get(name), 2)))
        return [f"{what}: measured with {then}, here is {now}" for what, then, now in pairs if then != now]


def measure_fingerprint(target: Target, threads: int | None = None, nvml: Nvml | None = None) -> Fingerprint:
    """What is here, for measurements on `target`.

    Args:
        target: The device that is measured.
        threads: Threads the runtime is given; on a CPU None stands for all usable ones.
        nvml: NVML to ask about a GPU; this machine's if None.

    Raises:
        TargetError: `target` is a GPU that is not here.
    """
    if target.kind == "null":
        return _null_fingerprint(threads)
    if target.kind == "cpu":
        threads = usable_cpus() if threads is None else threads
        return _host_fingerprint("cpu", cpu_name(), threads=threads, clock_mhz=_cpu_clock_mhz())
    nvml = open_nvml() if nvml is None else nvml
    gpu = find_gpu(target, nvml)
    return _host_fingerprint(
        "gpu",
        gpu.name,
        threads=threads,
        clock_mhz=gpu.sm_clock_max_mhz or gpu.sm_clock_mhz,
        driver=nvml.driver_version(),
        cuda=nvml.cuda_version(),
    )


def cpu_name() -> str:
    """The processor's name, with its family and model where Linux tells them: clouds hide the full name."""
    info = _cpuinfo()
    name = info.get("model name") or platform.processor() or platform.machine() or "unknown processor"
    if "cpu family" in info and "model" in info:
        return f"{name} (family {info['cpu family']}, model {info['model']})"
    return name


def usable_cpus() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _null_fingerprint(threads: int | None) -> Fingerprint:
    """The same on every machine: results on the null device depend on nothing that is here."""
    return Fingerprint(
        device_name="null",
        kind="null",
        driver=None,
        cuda=None,
        libraries=FrozenMap({}),
        threads=threads,
        clock_mhz=None,
        cpu_count=None,
        isa=(),
        python=None,
        platform=None,
    )


def _host_fingerprint(
    kind: Kind,
    device_name: str,
    *,
    threads: int | None,
    clock_mhz: int | None,
    driver: str | None = None,
    cuda: str | None = None,
) -> Fingerprint:
    return Fingerprint(
        device_name=device_name,
        kind=kind,
        driver=driver,
        cuda=cuda,
        libraries=FrozenMap(_library_versions()),
        threads=threads,
        clock_mhz=clock_mhz,
        cpu_count=usable_cpus(),
        isa=_isa(),
        python=platform.python_version(),
        platform=f"{platform.system()}-{platform.machine()}",
    )


def _library_versions() -> dict[str, str]:
    found = {name: _first_version(distributions) for name, distributions in _LIBRARIES.items()}
    return {name: version for name, version in found.items() if version is not None}


def _first_version(distributions: Iterable[str]) -> str | None:
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _cpuinfo(path: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo; empty where there is no such file."""
    try:
        first = path.read_text(encoding="utf-8", errors="replace").split("\n\n", maxsplit=1)[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _isa() -> tuple[str, ...]:
    info = _cpuinfo()
    flags = (info.get("flags") or info.get("Features") or "").split()
    return tuple(name for name in _ISA if name in flags)


def _cpu_clock_mhz(sysfs: Path = Path("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")) -> int | None:
    try:
        return int(sysfs.read_text(encoding="ascii")) // 1000
    except (OSError, ValueError):
        present = re.match(r"\d+", _cpuinfo().get("cpu MHz", ""))
        return int(present[0]) if present else None


def _release(version: str | None, parts: int) -> str:
    """`1.23.2+cpu` to two parts is `1.23`; a version that is not there is `none`."""
    numbers = re.match(r"\d+(\.\d+)*", version or "")
    return ".".join(numbers[0].split(".")[:parts]) if numbers else version or "none"


def _joined(names: Iterable[str]) -> str:
    return " ".join(names) or "none"


_TEXTS = {"driver", "cuda", "python", "platform"}
_NUMBERS = {"threads", "clock_mhz", "cpu_count"}


def _check_fields(data: Mapping[str, Any], known: set[str]) -> None:
    if not isinstance(data, Mapping) or set(data) != known:
        got = ", ".join(sorted(data)) if isinstance(data, Mapping) else repr(data)
        raise InputError(f"not a fingerprint: expected the fields {', '.join(sorted(known))}; got {got}.")
    for name, value in data.items():
        if not _has_type(name, value):
            raise InputError(f"not a fingerprint: {name} cannot be {value!r}.")


def _has_type(name: str, value: object) -> bool:
    if name in _TEXTS:
        return value is None or isinstance(value, str)
    if name in _NUMBERS:
        return value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0)
    if name == "libraries":
        return isinstance(value, Mapping) and all(isinstance(x, str) for pair in value.items() for x in pair)
    if name == "isa":
        return isinstance(value, list) and all(isinstance(x, str) for x in value)
    return value in get_args(Kind) if name == "kind" else isinstance(value, str)
