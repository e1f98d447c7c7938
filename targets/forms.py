"""Bounded types that declared forms of JSON files are made of: what is senseless for every file is refused in one place.

`targets.json_file.conforming` holds values against them. Numbers are finite already: `read_json` refuses others.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Len

MOST_LAYERS = 1000
MOST_BYTES_OF_A_FILE = 64 * 2**30


@dataclass(frozen=True, slots=True)
class Text:
    """Metadata of a `str`: at most so many characters, and all of it of a pattern (Rust's regular expressions) if one is given."""

    most: int
    pattern: str | None = None

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.str_schema(max_length=self.most, pattern=self.pattern)


Words = Annotated[str, Text(20_000)]
"""Free text: a note, a description, the name of a data set."""

Name = Annotated[str, Text(1000)]
"""A name that is shown, never opened."""

Id = Annotated[str, Text(100, r"^[A-Za-z0-9][A-Za-z0-9_.+:-]*$")]
"""The name of a network or target: it becomes the name of a folder."""

Word = Annotated[str, Text(100, r"^[A-Za-z0-9][A-Za-z0-9_.+: -]*$")]
"""The name of a choice: a metric, a search, a precision."""

Sha256 = Annotated[str, Text(64, r"^[0-9a-f]{64}$")]
FilePath = Annotated[str, Text(1000, r"^[A-Za-z0-9][A-Za-z0-9_.+:-]*(/[A-Za-z0-9][A-Za-z0-9_.+:-]*)*$")]
"""Relative, of folders and a file with plain names: none is `..`, and it can stand in a line of code."""

Count = Annotated[int, Ge(0), Le(10**15)]
Positive = Annotated[int, Ge(1), Le(10**9)]
"""A batch, a length, a number of threads: whatever there is at least one of."""

Layers = Annotated[int, Ge(1), Le(MOST_LAYERS)]
Width = Annotated[int, Ge(0), Le(10**6)]
"""How many heads, FFN units or residual dimensions."""

FileSize = Annotated[int, Ge(0), Le(MOST_BYTES_OF_A_FILE)]
Bytes = Annotated[float, Ge(0), Le(1e18)]
Milliseconds = Annotated[float, Gt(0), Le(1e9)]
Seconds = Annotated[float, Ge(0), Le(1e9)]
Joules = Annotated[float, Ge(0), Le(1e9)]
Rate = Annotated[float, Ge(0), Le(1e21)]
"""Operations, bytes or sequences a second."""

Ratio = Annotated[float, Gt(0), Le(1e9)]
"""A speed-up."""

Share = Annotated[float, Ge(0), Le(1)]
Deviation = Annotated[float, Ge(0), Le(1e9)]
"""A relative error, a standard error, a largest difference."""

Correlation = Annotated[float, Ge(-1.000001), Le(1.000001)]
Figure = Annotated[float, Ge(-1e12), Le(1e12)]
"""A metric or an error on a split."""

Interval = Annotated[list[Ratio], Len(2, 2)]
