"""subnet.json as a stranger may have written it."""

import pytest

from compiler.export.subnet_form import check_subnet
from targets.errors import InputError, VerificationError

GOOD = {"schema": 1, "task": "embedding", "base": "m", "heads": [[0, 3], []], "ffn_units": [[1, 2], [0]]}


def test_what_paretoc_writes_is_read_unchanged():
    for content in (GOOD, GOOD | {"residual": [0, 4]}, GOOD | {"later": 1}):
        assert check_subnet(content, name="x") is content


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 3}, "has schema 3"),
        ({"task": "magic"}, "task: input should be"),
        ({"heads": [[-1, 3], []]}, r"heads\[0\]\[0\]: .*got -1"),
        ({"heads": [[3, 0], []]}, r"heads\[0\]: indices must ascend"),
        ({"heads": [[3, 3], []]}, r"heads\[0\]: indices must ascend"),
        ({"heads": [[10**12], []]}, "less than or equal"),
        ({"heads": [[0]]}, "1 layers of heads, 2 layers of ffn_units"),
        ({"heads": []}, "at least 1 item"),
        ({"heads": [[0]] * 2000}, "at most 1000 items"),
        ({"heads": [[True], []]}, "valid integer"),
        ({"heads": [["0"], []]}, "valid integer"),
        ({"heads": None}, "valid list"),
        ({"ffn_units": [[0.5], []]}, "valid integer"),
        ({"residual": []}, "at least 1 item"),
        ({"residual": [2, 1]}, "residual: indices must ascend"),
        ({"base": "x" * 10**6}, "at most 1000 characters"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_is_named(change, said):
    with pytest.raises(InputError, match=f"subnet.json.*{said}"):
        check_subnet(GOOD | change, name="subnet.json")
    with pytest.raises(VerificationError):
        check_subnet(GOOD | change, name="subnet.json", fail=VerificationError)


@pytest.mark.parametrize("content", [None, [], "x", 7])
def test_what_is_no_object_has_no_schema(content):
    with pytest.raises(InputError, match="has schema None"):
        check_subnet(content, name="subnet.json")
