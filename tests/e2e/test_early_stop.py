"""Hopeless networks are judged on some of the examples: the front is what it would be, whatever is in the store."""

import csv

import pytest

from compiler.evaluation import early
from tests.cli import call, write_texts
from tests.tiny import save_tiny

EXAMPLES = 1000


class Place:
    """A model, and texts of which enough are left for validation."""

    def __init__(self, root):
        self.root, self.runs = root, 0
        self.encoder = save_tiny(root / "encoder")
        self.texts = write_texts(root / "texts.txt", 5000)

    def rows(self, *arguments, cache, seed=0):
        """The candidates of one run."""
        self.runs += 1
        out = self.root / f"out{self.runs}"
        done = call(
            self.encoder, "--data", self.texts, "--target", "null", "--cache", self.root / cache, "--out", out, "--quiet",
            "--seq-len", 32, "--evaluations", 40, "--winners", 3, "--seed", seed, *arguments,
        )  # fmt: skip
        assert done.code == 0, done.err
        with (out / "candidates.csv").open(encoding="utf-8") as lines:
            return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compiler.pipeline.stages.export.compare_with_fresh_export", lambda *_: 0.0)
        yield Place(tmp_path_factory.mktemp("early"))


@pytest.fixture(scope="module")
def shortened(place):
    return place.rows("--search", "random", cache="first")


def test_some_are_judged_on_a_part_and_one_no_dearer_is_better(shortened):
    short = [row for row in shortened if int(row["examples"]) < EXAMPLES]
    assert len(short) >= 4
    for row in short:
        assert early.FEWEST <= int(row["examples"]) < EXAMPLES / 2
        assert row["on_front"] == "0"
        assert any(
            int(other["examples"]) == EXAMPLES
            and float(other["latency_ms"]) <= float(row["latency_ms"])
            and float(other["error"]) < float(row["error"])
            for other in shortened
        )


def test_the_front_is_that_of_judging_every_network_on_everything(place, shortened, monkeypatch):
    """Random search asks for the same networks, whatever it is told."""
    monkeypatch.setattr(early, "FEWEST", EXAMPLES)
    whole = place.rows("--search", "random", cache="second")
    assert {row["examples"] for row in whole} == {str(EXAMPLES)}
    assert [row for row in whole if row["on_front"] == "1"] == [row for row in shortened if row["on_front"] == "1"]
    for row, other in zip(shortened, whole, strict=True):
        assert (row["heads"], row["ffn_units"]) == (other["heads"], other["ffn_units"])
        if row["examples"] == other["examples"]:
            assert row == other
        else:
            assert float(row["error"]) == pytest.approx(float(other["error"]), abs=0.05)


def test_what_the_store_has_of_other_runs_changes_nothing(place, shortened):
    """A run finds networks there that it would have judged on a part, and others judged on a part that it needs in full."""
    assert shortened
    place.rows("--search", "local", cache="first", seed=1)
    warm = place.rows("--search", "nsga2", cache="first")
    assert warm == place.rows("--search", "nsga2", cache="third")
