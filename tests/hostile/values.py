"""Hypothesis strategies of the values that break readers: other types, extreme numbers, long and odd texts, deep nests."""

from typing import Any

from hypothesis import strategies as st

RAW = "raw JSON: "
"""A text that begins so is put into a JSON file as it is, unquoted: what json.dumps would never write."""

TEXTS = (
    "", " ", "0", "-1", "NaN", "null", "true", "../outside", "../../../canary/home/notes.txt", "/etc/passwd", "/dev/zero", "a\nb",
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "[/x]", "[bold]", "run[v2]", "\ud800", "\udcff", "\x00", "\u202e", "é" * 40,
    "x" * 300, "word " * 4000, "y" * 100_000, "%s%n{0}", "${HOME}", "<script>alert(1)</script>", "bert", "\ufeff", "None",
)  # fmt: skip

NUMBERS = (
    -1, 0, 1, 2, 3, 7, 64, 2**15, 2**31 - 1, 2**31, 2**53 + 1, 2**63, 10**12, 10**30, -(2**63), 0.0, -0.0, 0.5, 1.5, -1e-300,
    1e-320, 1e38, 1e308,
)  # fmt: skip

RAWS = (
    "NaN", "Infinity", "-Infinity", "1e999", "[" * 60 + "]" * 60, "[" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000, "9" * 5000,
    '"\\ud800"', "01", "'x'", "{", "undefined", "/* */ 1", "1,", '{"a": 1, "a": 2}',
)  # fmt: skip

scalars = st.one_of(
    st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.booleans(), st.none(), st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=12),
)  # fmt: skip
small = st.one_of(st.sampled_from(NUMBERS), st.sampled_from(TEXTS[:22]), st.booleans(), st.none())
nested = st.recursive(
    small,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(TEXTS[:12]), inner, max_size=3),
    max_leaves=5,
)
raws = st.sampled_from(RAWS).map(lambda text: RAW + text)
values: st.SearchStrategy[Any] = st.one_of(scalars, scalars, scalars, nested, raws)
