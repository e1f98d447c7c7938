"""The front of a seeded run of every search method, against the one recorded.

A method that is changed on purpose is recorded anew: python -m tests.golden.test_search_fronts
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from compiler.search import METHODS, is_nondominated, make_method
from compiler.search.registry import BAYESIAN
from compiler.spaces import make_space
from tests.problem import SIZES, known, samplers, search

FOLDER = Path(__file__).parent / "fronts"
FEW = {"surrogate": 12} | dict.fromkeys(BAYESIAN, 8)
"""Evaluations of methods that fit models: the longer the run, the more a processor's rounding decides."""


def front(name):
    """Networks that no other of the run dominates, by rising cost."""
    space = make_space("medium", SIZES)
    method = make_method(name, space, samplers(space)["stratified"], seed=0, known=partial(known, space))
    genomes, values = search(method, space, evaluations=FEW.get(name, 40))
    rows = np.flatnonzero(is_nondominated(values))
    rows = rows[np.argsort(values[rows, 1])]
    return {"genomes": genomes[rows].tolist(), "objectives": values[rows].round(6).tolist()}


def test_every_method_has_a_golden_front_and_every_golden_front_a_method():
    assert {file.stem for file in FOLDER.glob("*.json")} == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_the_front_is_the_one_recorded(name):
    golden, found = json.loads((FOLDER / f"{name}.json").read_text()), front(name)
    assert found["genomes"] == golden["genomes"]
    assert np.allclose(found["objectives"], golden["objectives"], atol=1e-6)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for method in METHODS:
        (FOLDER / f"{method}.json").write_text(json.dumps(front(method)) + "\n")
