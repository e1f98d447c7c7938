"""What is wrong with a machine, from what was found on it: one line each, and what to do."""

import re
from collections.abc import Iterator

from compiler.diagnosis.form import Diagnosis, Library, Problem, Severity

GIB = 2**30
LEAST_DISK_BYTES, LEAST_MEMORY_BYTES = 5 * GIB, 2 * GIB
_GOOD_CLOCKS = {"tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "xen"}


def _problem(severity: Severity, what: str, remedy: str) -> Problem:
    return {"severity": severity, "what": what, "remedy": remedy}


def find_problems(found: Diagnosis) -> list[Problem]:
    """All of them, errors first."""
    order = ("error", "warning", "note")
    ways = (_packages, _runtimes, _libraries, _gpus, _room, _processor, _surroundings)
    return sorted(
        (problem for way in ways for problem in way(found)), key=lambda problem: order.index(problem["severity"])
    )


def _packages(found: Diagnosis) -> Iterator[Problem]:
    """Requirements of every run; an extra's only where it is installed and does not fit."""
    for package in found["packages"] or []:
        name, wanted = package["name"], package["wanted"]
        if package["found"] is None and package["extra"] is None:
            yield _problem("error", f"{name} is missing", f"pip install '{name}{wanted}'")
        elif package["found"] is not None and not package["fits"]:
            yield _problem(
                "error", f"{name} is {package['found']}, asked for is {wanted}", f"pip install '{name}{wanted}'"
            )


def _runtimes(found: Diagnosis) -> Iterator[Problem]:
    """ONNX Runtime comes in two distributions, which write over each other's files."""
    if found["packages"] is None:
        return
    builds = [p["name"] for p in found["packages"] if p["name"].startswith("onnxruntime") and p["found"] is not None]
    if not builds:
        yield _problem(
            "error", "ONNX Runtime is missing", "pip install 'paretoc[cpu]', with an NVIDIA GPU 'paretoc[gpu]'"
        )
    elif len(builds) > 1:
        remedy = f"pip uninstall {' '.join(builds)}; then install the one that fits the device"
        yield _problem("error", f"{' and '.join(builds)} are both installed: their files are the same", remedy)


def _libraries(found: Diagnosis) -> Iterator[Problem]:
    gpus = found["devices"]["gpus"] if found["devices"] else []
    missing = {p["name"] for p in found["packages"] or [] if p["found"] is None}
    for library in found["libraries"] or []:
        if library["why_not"] is not None and not _is_absent(library, missing):
            yield _problem(
                "error", f"{library['name']} cannot be loaded: {library['why_not']}", f"reinstall {library['name']}"
            )
        if library["flushes_denormals"]:
            yield _problem(
                "warning",
                "tiny numbers are flushed to zero in every product",
                "start without LD_PRELOAD and fast-math libraries",
            )
        if library["name"] == "torch":
            yield from _torch_build(
                library, has_gpu=bool(gpus), driver=found["devices"]["cuda"] if found["devices"] else None
            )
        if (
            library["name"] == "onnxruntime"
            and gpus
            and library["providers"]
            and "CUDAExecutionProvider" not in library["providers"]
        ):
            yield _problem(
                "warning",
                "a GPU is here, and this ONNX Runtime does not use it",
                "pip install 'paretoc[gpu]' in place of onnxruntime",
            )


def _is_absent(library: Library, missing: set[str]) -> bool:
    """Whether it is said already that the distribution is missing."""
    return library["name"] in missing


def _torch_build(torch: Library, *, has_gpu: bool, driver: str | None) -> Iterator[Problem]:
    if torch["why_not"] is not None:
        return
    if has_gpu and torch["cuda"] is None:
        yield _problem(
            "warning", "a GPU is here, and this PyTorch is built without CUDA", "install PyTorch's CUDA build"
        )
    elif has_gpu and not torch["sees_gpu"]:
        remedy = "update the NVIDIA driver, or install PyTorch for an older CUDA"
        yield _problem(
            "warning", f"PyTorch, built for CUDA {torch['cuda']}, does not see the GPU (driver: CUDA {driver})", remedy
        )
    elif torch["cuda"] is not None and not has_gpu:
        yield _problem(
            "note",
            f"PyTorch is built for CUDA {torch['cuda']}, and no GPU is here",
            "it works; its CPU build is smaller",
        )


def _gpus(found: Diagnosis) -> Iterator[Problem]:
    devices = found["devices"]
    for gpu in devices["gpus"] if devices else []:
        if gpu["mig"]:
            yield _problem(
                "warning", f"{gpu['name']} is cut into MIG slices, which no target is", "measure on a whole GPU"
            )
        if gpu["other_processes"]:
            count = gpu["other_processes"]
            yield _problem(
                "warning",
                f"{gpu['name']} computes for {count} other process{'es' if count > 1 else ''}",
                "measure when it is idle",
            )
        if gpu["throttle_reasons"]:
            yield _problem(
                "warning",
                f"{gpu['name']} is held down: {', '.join(gpu['throttle_reasons'])}",
                "let it cool, or raise its limit",
            )


def _room(found: Diagnosis) -> Iterator[Problem]:
    """Disk and memory."""
    cache, memory = found["cache"], found["memory"]
    if cache is not None and cache["why_not"] is not None:
        yield _problem(
            "error",
            f"the cache {cache['folder']} cannot be written: {cache['why_not']}",
            "choose another with --cache DIR or $PARETOC_CACHE",
        )
    free = [("cache", cache["free_bytes"] if cache else None), ("working folder", found["out_free_bytes"])]
    for name, size in free:
        if size is not None and size < LEAST_DISK_BYTES:
            yield _problem(
                "warning",
                f"{size / GIB:.1f} GiB are free on the disk of the {name}",
                "free room: compile cache --prune 7d",
            )
    if memory is not None:
        room = [size for size in (memory["available_bytes"], memory["limit_bytes"]) if size is not None]
        if room and min(room) < LEAST_MEMORY_BYTES:
            yield _problem(
                "warning",
                f"{min(room) / GIB:.1f} GiB of memory are available",
                "end other programs, or raise the container's limit",
            )


def _processor(found: Diagnosis) -> Iterator[Problem]:
    processor, system = found["processor"], found["system"]
    if processor is None:
        return
    usable, count = processor["usable"], processor["count"]
    if count is not None and usable < count:
        yield _problem(
            "note",
            f"{usable} of {count} processors are usable: affinity or a container limits this process",
            "serve with no more --threads",
        )
    quota = processor["quota"]
    if quota is not None and quota < usable:
        yield _problem(
            "warning",
            f"the container is granted {quota:.3g} processors and sees {usable}: threads are halted",
            f"use --threads {max(1, int(quota))}",
        )
    if re.fullmatch(r"\d+", processor["omp_threads"] or "") is None and processor["omp_threads"] is not None:
        yield _problem("warning", "OMP_NUM_THREADS is no whole number", "unset it")
    if processor["governor"] == "powersave":
        yield _problem(
            "warning",
            "the processor's governor is powersave: times depend on the load",
            "cpupower frequency-set -g performance",
        )
    known = processor["instruction_sets"]
    if known and not {"avx2", "asimd"} & set(known):
        yield _problem("warning", "the processor has no AVX2", "expect slow products; measure on what will serve")
    if system is not None and system["load"] is not None and system["load"] > usable / 2:
        yield _problem(
            "warning",
            f"{system['load']:.1f} of {usable} processors are busy with other work: times will be noisy",
            "measure when the machine is quiet",
        )


def _surroundings(found: Diagnosis) -> Iterator[Problem]:
    system = found["system"]
    if system is not None:
        clock = system["clock_source"]
        if clock is not None and clock not in _GOOD_CLOCKS:
            yield _problem(
                "warning", f"the kernel's clock is {clock}: reading it takes microseconds", "boot with clocksource=tsc"
            )
        if system["offline"]:
            yield _problem(
                "note",
                "the hub is switched off by HF_HUB_OFFLINE or a sibling of it",
                "names of models and data must be folders here",
            )
        if system["encoding"].lower().replace("-", "") not in {"utf8", "none"}:
            yield _problem("note", f"the terminal's encoding is {system['encoding']}", "export PYTHONUTF8=1")
    if traces := found["traces"]:
        yield _problem(
            "note",
            f"crashes left traces in the folder for temporary files: {', '.join(traces)}",
            "attach the newest to a bug report",
        )
    for name, reason in found["unknown"].items():
        yield _problem("note", f"{name} could not be read: {reason}", "say so in a bug report")
