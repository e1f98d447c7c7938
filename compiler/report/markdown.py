"""Names and notes inside Markdown and YAML: whatever characters they hold, they stay text."""

import json
import re

from targets.errors import printable

_MOST = 5000
_MARKS = re.compile(r"([\\`*\[\]|])")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def inline(text: object) -> str:
    """A text in one line of Markdown, in a cell of a table too."""
    return _MARKS.sub(r"\\\1", printable(str(text), _MOST)).replace("<", "&lt;")


def code(text: object) -> str:
    """A text as code in a line of Markdown: fenced by more backticks than it holds in a row."""
    shown = printable(str(text), _MOST)
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    return f"{fence} {shown} {fence}" if "`" in shown else f"{fence}{shown}{fence}"


def yaml(value: object) -> str:
    """A value of a YAML header in one line: a plain word, else in the form of JSON."""
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    return json.dumps(value, default=str)
