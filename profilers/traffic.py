"""What a device is really asked: how long the texts are, and what that makes of a batch that is padded to its longest."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.errors import InputError, printable, reason
from targets.json_file import is_there, read_json

Floats = NDArray[np.float64]

_MOST_LENGTHS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests by length: `tokens` ascending, and the share of all requests that each is (their sum is 1)."""

    tokens: tuple[int, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(cls, lengths: Iterable[int]) -> "Traffic":
        """From the length of every request, in tokens. InputError for none, and for lengths below 1."""
        counts = Counter(lengths)
        return cls.counted(list(counts), list(counts.values()))

    @classmethod
    def counted(cls, tokens: Sequence[int], counts: Sequence[float]) -> "Traffic":
        """From lengths and how often each is asked. InputError for none, for lengths below 1 and for counts below 0."""
        asked = {length: float(count) for length, count in zip(tokens, counts, strict=True) if count}
        if not asked:
            raise InputError("the traffic holds no request\ngive lengths in tokens, or counts by length above 0")
        total = sum(asked.values())
        if min(asked) < 1 or not np.isfinite(total) or min(asked.values()) < 0:
            raise InputError("traffic is lengths of at least 1 token and how often each is asked, above 0")
        return cls(tokens=tuple(sorted(asked)), shares=tuple(asked[length] / total for length in sorted(asked)))

    @classmethod
    def read(cls, path: Path) -> "Traffic":
        """From JSON: a list of lengths, or an object of counts by length. InputError where it is neither."""
        if not is_there(path):
            raise InputError(
                f"no traffic file at {printable(str(path))}\ngive --traffic a JSON file of lengths, or the word data"
            ) from None
        try:
            return cls._parsed(read_json(path))
        except InputError as error:
            raise _refusal(path, str(error).partition("\n")[0].removeprefix(f"{printable(path.name)} ")) from None
        except (ValueError, OverflowError) as error:
            raise _refusal(path, reason(error)) from None

    @classmethod
    def _parsed(cls, data: Any) -> "Traffic":
        if isinstance(data, list):
            return cls.of(_tokens(value) for value in data)
        if not isinstance(data, dict):
            raise ValueError(f"got {type(data).__name__}")  # noqa: TRY004  of a file, as every other fault in it
        if len(data) > _MOST_LENGTHS:
            raise ValueError(f"{len(data):,} different lengths, at most {_MOST_LENGTHS:,} are read")
        return cls.counted([_length(text) for text in data], [_count(value) for value in data.values()])

    def padded(self, batch: int) -> "Traffic":
        """What a device sees that waits for `batch` requests and pads them: the longest of so many independent draws."""
        below = np.cumsum(self.shares) ** batch
        return Traffic(tokens=self.tokens, shares=tuple(np.diff(below, prepend=0.0).tolist()))

    def quantile(self, q: float) -> int:
        """The least length that a share `q` of the requests does not exceed."""
        return self.tokens[int(np.searchsorted(np.cumsum(self.shares), q * (1 - 1e-12)))]

    def replayed(self, count: int = 16) -> tuple[int, ...]:
        """So many lengths that stand for the whole: the middles of equal shares, from the shortest to the longest."""
        return tuple(self.quantile((i + 0.5) / count) for i in range(count))

    @property
    def mean(self) -> float:
        """Tokens a request, on average."""
        return float(np.dot(self.tokens, self.shares))


def _tokens(value: Any) -> int:
    """A length out of JSON, where true is a number too for Python and 1.5 no length."""
    if type(value) is not int:
        raise ValueError(f"{printable(json.dumps(value), 60)} is no whole number of tokens")
    return int(value)


def _length(text: str) -> int:
    """A length that is the key of a JSON object, in the one form that it has."""
    if not re.fullmatch(r"0|-?[1-9][0-9]{0,30}", text):
        raise ValueError(f"{printable(json.dumps(text), 60)} is no whole number of tokens")
    return int(text)


def _refusal(path: Path, why: str) -> InputError:
    return InputError(
        f'{printable(path.name)} is no traffic ({why})\nit is a list of lengths, or counts by length: {{"32": 100}}'
    )


def _count(value: Any) -> float:
    """How often, out of JSON; fractions are shares."""
    if type(value) not in {int, float}:
        raise ValueError(f"{printable(json.dumps(value), 60)} is no count")
    return float(value)
