"""What the protocol compares, the main comparisons first.

A cell trains one super-network; its searches share it. Names are the paper's (arXiv 2405.02267) where it has one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from compiler.search import AROUND_SEEDS, METHODS
from compiler.spaces import OF_FULL_WIDTH
from compiler.supernet import SAMPLINGS, STRATEGIES

STARTS = ("plain", "reconstruction")
OBJECTIVES = ("latency", "params")
UNIT_STEP = 16
"""FFN units are searched in steps of the vector width; the paper's own spaces count single ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A super-network, and from where a sub-network starts: from a plain slice, or re-solved to do what the whole does."""

    space: str
    strategy: str = "full"
    sampling: str = "stratified"
    order: str = "importance"
    start: str = "plain"
    unit_step: int = UNIT_STEP

    def __str__(self) -> str:
        return " ".join(str(value) for value in asdict(self).values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search of a cell: error against latency or parameters, from allocations (`seeded`) or without, winners polished or not."""

    method: str
    objective: str
    seeded: bool = True
    polish: bool = False

    def __str__(self) -> str:
        words = (self.method, self.objective, "" if self.seeded else "unseeded", "polished" if self.polish else "")
        return " ".join(filter(None, words))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One search of one cell on one task with one seed."""

    task: str
    seed: int
    cell: Cell
    search: Search

    def about(self) -> dict[str, Any]:
        """As records name it."""
        return asdict(self)


PAPER = Cell(space="small", sampling="uniform", order="index", unit_step=1)
PAPER_METHOD = "ehvi" if "ehvi" in METHODS else "nsga2"
OURS = Cell(space="medium")
ONE_SHOT = replace(OURS, strategy="standard", start="reconstruction")
OUR_METHODS = tuple(name for name in ("exact", "surrogate", "nsga2") if name in METHODS)
IN_ANY_SPACE = "surrogate"

Pair = tuple[Cell, Search]


def way_of(cell: Cell, search: Search) -> dict[str, Any]:
    """Both by name, as records call them together."""
    return {**asdict(cell), **asdict(search)}


CHOSEN: Pair = (ONE_SHOT, Search(method="exact", objective="latency", polish=True))
"""The best on seed 0, by `bench/protocol_report.py`: what other seeds hold against the paper's setting."""


def main_part() -> Iterator[Pair]:
    """The paper's own setting against ours."""
    for objective in OBJECTIVES:
        yield PAPER, Search(method=PAPER_METHOD, objective=objective)
        for method in OUR_METHODS:
            yield OURS, Search(method=method, objective=objective)


def starts_part() -> Iterator[Pair]:
    """Another way to weights: re-solved without a super-network, and winners that are polished."""
    for objective, method in product(OBJECTIVES, OUR_METHODS):
        yield ONE_SHOT, Search(method=method, objective=objective)
    for cell in (ONE_SHOT, OURS):
        yield cell, Search(method=OUR_METHODS[0], objective="latency", polish=True)


def bar_part() -> Iterator[Pair]:
    """What is left to run on other seeds."""
    yield PAPER, Search(method=PAPER_METHOD, objective="latency")
    yield CHOSEN


def factors_part() -> Iterator[Pair]:
    """Everything that differs from ours, or from the paper's setting, in one thing.

    Ours with a method that every space has, and without allocations, which are those of MEDIUM in importance order alone.
    """
    ways: list[dict[str, Any]] = [
        {"order": "index"},
        {"sampling": "uniform"},
        *({"space": space} for space in OF_FULL_WIDTH if space != OURS.space),
        *({"strategy": strategy} for strategy in STRATEGIES if strategy != OURS.strategy),
        {"start": "reconstruction"},
        {"unit_step": 1},
    ]
    for objective in OBJECTIVES:
        search = Search(method=IN_ANY_SPACE, objective=objective, seeded=False)
        yield OURS, search
        yield OURS, replace(search, seeded=True)
        yield OURS, replace(search, polish=True)
        for way in ways:
            yield replace(OURS, **way), search
        papers = Search(method=PAPER_METHOD, objective=objective)
        yield PAPER, papers
        for way in ({"order": "importance"}, {"sampling": "stratified"}, {"unit_step": UNIT_STEP}):
            yield replace(PAPER, **way), papers


def methods_part() -> Iterator[Pair]:
    """Every search method on the paper's cell and on ours."""
    for objective, cell, method in product(OBJECTIVES, (OURS, PAPER), METHODS):
        yield cell, Search(method=method, objective=objective)


def all_part() -> Iterator[Pair]:
    """The whole matrix."""
    for space, strategy, sampling, order, start in product(
        OF_FULL_WIDTH, STRATEGIES, SAMPLINGS, ("importance", "index"), STARTS
    ):
        cell = Cell(space=space, strategy=strategy, sampling=sampling, order=order, start=start)
        for objective, method in product(OBJECTIVES, METHODS):
            yield cell, Search(method=method, objective=objective)


PARTS: dict[str, Callable[[], Iterator[Pair]]] = {
    "main": main_part,
    "starts": starts_part,
    "bar": bar_part,
    "factors": factors_part,
    "methods": methods_part,
    "all": all_part,
}


def possible(cell: Cell, search: Search) -> bool:
    """The exact front is that of importance order; it and gates need the space that gives every layer sizes of its own.

    MO-ASHA trains every network on its own: no cell is that.
    """
    if search.method in AROUND_SEEDS:
        return cell.space == "medium" and search.seeded and (search.method == "gates" or cell.order == "importance")
    return search.method != "mo-asha"


def plan(
    parts: Sequence[str], tasks: Sequence[str], seeds: Sequence[int], objectives: Sequence[str] = OBJECTIVES
) -> list[Run]:
    """All runs of these objectives, each once: part after part, then seed, task and cell."""
    runs: dict[Run, None] = {}
    for part, seed, task in product(parts, seeds, tasks):
        pairs = [pair for pair in PARTS[part]() if possible(*pair) and pair[1].objective in objectives]
        cells = dict.fromkeys(cell for cell, _ in pairs)
        runs |= {
            Run(task=task, seed=seed, cell=cell, search=search): None
            for first in cells for cell, search in pairs if cell == first
        }  # fmt: skip
    return list(runs)
