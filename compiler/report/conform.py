"""Whether a JSON value has the form that a TypedDict declares: a file that people and other versions may have touched."""

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

_KINDS: Mapping[Any, type | tuple[type, ...]] = {
    str: str, bool: bool, int: int, float: (int, float), type(None): type(None), Mapping: Mapping,
}  # fmt: skip
"""What a value of JSON must be an instance of. What is not among them (a Literal, Any) is not looked at."""


def misfits(value: object, form: Any, place: str = "") -> Iterator[str]:
    """What is missing or of another kind, each by its place, as `candidates[0].artifact`; what is not declared may be there."""
    kind = get_origin(form) or form
    if kind in {Union, UnionType}:
        choices = [list(misfits(value, one, place)) for one in get_args(form)]
        yield from min(choices, key=len)
    elif is_typeddict(kind):
        yield from _of_fields(value, form, place)
    elif kind is list:
        yield from _of_list(value, get_args(form)[0], place)
    elif kind in _KINDS and not isinstance(value, _KINDS[kind]):
        yield place


def _of_fields(value: object, form: Any, place: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield place or "everything"
        return
    for name, kind in get_type_hints(form).items():
        below = f"{place}.{name}" if place else name
        if name in value:
            yield from misfits(value[name], kind, below)
        elif name in form.__required_keys__:
            yield below


def _of_list(value: object, kind: Any, place: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield place
        return
    for i, one in enumerate(value):
        yield from misfits(one, kind, f"{place}[{i}]")
