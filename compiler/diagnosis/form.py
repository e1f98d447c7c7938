"""The form of `compile doctor --json`: what a bug report says of the machine. `None` means "not known", never zero.

It holds no host name, no user and no path but the cache folder's, in which the home folder is `~`.
"""

from typing import Literal

from typing_extensions import TypedDict

SCHEMA_VERSION = 1

Severity = Literal["error", "warning", "note"]


class System(TypedDict):
    """Python and the operating system; `clock_source` is the kernel's, `load` its average of one minute."""

    python: str
    platform: str
    clock_source: str | None
    load: float | None
    encoding: str
    offline: bool


class Processor(TypedDict):
    """The processor: `count` are there, `usable` are this process's; `quota` is what a container may use, in processors."""

    name: str
    count: int | None
    usable: int
    quota: float | None
    omp_threads: str | None
    instruction_sets: list[str]
    governor: str | None


class Memory(TypedDict):
    """Main memory; `limit_bytes` is the container's."""

    total_bytes: int | None
    available_bytes: int | None
    limit_bytes: int | None


class Cache(TypedDict):
    """The cache folder; `why_not` says why it cannot be written, None where it can."""

    folder: str
    entries: int
    bytes: int
    cap_bytes: float | None
    free_bytes: int | None
    why_not: str | None


class Gpu(TypedDict):
    """A GPU as its driver sees it."""

    name: str
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    throttle_reasons: list[str]
    other_processes: int
    mig: bool


class Devices(TypedDict):
    """Targets of the catalogue that are here, the GPUs, and the NVIDIA driver; `why_none` says why there is no GPU."""

    targets: list[str]
    gpus: list[Gpu]
    driver: str | None
    cuda: str | None
    why_none: str | None


class Package(TypedDict):
    """A distribution: the versions that are asked for (`extra` where only that extra asks) and the one that is installed."""

    name: str
    wanted: str
    extra: str | None
    found: str | None
    fits: bool


class Library(TypedDict):
    """A library that computes, asked in a process of its own: its best float32 product here, operations a second.

    `why_not` is there where it could not be loaded; `cuda` is what it was built for.
    """

    name: str
    version: str | None
    flops_per_s: float | None
    cuda: str | None
    sees_gpu: bool | None
    providers: list[str]
    flushes_denormals: bool | None
    why_not: str | None


class Problem(TypedDict):
    """What is wrong, and what to do; an error stops runs, a warning spoils numbers, a note explains."""

    severity: Severity
    what: str
    remedy: str


class Diagnosis(TypedDict):
    """All of it; `unknown` holds why a part could not be read, by its name."""

    schema: int
    version: str | None
    system: System | None
    processor: Processor | None
    memory: Memory | None
    cache: Cache | None
    out_free_bytes: int | None
    devices: Devices | None
    packages: list[Package] | None
    libraries: list[Library] | None
    traces: list[str] | None
    unknown: dict[str, str]
    problems: list[Problem]
    usable: bool
