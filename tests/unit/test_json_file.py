import json
import os
from typing import Annotated, Literal, NotRequired

import pytest
from annotated_types import Ge
from typing_extensions import TypedDict

from targets.errors import InputError, VerificationError
from targets.json_file import conforming, read_json


class Part(TypedDict):
    count: Annotated[int, Ge(0)]
    kind: NotRequired[Literal["a", "b"]]


class Whole(TypedDict):
    share: float
    parts: list[Part]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "line 1 column 2"),
        (b"[" * 100_000, "nested more than 64"),
        (b"[" * 70 + b"]" * 70, "nested more than 64"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": [-Infinity]}', "-Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a\\ud800": 1}', "a\\ud800"),
        (b"1" * 5000, "5000 digits"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"", "line 1 column 1"),
    ],
)
def test_what_is_no_json_is_refused_in_a_line_or_two(tmp_path, content, said):
    path = tmp_path / "odd.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_json(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith("odd.json")
    assert len(str(caught.value).splitlines()) <= 3


def test_pipes_devices_and_folders_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", tmp_path, "/dev/zero"):
        with pytest.raises(InputError, match="no regular file"):
            read_json(tmp_path / path)
    with pytest.raises(InputError, match="No such file"):
        read_json(tmp_path / "absent.json")


def test_a_size_has_a_bound_and_a_byte_order_mark_is_no_content(tmp_path):
    path = tmp_path / "large.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"é": "x" * 100}).encode())
    assert read_json(path) == {"é": "x" * 100}
    with pytest.raises(InputError, match="at most 50"):
        read_json(path, most_bytes=50)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([], "everything"),
        ({"share": "0.5", "parts": []}, "share"),
        ({"share": 0.5, "parts": [{"count": 1}, {"count": -1}]}, r"parts\[1\].count"),
        ({"share": 0.5, "parts": [{"count": True}]}, r"parts\[0\].count"),
        ({"share": 0.5, "parts": [{"count": 1, "kind": "c"}]}, r"parts\[0\].kind"),
        ({"share": 0.5}, "parts"),
    ],
)
def test_what_is_not_of_the_declared_form_is_named_by_its_place(value, place):
    with pytest.raises(InputError, match=f"^whole.json: {place}: "):
        conforming(value, Whole, name="whole.json")


def test_what_conforms_comes_back_and_others_may_fail_otherwise():
    assert conforming({"share": 1, "parts": [{"count": 2}]}, Whole, name="x") == {"share": 1.0, "parts": [{"count": 2}]}
    with pytest.raises(VerificationError):
        conforming(1, Whole, name="x", fail=VerificationError)


def test_a_message_is_at_most_three_lines_that_a_terminal_can_show():
    error = InputError("bad\x1b[31m name\r\n\none\ntwo\nthree" + "x" * 10_000)
    assert str(error).splitlines() == ["bad\\x1b[31m name", "one", "two"]
    assert max(map(len, str(InputError("x" * 10_000)).splitlines())) == 500
    assert str(InputError("\ud800")) == "\\ud800"
