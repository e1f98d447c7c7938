"""Mutations that know what a variable says: more or fewer heads or units, a sub-block dropped, restored or copied."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from compiler.spaces import Space
from compiler.spaces.subnet import IntArray


class Move(NamedTuple):
    """What is done (a name of ACTIONS) to variables of which kind (a key of `Space.groups`)."""

    action: str
    kind: str


class Parts(NamedTuple):
    """One kind's variables of a genome with their bounds, part by part."""

    values: list[IntArray]
    lower: list[IntArray]
    upper: list[IntArray]


def _step(part: IntArray, bound: IntArray, rng: np.random.Generator) -> None:
    """Some of the way to a bound, small steps as often as large ones; of bits, random ones flip."""
    room = int(np.abs(bound - part).sum())
    amount = int(room ** rng.random()) if room else 0
    if len(part) == 1:
        part += np.sign(bound - part) * amount
    else:
        chosen = rng.choice(np.flatnonzero(part != bound), amount, replace=False)
        part[chosen] = bound[chosen]


def _grow(parts: Parts, rng: np.random.Generator) -> None:
    row = rng.integers(len(parts.values))
    _step(parts.values[row], parts.upper[row], rng)


def _shrink(parts: Parts, rng: np.random.Generator) -> None:
    row = rng.integers(len(parts.values))
    _step(parts.values[row], parts.lower[row], rng)


def _drop(parts: Parts, rng: np.random.Generator) -> None:
    row = rng.integers(len(parts.values))
    parts.values[row][:] = parts.lower[row]


def _restore(parts: Parts, rng: np.random.Generator) -> None:
    row = rng.integers(len(parts.values))
    parts.values[row][:] = parts.upper[row]


def _take_over(parts: Parts, to: int, values: IntArray) -> None:
    """What another part has, as far as this one can; nothing between parts of unequally many bits."""
    if len(values) == len(parts.values[to]):
        parts.values[to][:] = np.clip(values, parts.lower[to], parts.upper[to])


def _copy(parts: Parts, rng: np.random.Generator) -> None:
    to, source = rng.choice(len(parts.values), 2, replace=False)
    _take_over(parts, to, parts.values[source])


def _exchange(parts: Parts, rng: np.random.Generator) -> None:
    one, other = rng.choice(len(parts.values), 2, replace=False)
    before = parts.values[one].copy()
    _take_over(parts, one, parts.values[other])
    _take_over(parts, other, before)


def _trade(parts: Parts, rng: np.random.Generator) -> None:
    """One part shrinks and another grows: about the same cost, spent elsewhere."""
    giver, taker = rng.choice(len(parts.values), 2, replace=False)
    _step(parts.values[giver], parts.lower[giver], rng)
    _step(parts.values[taker], parts.upper[taker], rng)


ACTIONS: dict[str, Callable[[Parts, np.random.Generator], None]] = {
    "grow": _grow,
    "shrink": _shrink,
    "drop": _drop,
    "restore": _restore,
    "copy": _copy,
    "exchange": _exchange,
    "trade": _trade,
}
_NEED_TWO = ("copy", "exchange", "trade")


class Moves:
    """The moves of a space, and how a genome looks after one."""

    def __init__(self, space: Space) -> None:
        self.space, self.groups = space, space.groups
        self.all = [
            Move(action, kind)
            for kind, index in self.groups.items()
            for action in ACTIONS
            if len(index) > 1 or action not in _NEED_TWO
        ]

    def apply(self, move: Move, genome: IntArray, rng: np.random.Generator) -> IntArray:
        """A copy after the move; equal to the genome where the move finds nothing to do."""
        groups = self.groups[move.kind]
        parts = Parts(*([vector[part] for part in groups] for vector in (genome, self.space.lower, self.space.upper)))
        ACTIONS[move.action](parts, rng)
        child = genome.copy()
        for part, values in zip(groups, parts.values, strict=True):
            child[part] = values
        return child

    def cross(self, one: IntArray, other: IntArray, rng: np.random.Generator) -> IntArray:
        """Every part from either parent: sub-blocks are inherited whole."""
        child = one.copy()
        for part in (part for parts in self.groups.values() for part in parts):
            if rng.random() < 0.5:
                child[part] = other[part]
        return child

    def offspring(self, parents: IntArray, rng: np.random.Generator, count: int) -> IntArray:
        """Children [count, variables] of random parents [n, variables]: every second one crossed, then a few random moves."""
        return np.stack([self._child(parents, rng) for _ in range(count)])

    def _child(self, parents: IntArray, rng: np.random.Generator) -> IntArray:
        child, other = parents[rng.integers(len(parents), size=2)]
        if rng.random() < 0.5:
            child = self.cross(child, other, rng)
        for _ in range(rng.geometric(0.5)):
            child = self.apply(self.all[rng.integers(len(self.all))], child, rng)
        return np.asarray(child)
