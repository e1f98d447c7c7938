"""The declared form of `subnet.json`: which heads, FFN units and residual dimensions of the dense model are left."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Annotated, Any, NotRequired, cast

from annotated_types import Ge, Le, Len
from typing_extensions import TypedDict

from compiler.tasks import TaskName
from targets import forms
from targets.errors import InputError
from targets.json_file import conforming

SCHEMA = 1
MOST_OF_A_LAYER = 10**6

Index = Annotated[int, Ge(0), Le(MOST_OF_A_LAYER - 1)]
Kept = Annotated[list[Index], Len(0, MOST_OF_A_LAYER)]
"""Indices of one layer, strictly ascending; empty where the sub-block is gone."""


class SubnetForm(TypedDict):
    """The whole of `subnet.json`; `residual` is there where not all dimensions are kept.

    `dense` has settings of the dense model's configuration by name, where config.json has the network's own: in stock form.
    """

    schema: int
    task: TaskName
    base: forms.Name
    heads: Annotated[list[Kept], Len(1, forms.MOST_LAYERS)]
    ffn_units: Annotated[list[Kept], Len(1, forms.MOST_LAYERS)]
    residual: NotRequired[Annotated[list[Index], Len(1, MOST_OF_A_LAYER)]]
    dense: NotRequired[dict[forms.Name, Annotated[int, Ge(1), Le(MOST_OF_A_LAYER)]]]


def check_subnet(content: Any, *, name: str, fail: Callable[[str], Exception] = InputError) -> SubnetForm:
    """The content of a `subnet.json`, unchanged; `name` is what messages call it.

    InputError, or what `fail` makes of a message, for another schema, for values that are not declared, for lists of
    different lengths and for indices that do not ascend.
    """
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise fail(f"{name} has schema {schema!r}, this version reads {SCHEMA}")
    conforming(content, SubnetForm, name=f"{name} is damaged", fail=fail)
    wrong = next(_contradictions(content), None)
    if wrong is not None:
        raise fail(f"{name} is damaged: {wrong}")
    return cast("SubnetForm", content)


def _contradictions(content: SubnetForm) -> Iterator[str]:
    heads, units = content["heads"], content["ffn_units"]
    if len(heads) != len(units):
        yield f"{len(heads)} layers of heads, {len(units)} layers of ffn_units"
    places = {
        **{f"heads[{i}]": kept for i, kept in enumerate(heads)},
        **{f"ffn_units[{i}]": kept for i, kept in enumerate(units)},
        "residual": content.get("residual", []),
    }
    for place, kept in places.items():
        if any(a >= b for a, b in pairwise(kept)):
            yield f"{place}: indices must ascend and be distinct"
