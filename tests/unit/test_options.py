"""What a run does where it is not told."""

import pytest

from compiler.pipeline import Options


@pytest.mark.parametrize(
    ("asked", "method"),
    [
        ({}, "exact"),
        ({"precisions": ("fp32", "int8")}, "exact"),
        ({"effort": "thorough"}, "exact"),
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
    assert Options(model="", **asked).method == method
