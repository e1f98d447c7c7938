"""Every probe on its own, so that what fails is named and the rest is told."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from compiler.diagnosis.form import SCHEMA_VERSION, Diagnosis
from compiler.diagnosis.libraries import read_libraries
from compiler.diagnosis.machine import (
    free_bytes,
    read_cache,
    read_devices,
    read_memory,
    read_processor,
    read_system,
    read_traces,
)
from compiler.diagnosis.packages import installed, read_packages
from compiler.diagnosis.problems import find_problems
from targets.errors import printable

T = TypeVar("T")


def diagnose(cache: Path | None = None, *, peaks: bool = True) -> Diagnosis:
    """What is here and what is wrong with it; nothing that a machine may lack raises. Libraries are loaded for their `peaks`."""
    unknown: dict[str, str] = {}

    def probed(name: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except Exception as error:  # noqa: BLE001  whatever is broken here is what is to be reported
            unknown[name] = printable(f"{type(error).__name__}: {error}".split("\n", 1)[0], 160)
            return None

    found: Diagnosis = {
        "schema": SCHEMA_VERSION,
        "version": probed("version", lambda: installed("paretoc")),
        "system": probed("system", read_system),
        "processor": probed("processor", read_processor),
        "memory": probed("memory", read_memory),
        "cache": probed("cache", lambda: read_cache(cache or _default_cache())),
        "out_free_bytes": probed("working folder", lambda: free_bytes(Path())),
        "devices": probed("devices", read_devices),
        "packages": probed("packages", read_packages),
        "libraries": probed("libraries", read_libraries) if peaks else None,
        "traces": probed("traces", read_traces),
        "unknown": unknown,
        "problems": [],
        "usable": True,
    }
    found["problems"] = find_problems(found)
    found["usable"] = not any(problem["severity"] == "error" for problem in found["problems"])
    return found


def _default_cache() -> Path:
    from compiler.store import default_root

    return default_root()
