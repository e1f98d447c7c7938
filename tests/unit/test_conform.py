"""A JSON value held against a TypedDict: what does not fit is named by its place."""

from collections.abc import Mapping
from typing import Literal, NotRequired, TypedDict

import pytest

from compiler.report.conform import misfits


class Part(TypedDict):
    size: float
    kind: Literal["a", "b"]


class Whole(TypedDict):
    name: str
    parts: list[Part]
    spare: Part | None
    limits: Mapping[str, float]
    note: NotRequired[str]


GOOD = {"name": "x", "parts": [{"size": 1, "kind": "a"}], "spare": None, "limits": {}}


def test_what_fits_has_no_misfits_and_may_hold_more():
    assert list(misfits(GOOD, Whole)) == []
    assert list(misfits({**GOOD, "more": 1, "note": "n", "spare": {"size": 0.5, "kind": "b"}}, Whole)) == []


@pytest.mark.parametrize(
    ("change", "places"),
    [
        ({"name": 3}, ["name"]),
        ({"parts": {}}, ["parts"]),
        ({"parts": [{"size": 1, "kind": "a"}, {"size": "1"}]}, ["parts[1].size", "parts[1].kind"]),
        ({"spare": []}, ["spare"]),
        ({"spare": {"kind": "a"}}, ["spare.size"]),
        ({"limits": [1]}, ["limits"]),
        ({"note": None}, ["note"]),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(change, places):
    assert list(misfits({**GOOD, **change}, Whole)) == places


@pytest.mark.parametrize("name", ["name", "parts", "spare", "limits"])
def test_what_is_missing_is_named(name):
    assert list(misfits({key: value for key, value in GOOD.items() if key != name}, Whole)) == [name]
    assert list(misfits([], Whole)) == ["everything"]
