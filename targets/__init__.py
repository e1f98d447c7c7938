"""What a device is: datasheet facts with their sources, what is on this machine, measured tables that ship."""

from targets.catalog import load_catalog
from targets.errors import BudgetError, InputError, ParetocError, TargetError, VerificationError
from targets.fingerprint import Fingerprint, cpu_name, measure_fingerprint, usable_cpus
from targets.nvml import GpuState, Nvml, open_nvml
from targets.presence import Presence, SurveyRow, gpu_state, present, shipped_files, shipped_tables, survey
from targets.target import PRECISIONS, STATIC, FactSource, FrozenMap, Target

__all__ = [
    "PRECISIONS",
    "STATIC",
    "BudgetError",
    "FactSource",
    "Fingerprint",
    "FrozenMap",
    "GpuState",
    "InputError",
    "Nvml",
    "ParetocError",
    "Presence",
    "SurveyRow",
    "Target",
    "TargetError",
    "VerificationError",
    "cpu_name",
    "gpu_state",
    "load_catalog",
    "measure_fingerprint",
    "open_nvml",
    "present",
    "shipped_files",
    "shipped_tables",
    "survey",
    "usable_cpus",
]
