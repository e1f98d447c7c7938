"""JSON that somebody else may have written: read within bounds, and held against a declared form.

Every JSON file that a user or a stranger can touch is read here, so that each kind of damage has one answer.
"""

import functools
import json
import math
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from targets.errors import InputError, printable, reason

MOST_BYTES = 64 * 2**20
MOST_DEPTH = 64
_CHUNK = 2**20
_MOST_OF_A_PLACE = 120


def read_json(path: Path, *, name: str | None = None, most_bytes: int = MOST_BYTES) -> Any:
    """The JSON value in a regular file of UTF-8, a byte-order mark allowed; `name` is what messages call the file.

    InputError where there is none, it is a folder, pipe or device, too large, in another encoding, no JSON, nested over
    64 levels deep, or where it holds NaN, an infinity, or half of a surrogate pair.
    """
    name = name or path.name
    return parse_json(read_bytes(path, name=name, most_bytes=most_bytes), name=name)


def is_there(path: Path) -> bool:
    """Whether something lies at a path; False, too, where no such path can be."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def check_regular(path: Path, *, name: str, most_bytes: int = MOST_BYTES) -> int:
    """Bytes of a regular file, for one that a library opens. InputError where it is none, is absent or is larger than that."""
    name = printable(name)
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise InputError(f"{name} cannot be read: {_why(error)}") from None
    return _check_kind(found, name, most_bytes)


def _check_kind(found: os.stat_result, name: str, most_bytes: int) -> int:
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{name} is no regular file\ngive a file, not a folder, pipe or device")
    if found.st_size > most_bytes:
        raise InputError(f"{name} has {found.st_size:,} bytes; at most {most_bytes:,} are read")
    return found.st_size


def _why(error: OSError | ValueError) -> str:
    """What the system says of a file, without its path."""
    return getattr(error, "strerror", None) or reason(error)


def read_bytes(path: Path, *, name: str, most_bytes: int = MOST_BYTES) -> bytes:
    """The content of a regular file. InputError where it is none, cannot be read, or has more bytes than that."""
    name = printable(name)
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for a writer
    except (OSError, ValueError) as error:
        raise InputError(f"{name} cannot be read: {_why(error)}") from None
    try:
        _check_kind(os.fstat(descriptor), name, most_bytes)
    except InputError:
        os.close(descriptor)
        raise
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        content = bytearray()
        try:
            while len(content) <= most_bytes and (part := file.read(_CHUNK)):
                content += part
        except OSError as error:
            raise InputError(f"{name} cannot be read: {_why(error)}") from None
    if part is None:  # files of /proc that would wait
        raise InputError(f"{name} cannot be read: it has no end")
    if len(content) > most_bytes:  # a file of /proc says that it is empty, and one may grow
        raise InputError(f"{name} has more than {most_bytes:,} bytes; no more are read")
    return bytes(content)


def parse_json(content: bytes, *, name: str) -> Any:
    """JSON in UTF-8 as `read_json` takes it; `name` is what messages call it."""
    name = printable(name)
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
        raise InputError(f"{name} is not JSON: {_fault(error)}") from None
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


def _fault(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, line {error.lineno} column {error.colno}"
    return reason(error)  # a whole number of too many digits


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


@functools.cache
def _adapter(form: Any) -> Any:
    """Making one takes longer than most files take to be checked."""
    from pydantic import TypeAdapter

    return TypeAdapter(form)


def conforming(value: Any, form: Any, *, name: str, fail: Callable[[str], Exception] = InputError) -> Any:
    """A JSON value held against a declared form (a TypedDict, dataclass or type of pydantic's): nothing is coerced.

    What is not declared may be there; it is not in what comes back. InputError, or what `fail` makes of a message, names
    the first place that is wrong.
    """
    from pydantic import ValidationError

    try:
        return _adapter(form).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
        shown = f"{printable(place, _MOST_OF_A_PLACE) or 'everything'}: {_fitting(first['msg'])}{_got(first)}{more}"
        raise fail(f"{name}: {shown}") from None


def _fitting(message: str) -> str:
    """Pydantic's message as part of ours."""
    return printable(message[:1].lower() + message[1:], 200)


def _got(first: Mapping[str, Any]) -> str:
    """The value that was found, where it is short enough to be read and the message does not say it."""
    value = first["input"]
    if first["type"] == "missing" or isinstance(value, dict | list):
        return ""
    return f", got {printable(json.dumps(value, ensure_ascii=False, default=str), 60)}"
