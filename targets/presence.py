"""Which targets are here, why the others are not, and which measured tables ship."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from targets.catalog import load_catalog
from targets.errors import TargetError
from targets.fingerprint import cpu_name, usable_cpus
from targets.nvml import GpuState, Nvml, find_gpu, gpu_state, open_nvml, visible_gpus
from targets.target import Target

__all__ = ["Presence", "SurveyRow", "gpu_state", "present", "shipped_files", "shipped_tables", "survey"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Whether a target is here; true in a condition exactly if it is.

    Attributes:
        here: The answer.
        reason: Why, in one line.
        gpu: The GPU that was recognised, or None.
        cuda_ordinal: Its number for CUDA programs started from here (`cuda:0` is 0), or None.
    """

    here: bool
    reason: str
    gpu: GpuState | None = None
    cuda_ordinal: int | None = None

    def __bool__(self) -> bool:
        return self.here


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyRow:
    """One target of the catalogue, seen from this machine.

    Attributes:
        target: The target at its default precision.
        presence: Whether it is here.
        tables: File names of the measured cost tables that ship for it.
    """

    target: Target
    presence: Presence
    tables: tuple[str, ...]


def present(target: Target, nvml: Nvml | None = None) -> Presence:
    """Whether `target` is here. `cpu` and `null` always are; a GPU is if NVML recognises its name.

    Args:
        target: The target; its precision plays no part.
        nvml: NVML to ask; this machine's if None.
    """
    return _present(target, open_nvml if nvml is None else lambda: nvml)


def survey(nvml: Nvml | None = None) -> list[SurveyRow]:
    """Every target of the catalogue, those that are here first, then by name."""
    opened = _opened(nvml)
    rows = [
        SurveyRow(target=target, presence=_present(target, opened), tables=shipped_tables(target.name))
        for target in load_catalog().values()
    ]
    return sorted(rows, key=lambda row: (not row.presence.here, row.target.name))


def shipped_tables(name: str) -> tuple[str, ...]:
    """File names in `targets/costs` of the tables for the target `name`: `NAME.json` or `NAME-ANYTHING.json`."""
    return tuple(file.name for file in shipped_files(name))


def shipped_files(name: str) -> tuple[Traversable, ...]:
    """The files that `shipped_tables` names, in its order."""
    folder = _costs_folder()
    files = sorted(folder.iterdir(), key=lambda file: file.name) if folder.is_dir() else []
    return tuple(
        f for f in files if f.name == f"{name}.json" or (f.name.startswith(f"{name}-") and f.name.endswith(".json"))
    )


def _costs_folder() -> Traversable:
    return resources.files("targets") / "costs"


def _present(target: Target, opened: Callable[[], Nvml]) -> Presence:
    if target.kind == "null":
        return Presence(here=True, reason="simulated; always here")
    if target.kind == "cpu":
        return Presence(here=True, reason=f"this machine: {cpu_name()}, {usable_cpus()} CPUs usable")
    try:
        return _present_gpu(target, opened())
    except TargetError as error:
        return Presence(here=False, reason=str(error))


def _present_gpu(target: Target, nvml: Nvml) -> Presence:
    gpu = find_gpu(target, nvml)
    ordinal = [s.index for s in visible_gpus(nvml)].index(gpu.index)
    return Presence(here=True, reason=f"NVML sees {gpu.name} (GPU {gpu.index})", gpu=gpu, cuda_ordinal=ordinal)


def _opened(nvml: Nvml | None) -> Callable[[], Nvml]:
    """One attempt to open NVML for a whole survey; its failure is each GPU's reason."""
    try:
        ready = open_nvml() if nvml is None else nvml
    except TargetError as error:
        reason = str(error)

        def missing() -> Nvml:
            raise TargetError(reason)

        return missing
    return lambda: ready
