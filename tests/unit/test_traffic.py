"""Traffic: lengths to shares, padding to the longest of a batch, and latencies read between profiled lengths."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profilers.interpolation import between
from profilers.traffic import Traffic
from targets.errors import InputError

LENGTHS = st.lists(st.integers(1, 512), min_size=1, max_size=40)


def test_lengths_become_shares():
    traffic = Traffic.of([5, 3, 5, 9])
    assert traffic == Traffic(tokens=(3, 5, 9), shares=(0.25, 0.5, 0.25))
    assert traffic.mean == pytest.approx(5.5)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_padding_is_the_longest_of_every_batch_there_is(batch):
    lengths = [2, 7, 7, 30]
    longest = [max(drawn) for drawn in itertools.product(lengths, repeat=batch)]
    padded = Traffic.of(lengths).padded(batch)
    assert padded.tokens == (2, 7, 30)
    assert padded.shares == pytest.approx([longest.count(length) / len(longest) for length in (2, 7, 30)])


@given(LENGTHS, st.floats(0, 1))
def test_a_quantile_is_the_least_length_that_covers_so_many(lengths, q):
    found = Traffic.of(lengths).quantile(q)
    covered = sum(length <= found for length in lengths) / len(lengths)
    shorter = sum(length < found for length in lengths) / len(lengths)
    assert covered >= q - 1e-9
    assert shorter < q + 1e-9 or shorter == 0


def test_a_length_is_read_between_its_neighbours():
    assert between([10, 20, 40], [10, 15, 25, 40]).tolist() == [[1, 0, 0], [0.5, 0.5, 0], [0, 0.75, 0.25], [0, 0, 1]]


def test_files_are_lists_or_counts(tmp_path):
    for name, data in (("list", [3, 5, 5, 9]), ("counts", {"3": 10, "5": 20, "9": 10, "400": 0})):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(data))
        assert Traffic.read(path) == Traffic(tokens=(3, 5, 9), shares=(0.25, 0.5, 0.25))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "no request"),
        ('{"8": 0}', "no request"),
        ("[0, 4]", "at least 1 token"),
        ('{"8": -1}', "above 0"),
        ('{"8": NaN}', "holds NaN"),
        ("3", "got int"),
        ('["x"]', "is no traffic"),
        ('{"x": 3}', "is no traffic"),
        ("[1, 2", "is no traffic"),
        ("{}", "no request"),
        ("[-5]", "at least 1 token"),
        ('{"0": 3, "4": 1}', "at least 1 token"),
        ('{"-4": 1}', "at least 1 token"),
        ("[1.5, 2]", "1.5 is no whole number"),
        ("[1e30]", "1e\\+30 is no whole number"),
        ("[Infinity]", "holds Infinity"),
        ("[true]", "true is no whole number"),
        ("[null]", "null is no whole number"),
        ("[[8]]", "no whole number"),
        ('{"1.5": 3}', "no whole number"),
        ('{"8_0": 3}', "no whole number"),
        ('{"8": null}', "null is no count"),
        ('{"8": true}', "true is no count"),
        ('{"8": "3"}', "is no count"),
        ('{"8": 1e999}', "too large"),
        ('{"8": 1, "08": 5}', "no whole number"),
        ('{"\u0668": 1}', "no whole number"),
        ("[" * 100_000, "nested"),
        ('{"8": 1' + "0" * 400 + "}", "too large"),
        ('{"8": 1e308, "9": 1e308}', "above 0"),
        ('"data"', "got str"),
    ],
)
def test_what_is_no_traffic_is_refused(tmp_path, text, said):
    path = tmp_path / "lengths.json"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        Traffic.read(path)
    assert str(caught.value).count("\n") <= 1


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "lengths.json"
    path.write_bytes(b"\xff\xfe[1]")
    with pytest.raises(InputError, match="is no traffic"):
        Traffic.read(path)


def test_a_length_beyond_every_model_is_still_a_length(tmp_path):
    """The model's limit is what refuses it, not a number that is too large for an array."""
    path = tmp_path / "lengths.json"
    path.write_text(json.dumps([8, 10**20]))
    assert Traffic.read(path).tokens == (8, 10**20)


def test_a_missing_file_says_what_to_give(tmp_path):
    with pytest.raises(InputError, match="--traffic"):
        Traffic.read(tmp_path / "none.json")
