"""Probes of the machine: system, processor, memory, disks, devices."""

import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from compiler.diagnosis.form import Cache, Devices, Gpu, Memory, Processor, System
from targets import GpuState, Target, TargetError, measure_fingerprint, survey, usable_cpus
from targets.fingerprint import cpu_name
from targets.nvml import open_nvml, visible_gpus

_CLOCK = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_CGROUP = Path("/sys/fs/cgroup")
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_MOST_ENTRIES = 100_000


def _line(path: Path) -> str | None:
    """The first line of a small file of the kernel's; None where there is none."""
    try:
        return path.read_text(encoding="ascii", errors="replace").split("\n", 1)[0].strip() or None
    except OSError:
        return None


def read_system() -> System:
    """Python and the operating system."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "clock_source": _line(_CLOCK),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "encoding": sys.stdout.encoding or "none",
        "offline": any(os.environ.get(name, "").lower() in {"1", "true", "yes", "on"} for name in _OFFLINE),
    }


def read_processor() -> Processor:
    """The processor and how much of it this process may use."""
    return {
        "name": cpu_name(),
        "count": os.cpu_count(),
        "usable": usable_cpus(),
        "quota": _quota(),
        "omp_threads": os.environ.get("OMP_NUM_THREADS"),
        "instruction_sets": list(measure_fingerprint(Target.parse("cpu")).isa),
        "governor": _line(_GOVERNOR),
    }


def _quota() -> float | None:
    """Processors that the control group grants; None where it sets no limit."""
    granted, _, period = (_line(_CGROUP / "cpu.max") or "max").partition(" ")
    return None if granted == "max" or not period else int(granted) / int(period)


def read_memory() -> Memory:
    """Main memory, by the kernel's own account."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    sizes = {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) > 1}
    limit = _line(_CGROUP / "memory.max")
    return {
        "total_bytes": sizes.get("MemTotal"),
        "available_bytes": sizes.get("MemAvailable"),
        "limit_bytes": int(limit) if limit and limit.isdecimal() else None,
    }


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that there is."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def free_bytes(folder: Path) -> int:
    """Room on the disk that a folder lies or would lie on."""
    return shutil.disk_usage(existing(folder)).free


def read_cache(folder: Path) -> Cache:
    """The cache folder: its size, and whether it can be written, tried without leaving anything."""
    entries, size = _size(folder)
    return {
        "folder": _without_home(folder),
        "entries": entries,
        "bytes": size,
        "cap_bytes": _cap(folder),
        "free_bytes": free_bytes(folder),
        "why_not": _why_not_writable(folder),
    }


def _size(folder: Path) -> tuple[int, int]:
    """Files and bytes below a folder, links not followed."""
    count = size = 0
    waiting = [folder] if folder.is_dir() else []
    while waiting and count < _MOST_ENTRIES:
        try:
            with os.scandir(waiting.pop()) as found:
                for entry in found:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    else:
                        count, size = count + 1, size + entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return count, size


def _cap(folder: Path) -> float | None:
    """The size that the cache is kept below, where the store has one."""
    from compiler.store import store

    cap = getattr(store, "default_cap", None)
    return None if cap is None else float(cap(existing(folder)))


def _why_not_writable(folder: Path) -> str | None:
    if folder.exists() and not folder.is_dir():
        return "it is a file"
    try:
        with tempfile.TemporaryFile(dir=existing(folder)):
            return None
    except OSError as error:
        return error.strerror or type(error).__name__


def _without_home(folder: Path) -> str:
    path, home = folder.expanduser().absolute(), Path.home()
    return str("~" / path.relative_to(home)) if path.is_relative_to(home) else str(path)


def read_devices() -> Devices:
    """Targets that are here, and the GPUs; a machine without a driver has none, and says why."""
    here = [row.target.name for row in survey() if row.presence]
    try:
        nvml = open_nvml()
        return {
            "targets": here, "gpus": [_gpu(state) for state in visible_gpus(nvml)], "driver": nvml.driver_version(),
            "cuda": nvml.cuda_version(), "why_none": None,
        }  # fmt: skip
    except TargetError as error:
        return {"targets": here, "gpus": [], "driver": None, "cuda": None, "why_none": str(error).splitlines()[0]}


def _gpu(state: GpuState) -> Gpu:
    return {
        "name": state.name,
        "memory_total_bytes": state.memory_total_bytes,
        "memory_used_bytes": state.memory_used_bytes,
        "throttle_reasons": [reason for reason in state.throttle_reasons or () if reason != "idle"],
        "other_processes": len(state.other_processes or ()),
        "mig": bool(state.mig),
    }


def read_traces() -> list[str]:
    """Names of the traces that crashes of this user left in the folder for temporary files, the last three, newest first."""
    found = [path for path in Path(tempfile.gettempdir()).glob("paretoc-trace-*.txt") if path.is_file()]
    own = [path for path in found if not hasattr(os, "getuid") or path.stat().st_uid == os.getuid()]
    return [path.name for path in sorted(own, key=lambda path: -path.stat().st_mtime)[:3]]
