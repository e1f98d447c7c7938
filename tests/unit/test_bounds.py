"""Numbers and quantities of flags: both bounds, one form of message, nothing that Python would read and nobody writes."""

import pytest

from compiler.pipeline import Budgets, Options
from compiler.pipeline.bench import BenchOptions
from compiler.pipeline.profile import ProfileOptions
from targets import quantities
from targets.bounds import BOUNDS, check_number
from targets.errors import InputError

NUMBERS = {
    "seed": (-1, 2**32), "batch": (0, 10**30), "seq_len": (0, 10**7), "threads": (0, 10**5), "winners": (0, 10**4),
    "evaluations": (0, 10**30), "random_subnets": (-1, 10**4), "train_batch_size": (0, 10**6), "accumulation": (0, 10**6),
    "epochs": (0.0, 1e5, float("nan"), float("inf"), -1.0), "learning_rate": (0.0, 11.0, float("nan")),
    "temperature": (0.0, 1e7, float("-inf")),
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in NUMBERS.items() for value in values])
def test_a_number_outside_of_its_bounds_is_refused_with_what_was_expected(name, value):
    flag = f"--{name.replace('_', '-')}"
    with pytest.raises(InputError, match=f"^{flag} must be from .+ to .+, got ") as caught:
        Options(model="m", **{name: value})
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("flag", BOUNDS)
def test_both_bounds_are_allowed_and_the_defaults_lie_between(flag):
    check_number(flag, BOUNDS[flag].least)
    check_number(flag, BOUNDS[flag].most)
    check_number(flag, None)
    for value in (BOUNDS[flag].most * 1.001 + 1e-3, float("nan"), BOUNDS[flag].least - 1e-3):
        with pytest.raises(InputError, match=flag):
            check_number(flag, value)


@pytest.mark.parametrize("budget", [{"max_latency_s": -1.0}, {"min_speedup": float("inf")}, {"max_drop": 1.5}])
def test_budgets_have_bounds_where_no_flag_was_parsed(budget):
    with pytest.raises(InputError, match="must be from"):
        Options(model="m", budgets=Budgets(**budget))


@pytest.mark.parametrize("wrong", [{"batches": (0,)}, {"lengths": (10**30,)}, {"seed": -1}, {"check_nets": 10**9}])
def test_profiles_have_the_bounds_of_runs(wrong):
    with pytest.raises(InputError, match="must be from"):
        ProfileOptions(**wrong)


def test_benchmarks_have_the_bounds_of_runs(tmp_path):
    with pytest.raises(InputError, match="--seconds must be from"):
        BenchOptions(paths=(tmp_path,), seconds=float("nan"))


WRITTEN = [
    (quantities.seconds, ("2ms", 0.002), ("1.5s", 1.5), ("800us", 8e-4), (" 1e-3 s", 1e-3)),
    (quantities.size_bytes, ("300MB", 3e8), ("1.5GiB", 1.5 * 2**30), ("2kB", 2000)),
    (quantities.ratio, ("2x", 2), ("2", 2), (".5x", 0.5)),
    (quantities.share, ("1%", 0.01), ("0.01", 0.01), ("0", 0)),
    (quantities.age_seconds, ("7d", 7 * 86400), ("12h", 12 * 3600), ("0d", 0)),
    (quantities.whole_numbers, ("1,8", (1, 8)), ("1", (1,)), (" 1 , 2", (1, 2))),
]
FLAGS = ("--max-latency", "--max-memory", "--min-speedup", "--max-drop", "--prune", "--batch")


@pytest.mark.parametrize(
    ("read", "flag", "cases"), [(w[0], flag, w[1:]) for w, flag in zip(WRITTEN, FLAGS, strict=True)]
)
def test_what_people_write_is_read(read, flag, cases):
    for text, value in cases:
        assert read(text, flag) == pytest.approx(value)


NONSENSE = (
    "", " ", "nan", "inf", "infms", "1e400ms", "1e400", "-1ms", "-2x", "-1", "1..2ms", "1_0ms", "1_0x", "\u0661\u0662", "\u0661\u0662ms",
    "\uff12x", "2\u00b2", "9" * 5000, "9" * 5000 + "ms", "9" * 5000 + "d", "0x10", "1e", "2 m s", "ms", "x", "1\x00", "1,,2", "1" * 29 + "d",
    "1" * 29 + "GB", ",".join(["1"] * 500), "\ud800",
)  # fmt: skip


@pytest.mark.parametrize("text", NONSENSE, ids=lambda text: ascii(text)[:20])
@pytest.mark.parametrize(("read", "flag"), [(w[0], flag) for w, flag in zip(WRITTEN, FLAGS, strict=True)])
def test_what_is_no_quantity_is_refused_shortly(read, flag, text):
    with pytest.raises(InputError, match=f"^{flag}") as caught:
        read(text, flag)
    assert len(str(caught.value)) < 250
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("field", ["model", "out", "data", "target", "prompt", "label_column", "traffic"])
@pytest.mark.parametrize("text", ["a\0b", "a\udcff", "x" * 5000], ids=["NUL", "surrogate", "long"])
def test_a_text_that_no_file_can_hold_is_refused(field, text):
    with pytest.raises(InputError, match=f"--{field.replace('_', '-')}"):
        Options(**{"model": "m", field: text})


def test_a_prompt_and_the_name_of_a_column_may_have_two_lines():
    assert Options(model="m", prompt="Instruct: find\nQuery: ", text_columns=("a\nb",)).prompt.endswith("Query: ")
