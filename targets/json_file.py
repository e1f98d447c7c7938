"""JSON that somebody else may have written: read within bounds, and held against a declared form.

Every JSON file that a user or a stranger can touch is read here, so that each kind of damage has one answer.
"""

import json
import math
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from targets.errors import InputError, printable

MOST_BYTES = 64 * 2**20
MOST_DEPTH = 64


def read_json(path: Path, *, name: str | None = None, most_bytes: int = MOST_BYTES) -> Any:
    """The JSON value in a regular file of UTF-8, a byte-order mark allowed; `name` is what messages call the file.

    InputError where there is none, it is a folder, pipe or device, too large, in another encoding, no JSON, nested over
    64 levels deep, or where it holds NaN, an infinity, or half of a surrogate pair.
    """
    name = name or path.name
    return parse_json(read_bytes(path, name=name, most_bytes=most_bytes), name=name)


def read_bytes(path: Path, *, name: str, most_bytes: int = MOST_BYTES) -> bytes:
    """The content of a regular file. InputError where it is none, cannot be read, or has more bytes than that."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for a writer
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{name} cannot be read: {reason}") from None
    kind = os.fstat(descriptor)
    if not stat.S_ISREG(kind.st_mode):
        os.close(descriptor)
        raise InputError(f"{name} is no regular file\ngive a file, not a folder, pipe or device")
    with os.fdopen(descriptor, "rb") as file:
        try:
            content = file.read(most_bytes + 1)
        except OSError as error:
            raise InputError(f"{name} cannot be read: {error.strerror}") from None
    if len(content) > most_bytes:
        raise InputError(f"{name} has {kind.st_size:,} bytes; at most {most_bytes:,} are read")
    return content


def parse_json(content: bytes, *, name: str) -> Any:
    """JSON in UTF-8 as `read_json` takes it; `name` is what messages call it."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 (byte {error.start})\nsave it as UTF-8") from None
    return parse_json_text(text, name=name)


def parse_json_text(text: str, *, name: str, of_data: bool = False) -> Any:
    """JSON as `read_json` takes it; `of_data` lets NaN, infinities and halves of surrogate pairs pass.

    A data set has them where a value is missing or a text was cut, and its reader says in which row.
    """

    def refuse_constant(constant: str) -> NoReturn:
        raise InputError(f"{name} holds {constant}, which is no number of JSON")

    try:
        value = json.loads(text, parse_constant=float if of_data else refuse_constant)
    except RecursionError:
        raise InputError(f"{name} is nested more than {MOST_DEPTH} levels deep") from None
    except ValueError as error:
        raise InputError(f"{name} is not JSON: {_reason(error)}") from None
    if of_data:
        _check_depth(value, name)
    else:
        _check_values(value, name)
    return value


def _check_depth(value: Any, name: str) -> None:
    """InputError where a value is nested too deep: level by level, as data are wide and flat."""
    level = [value]
    for _ in range(MOST_DEPTH + 1):
        nested = [found for found in level if isinstance(found, dict | list) and found]
        parts = (found.values() if isinstance(found, dict) else found for found in nested)
        level = [part for each in parts for part in each if isinstance(part, dict | list)]
        if not level:
            return
    raise InputError(f"{name} is nested more than {MOST_DEPTH} levels deep")


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, line {error.lineno} column {error.colno}"
    return printable(str(error).split("\n", 1)[0], 120)  # a whole number of too many digits


def _check_values(value: Any, name: str) -> None:
    """InputError where a value is nested too deep, a number is infinite, or a text or key holds half of a surrogate pair."""
    for depth, found in _walk(value):
        if depth > MOST_DEPTH:
            raise InputError(f"{name} is nested more than {MOST_DEPTH} levels deep")
        if isinstance(found, float) and not math.isfinite(found):
            raise InputError(f"{name} holds a number that is too large")
        if isinstance(found, str) and not found.isascii() and any("\ud800" <= c <= "\udfff" for c in found):
            raise InputError(f"{name} holds {printable(found, 60)}, in which half of a character is missing")


def _walk(value: Any) -> Iterator[tuple[int, Any]]:
    """Every value and key with its depth, without recursion."""
    waiting = [(0, value)]
    while waiting:
        depth, found = waiting.pop()
        yield depth, found
        if isinstance(found, dict):
            waiting += [(depth + 1, part) for pair in found.items() for part in pair]
        elif isinstance(found, list):
            waiting += [(depth + 1, part) for part in found]


def conforming(value: Any, form: Any, *, name: str, fail: Callable[[str], Exception] = InputError) -> Any:
    """A JSON value held against a declared form (a TypedDict, dataclass or type of pydantic's), unchanged in kind: nothing is coerced.

    What is not declared may be there. InputError, or what `fail` makes of a message, names the first place that is wrong.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(form).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise fail(f"{name}: {place or 'everything'}: {first['msg']}{more}") from None
