"""Search: genomes in, objective arrays out, one ask/tell interface."""

from compiler.search.asha import SHARES, Job, MoAsha, SuccessiveHalving, rung_budgets
from compiler.search.front import (
    bisected,
    farthest_first,
    front_ranks,
    hypervolume,
    is_nondominated,
    ranked,
    spread_out,
)
from compiler.search.method import Method
from compiler.search.registry import AROUND_SEEDS, METHODS, check_method, make_method
from compiler.search.seeded import BELOW, NEAR

__all__ = [
    "AROUND_SEEDS",
    "BELOW",
    "METHODS",
    "NEAR",
    "SHARES",
    "Job",
    "Method",
    "MoAsha",
    "SuccessiveHalving",
    "bisected",
    "check_method",
    "farthest_first",
    "front_ranks",
    "hypervolume",
    "is_nondominated",
    "make_method",
    "ranked",
    "rung_budgets",
    "spread_out",
]
