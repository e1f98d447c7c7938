"""What a network changes for whom: flips, classes and lengths against counting by hand."""

import numpy as np
import pytest
import torch

from compiler.evaluation.changes import TELLING, changes, tokens_of
from compiler.tasks import Batches

NAMES = ("low", "high")


def column(*values):
    return np.array(values, dtype=np.int64)[:, None]


def test_flips_and_drops_are_counted():
    right, dense = column(0, 0, 1, 1), column(0, 1, 1, 1)
    found = changes(column(0, 1, 1, 0), dense, right, names=NAMES, tokens=np.array([4, 4, 9, 9]))
    assert (found.decisions, found.flips) == (4, 0.25)
    low, high = found.classes
    assert (low.name, low.count, low.dense, low.network, low.drop) == ("low", 2, 0.5, 0.5, 0)
    assert (high.name, high.dense, high.network, high.drop) == ("high", 1.0, 0.5, 0.5)
    assert [(group.name, group.count, group.drop) for group in found.lengths] == [
        ("4 tokens", 2, 0),
        ("5 to 9 tokens", 2, 0.5),
    ]
    assert found.standard_error == pytest.approx(0.25)


def test_places_without_a_decision_do_not_count_and_classes_without_a_name_are_no_classes():
    right = np.array([[0, 2, -1], [1, -1, -1]])
    found = changes(right, right, right, names=NAMES, tokens=np.array([5, 3]))
    assert (found.decisions, found.flips) == (3, 0)
    assert [group.name for group in found.classes] == ["low", "high"]


def test_the_worst_class_is_one_that_has_enough_decisions():
    many = TELLING
    right = column(*[0] * many, 1)
    network = column(1, *[0] * (many - 1), 0)
    found = changes(network, right, right, names=NAMES, tokens=np.full(many + 1, 7))
    assert found.worst_class.name == "low"
    assert found.worst_class.drop == pytest.approx(1 / many)
    assert max(group.drop for group in found.classes) == 1
    few = changes(column(1), column(0), column(0), names=NAMES, tokens=np.array([7]))
    assert few.worst_class is None


def test_the_tokens_of_an_example_are_those_of_all_its_lines():
    batches = Batches(
        batches=({"attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1]])}, {"attention_mask": torch.tensor([[1, 0]])}),
        rows=(np.array([1, 0]), np.array([1])),
        extras=({}, {}),
    )
    assert tokens_of(batches).tolist() == [3, 3]
