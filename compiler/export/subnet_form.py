"""The declared form of `subnet.json`: which heads, FFN units and residual dimensions of the dense model are left."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, NotRequired, cast

from annotated_types import Ge, Le, Len
from typing_extensions import TypedDict

from compiler.tasks import TaskName
from profilers import Heads, are_split
from profilers.sizes import FEW_GROUPS
from targets import forms
from targets.errors import InputError
from targets.json_file import conforming

SCHEMA = 2
"""Query heads are named since 2. Where none are, a file is of schema 1, which older versions read as well."""

MOST_OF_A_LAYER = 10**6

Index = Annotated[int, Ge(0), Le(MOST_OF_A_LAYER - 1)]
Kept = Annotated[list[Index], Len(0, MOST_OF_A_LAYER)]
"""Indices of one layer, strictly ascending; empty where the sub-block is gone."""

Size = Annotated[int, Ge(1), Le(MOST_OF_A_LAYER)]


class QueryHeadsForm(TypedDict):
    """Kept query heads of every kept head, layer by layer; the dense model has `groups` heads, read by `queries` each."""

    groups: Size
    queries: Size
    kept: Annotated[list[Annotated[list[Kept], Len(0, FEW_GROUPS)]], Len(1, forms.MOST_LAYERS)]


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
    dense: NotRequired[dict[forms.Name, Size]]
    query_heads: NotRequired[QueryHeadsForm]


def check_subnet(content: Any, *, name: str, fail: Callable[[str], Exception] = InputError) -> SubnetForm:
    """The content of a `subnet.json`, unchanged; `name` is what messages call it.

    InputError, or what `fail` makes of a message, for another schema, for values that are not declared, for lists of
    different lengths and for indices that do not ascend.
    """
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema not in range(1, SCHEMA + 1) or isinstance(schema, bool):
        raise fail(f"{name} has schema {schema!r}, this version reads 1 to {SCHEMA}")
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
    if "query_heads" in content:
        if content["schema"] < SCHEMA:
            yield f"schema {content['schema']} knows no query_heads"
        yield from _of_query_heads(content["query_heads"], heads)
    for place, kept in places.items():
        if any(a >= b for a, b in pairwise(kept)):
            yield f"{place}: indices must ascend and be distinct"


def schema_of(content: Mapping[str, Any]) -> int:
    """The schema that a file of this content has."""
    return SCHEMA if "query_heads" in content else 1


def _of_query_heads(found: QueryHeadsForm, heads: Sequence[Sequence[int]]) -> Iterator[str]:
    if not are_split(Heads(found["groups"], found["queries"])):
        yield f"query_heads: {found['groups']} heads of {found['queries']} query heads are not cut apart"
    if [*map(len, found["kept"])] != [*map(len, heads)]:
        yield "query_heads: not those of the heads that are kept"
    for layer, kept in enumerate(found["kept"]):
        if len({len(slots) for slots in kept}) > 1 or [] in kept:
            yield f"query_heads.kept[{layer}]: heads of a layer must keep equally many, one at least"
        if any(slot >= found["queries"] for slots in kept for slot in slots):
            yield f"query_heads.kept[{layer}]: a head has {found['queries']}"
        if any(a >= b for slots in kept for a, b in pairwise(slots)):
            yield f"query_heads.kept[{layer}]: indices must ascend and be distinct"
