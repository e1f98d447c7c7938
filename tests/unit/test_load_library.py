"""Messages of libraries: the line that says what is wrong, in bounds."""

from pathlib import Path

import pytest

from compiler.families.loading.library import MOST_CHARACTERS, reason_of, refusing
from targets.errors import BudgetError, InputError

TRANSFORMERS = """Error(s) in loading state_dict for BertModel:
\tsize mismatch for x.weight: copying a param with shape torch.Size([2]) from checkpoint, the shape is torch.Size([3]).
\tYou may consider adding `ignore_mismatched_sizes=True` in the model `from_pretrained` method."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError(TRANSFORMERS), "size mismatch for x.weight"),
        (OSError("cannot read vocab.txt\n\nPlease check the file.\nSee https://x.y"), "cannot read vocab.txt"),
        (KeyError("architectures"), "KeyError 'architectures'"),
        (RecursionError(), "RecursionError"),
        (ValueError("You must say more"), "You must say more"),
    ],
)
def test_the_line_that_tells(error, reason):
    assert reason_of(error).startswith(reason)


def test_a_long_message_has_bounds():
    assert len(reason_of(ValueError("x" * 10_000))) == MOST_CHARACTERS


class Panic(BaseException):
    """As Rust libraries raise it: no Exception."""


@pytest.mark.parametrize("error", [Panic("index out of bounds"), MemoryError(), ValueError("odd")])
def test_whatever_is_raised_becomes_one_line(error):
    with pytest.raises(InputError) as caught, refusing(Path("a/model"), "cannot be read"):
        raise error
    assert str(caught.value).startswith("model: cannot be read: ")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), BudgetError("too little")])
def test_what_is_not_a_librarys_passes(error):
    with pytest.raises(type(error)), refusing(Path("model"), "cannot be read"):
        raise error
