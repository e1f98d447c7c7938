"""Search: genomes in, objective arrays out, one ask/tell interface."""

from compiler.search.front import bisected, hypervolume, is_nondominated, spread_out
from compiler.search.methods import METHODS, LocalSearch, Method, Nsga2, RandomSearch, make_method

__all__ = [
    "METHODS",
    "LocalSearch",
    "Method",
    "Nsga2",
    "RandomSearch",
    "bisected",
    "hypervolume",
    "is_nondominated",
    "make_method",
    "spread_out",
]
