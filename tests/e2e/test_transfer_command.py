"""`compile profile --from`: a table carried over to another device, on the null device posing as both."""

import json

import pytest

from profilers import CostTable
from tests.cli import call
from tests.tiny import save_tiny


class Place:
    """A tiny model and a table of it on a device that the null device poses as."""

    def __init__(self, root) -> None:
        self.root, self.model = root, save_tiny(root / "model")
        self.base = root / "a10g.json"
        done = self.profile("a10g", self.base)
        assert done.code == 0, done.err

    def profile(self, target, output, *flags):
        arguments = ("--target", target, "--model", self.model, "--seq-len", 32, "--runtime", "null")
        return call("profile", *arguments, "-o", output, *flags)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("transfer")
        patch.setenv("PARETOC_CACHE", str(root / "cache"))
        yield Place(root)


def test_a_table_is_carried_over_and_its_error_printed_beside_the_scaled_bases(place):
    path = place.root / "l4.json"
    done = place.profile("l4", path, "--from", place.base)
    assert done.code == 0, done.err
    table, base = CostTable.read(path), CostTable.read(place.base)
    assert table.target.startswith("l4")
    assert {(k.piece, k.size) for k in table.entries} == {(k.piece, k.size) for k in base.entries}
    assert all("scaled_s" in check for check in table.checks)
    assert [transfer["from"]["target"] for transfer in table.how["transfers"]] == [base.target] * len(table.workloads())
    assert f"carried over from {place.base}, whose times are modelled (null), by 10 networks" in " ".join(
        done.err.split()
    )


def test_a_run_takes_a_table_that_was_carried_over(place):
    path = place.root / "t4.json"
    assert place.profile("t4", path, "--from", place.base, "--samples", 6).code == 0
    texts = place.root / "texts.txt"
    texts.write_text("\n".join(f"the price of train {i} is low" for i in range(60)) + "\n", encoding="utf-8")
    out = place.root / "out"
    done = call(
        place.model, "--data", texts, "--target", "t4", "--table", path, "--seq-len", 32, "--out", out,
        "--evaluations", 12, "--winners", 2, "--quiet",
    )  # fmt: skip
    assert done.code == 0, done.err
    front = json.loads((out / "front.json").read_text(encoding="utf-8"))
    assert front["table"]["source"] == "null"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--from", "{base}", "--samples", 3), "--samples must be from 4 to 10,000, got 3"),
        (("--samples", 8), "give that table with --from"),
        (("--from", "{root}/none.json"), "no cost table at"),
    ],
    ids=["too few", "no table", "no file"],
)
def test_bad_input(place, flags, words):
    flags = [str(flag).format(base=place.base, root=place.root) for flag in flags]
    done = place.profile("l4", place.root / "never.json", *flags)
    assert done.code == 2
    assert words in done.message[0]
    assert len(done.message) <= 2
    assert not (place.root / "never.json").exists()


def _change(place, name, change):
    data = json.loads(place.base.read_text(encoding="utf-8"))
    change(data)
    path = place.root / name
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_a_table_of_another_model_is_refused(place):
    other = _change(place, "other.json", lambda data: data["dimensions"].update(hidden_size=64))
    done = place.profile("l4", place.root / "never.json", "--from", other)
    assert done.code == 3
    assert "of another model: hidden_size 64, the model has 32" in done.message[0]


def test_a_deeper_model_of_the_same_sizes_is_not(place):
    deeper = _change(place, "deeper.json", lambda data: data["dimensions"].update(layers=12, vocabulary=9))
    path = place.root / "shallow.json"
    assert place.profile("l4", path, "--from", deeper).code == 0
    assert CostTable.read(path).dimensions.layers == 3


def test_a_table_with_a_piece_missing_is_refused(place):
    def drop(data):
        data["entries"] = [row for row in data["entries"] if row["piece"] != "ffn"]

    done = place.profile("l4", place.root / "never.json", "--from", _change(place, "holes.json", drop))
    assert done.code == 2
    assert "holes.json is not complete" in done.message[0]


def test_an_empty_table_is_refused(place):
    empty = _change(place, "empty.json", lambda data: data.update(entries=[]))
    done = place.profile("l4", place.root / "never.json", "--from", empty)
    assert done.code == 3
    assert "has no entries" in done.message[0]
