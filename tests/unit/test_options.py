"""What a run does where it is not told."""

import pytest

from compiler.pipeline import Options


@pytest.mark.parametrize(
    ("asked", "method"),
    [
        ({}, "exact"),
        ({"precisions": ("fp32", "int8")}, "exact"),
        ({"space": "small"}, "nsga2"),
        ({"space": "width"}, "nsga2"),
        ({"order": "index"}, "nsga2"),
        ({"objectives": ("params",)}, "nsga2"),
        ({"objectives": ("latency", "memory")}, "nsga2"),
        ({"search": "local"}, "local"),
        ({"search": "nsga3"}, "nsga3"),
    ],
)
def test_the_search_goes_along_the_exact_front_where_there_is_one(asked, method):
    assert Options(model="", **asked).method("fast") == method


@pytest.mark.parametrize(("effort", "method"), [("fast", "exact"), ("balanced", "exact"), ("thorough", "nsga2")])
def test_a_super_network_is_not_searched_along_the_front_of_what_it_was_trained_from(effort, method):
    assert Options(model="").method(effort) == method
    assert Options(model="", search="local").method(effort) == "local"
