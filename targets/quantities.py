"""What people write: 2ms, 300MB, 2x, 1%, 1,8. A value outside of the bounds of its flag is refused (`targets/bounds.py`)."""

import re

from targets.bounds import check_number
from targets.errors import InputError, printable

_TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_SIZES = {"kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_AGES = {"d": 86_400.0, "h": 3600.0}

_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,30}\.?[0-9]{0,30}|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,3})?")
"""Digits of ASCII, few enough to be a number that somebody wrote."""

MOST_NUMBERS = 100
"""Of one list: every one multiplies what is measured."""


def seconds(text: str, flag: str) -> float:
    """`2ms`, `1.5s` or `800us` in seconds."""
    return _quantity(text, flag, _TIMES, "no time; write it like 2ms, 800us or 0.01s")


def size_bytes(text: str, flag: str) -> float:
    """`300MB` or `1.5GiB` in bytes."""
    return _quantity(text, flag, _SIZES, "no size; write it like 300MB or 1.5GiB")


def ratio(text: str, flag: str) -> float:
    """`2x` or `2` as a factor."""
    return _quantity(text, flag, {"x": 1.0, "": 1.0}, "no factor; write it like 2x")


def share(text: str, flag: str) -> float:
    """`1%` or `0.01` as a share between 0 and 1."""
    return _quantity(text, flag, {"%": 0.01, "": 1.0}, "no share; write it like 1%")


def age_seconds(text: str, flag: str) -> float:
    """`7d`, `12h` or `0d` in seconds."""
    return _quantity(text, flag, _AGES, "no age; write it like 7d or 12h")


def whole_numbers(text: str, flag: str) -> tuple[int, ...]:
    """`1,8` or `1` as whole numbers."""
    parts = [part.strip() for part in text[:10_000].split(",")]
    if len(text) > 10_000 or len(parts) > MOST_NUMBERS or not all(re.fullmatch("[0-9]{1,15}", part) for part in parts):
        raise _refusal(
            text, flag, f"no list of whole numbers; write it like 1 or 1,8, with at most {MOST_NUMBERS} of them"
        )
    numbers = tuple(map(int, parts))
    for number in numbers:
        check_number(flag, number)
    return numbers


def _quantity(text: str, flag: str, units: dict[str, float], wrong: str) -> float:
    number = _NUMBER.match(text.strip()[:100])
    unit = text.strip()[number.end() :].strip() if number else None
    if number is None or unit not in units:
        raise _refusal(text, flag, wrong)
    value = float(number[0]) * units[unit]
    check_number(flag, value)
    return value


def _refusal(text: str, flag: str, wrong: str) -> InputError:
    return InputError(f"{flag} {printable(repr(text[:200]), 80)} is {wrong}")
