"""A piece of work that another process can do: frozen data that names its inputs and leaves its output in the store."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One piece of work of a run.

    Attributes:
        kind: Which work: a key of `compiler.pipeline.jobs.KINDS`.
        body: What it is done with, as JSON values.
        threads: How many threads compute it. They belong to the job: the last bits of a product depend on them.
        needs: What its node must have beside processors, as Ray resources.
    """

    kind: str
    body: Mapping[str, Any]
    threads: int = 1
    needs: Mapping[str, float] | None = None
