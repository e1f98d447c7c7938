"""What people write: 2ms, 300MB, 2x, 1%, 1,8."""

import re

from targets.errors import InputError

_TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_SIZES = {"kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def seconds(text: str, flag: str) -> float:
    """`2ms`, `1.5s` or `800us` in seconds."""
    match = re.fullmatch(r"\s*([0-9.]+(?:e-?\d+)?)\s*(us|ms|s)\s*", text)
    if not match or not _positive(match[1]):
        raise InputError(f"{flag} {text!r} is no time; write it like 2ms, 800us or 0.01s")
    return float(match[1]) * _TIMES[match[2]]


def size_bytes(text: str, flag: str) -> float:
    """`300MB` or `1.5GiB` in bytes."""
    match = re.fullmatch(r"\s*([0-9.]+)\s*([kKMG]i?B)\s*", text)
    if not match or match[2] not in _SIZES or not _positive(match[1]):
        raise InputError(f"{flag} {text!r} is no size; write it like 300MB or 1.5GiB")
    return float(match[1]) * _SIZES[match[2]]


def whole_numbers(text: str, flag: str) -> tuple[int, ...]:
    """`1,8` or `1` as whole numbers."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise InputError(f"{flag} {text!r} is no list of whole numbers; write it like 1 or 1,8")
    return tuple(int(part) for part in parts)


def ratio(text: str, flag: str) -> float:
    """`2x` or `2` as a factor."""
    number = text.strip().removesuffix("x")
    if not _positive(number):
        raise InputError(f"{flag} {text!r} is no factor; write it like 2x")
    return float(number)


def share(text: str, flag: str) -> float:
    """`1%` or `0.01` as a share between 0 and 1."""
    number = text.strip().removesuffix("%")
    value = float(number) / (100 if text.strip().endswith("%") else 1) if _number(number) else -1.0
    if not 0 <= value < 1:
        raise InputError(f"{flag} {text!r} is no share; write it like 1%")
    return value


def age_seconds(text: str, flag: str) -> float:
    """`7d`, `12h` or `0d` in seconds."""
    match = re.fullmatch(r"\s*(\d+)\s*([dh])\s*", text)
    if not match:
        raise InputError(f"{flag} {text!r} is no age; write it like 7d or 12h")
    return int(match[1]) * (86400 if match[2] == "d" else 3600)


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _positive(text: str) -> bool:
    return _number(text) and 0 < float(text) < float("inf")
