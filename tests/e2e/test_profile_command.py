"""`compile profile` of several workloads, and what becomes of tables that ship: on the null device, posing as others."""

import json
from itertools import product

import pytest

from profilers import CostTable, Workload
from tests.cli import call, write_texts
from tests.tiny import save_tiny


class Place:
    """A tiny model, some texts, and a table of two lengths on a device that is not here."""

    def __init__(self, root) -> None:
        self.root, self.model, self.texts = root, save_tiny(root / "model"), write_texts(root / "texts.txt")
        self.costs = root / "costs"
        self.costs.mkdir()
        self.runs = 0

    def profile(self, target, output, *flags):
        return call("profile", "--target", target, "--model", self.model, "--runtime", "null", "-o", output, *flags)

    def run(self, *flags, code=0):
        """A run on a device that is not here: its call and, where it went well, its front."""
        self.runs += 1
        out = self.root / f"out{self.runs}"
        done = call(
            self.model, "--data", self.texts, "--target", "a10g", "--seq-len", 32, "--evaluations", 12, "--winners", 2,
            "--cache", self.root / "runs", "--out", out, "--quiet", *flags,
        )  # fmt: skip
        assert done.code == code, done.err
        return done, None if code else json.loads((out / "front.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("profile")
        patch.setenv("PARETOC_CACHE", str(root / "cache"))
        yield Place(root)


# --- several workloads


ASKED = ("--batch", "1,2", "--seq-len", "32, 16", "--threads", "1,2", "--precision", "fp32,int8")


@pytest.fixture(scope="module")
def grid(place):
    """A table of all workloads asked for, its file, and what was said."""
    path = place.root / "grid.json"
    done = place.profile("cpu", path, *ASKED)
    assert done.code == 0, done.err
    return CostTable.read(path), path, done.err


def test_every_combination_is_in_one_table_with_an_error_and_a_line_of_its_own(grid):
    table, path, said = grid
    wanted = {
        Workload(batch=batch, tokens=tokens, threads=threads, precision=precision, runtime="null")
        for batch, tokens, threads, precision in product((1, 2), (16, 32), (1, 2), ("fp32", "int8"))
    }
    assert set(table.workloads()) == set(table.errors) == wanted
    for workload, error in table.errors.items():
        (line,) = [line for line in said.splitlines() if line.startswith(f"{workload}: ")]
        part = table.under([workload])
        (measured,) = part.how["measured"]
        placed = f"{part.at_bends} sizes placed where the curve bends, in "
        assert f"{len(part.entries)} entries from {measured['networks']} networks, {placed}" in line
        assert f"on {error.check_nets} unseen networks off by {error.mape:.1%} on average" in line
        assert f"(linear fit on operations: {error.control_mape:.1%})" in line
    assert f"{path}: {len(table.entries)} entries" in said


def test_a_part_is_what_profiling_it_alone_gives(place, grid):
    path = place.root / "alone.json"
    done = place.profile("cpu", path, "--batch", 2, "--seq-len", 32, "--threads", 2)
    assert done.code == 0, done.err
    alone, table = CostTable.read(path), grid[0]
    (workload,) = alone.workloads()
    assert table.under([workload]).entries == alone.entries
    assert table.under([workload]).checks == alone.checks


def test_what_is_wrong_with_a_table_is_said(place, monkeypatch):
    """The device's own warnings, and an error above the bound: a run would refuse the table."""
    monkeypatch.setattr(
        "profilers.runtimes.null.NullRuntime.describe", lambda _: {"mode": "", "warnings": ["it was hot"]}
    )
    monkeypatch.setattr("compiler.pipeline.measuring.MAX_MAPE", -0.5)
    path = place.root / "hot.json"
    done = place.profile("null", path, "--seq-len", 32, "--check-nets", 12, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == json.loads(path.read_text(encoding="utf-8"))
    assert "warning: it was hot" in done.err
    assert "over the bound of -50%: runs refuse it\nprofile again when the machine is quiet" in done.err
    assert "sizes placed where the curve bends" in done.err


def test_without_lists_it_is_one_workload(place, grid):
    path = place.root / "one.json"
    assert place.profile("null", path, "--seq-len", 32, "--check-nets", 12).code == 0
    table = CostTable.read(path)
    assert table.workloads() == [Workload(tokens=32, runtime="null")]
    assert table.error.check_nets <= 12 < grid[0].error.check_nets


def test_threads_are_no_workloads_of_a_gpu(place):
    path = place.root / "gpu.json"
    assert place.profile("l4:fp32", path, "--seq-len", 32, "--threads", "1,4").code == 0
    assert CostTable.read(path).workloads() == [Workload(tokens=32, runtime="null")]


def test_a_base_is_carried_over_to_every_workload(place, grid):
    path = place.root / "carried.json"
    done = place.profile("l4:fp32", path, "--from", grid[1], "--batch", "1,4", "--seq-len", "16,32")
    assert done.code == 0, done.err
    table = CostTable.read(path)
    assert len(table.workloads()) == len(table.errors) == 4
    assert [transfer["to"] for transfer in table.how["transfers"]] == [w.to_json() for w in table.workloads()]
    for workload in table.workloads():
        assert f"{workload}: carried over from {grid[1]}, whose times are modelled (null), by 10 networks" in done.err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--batch", "1,x"), "--batch '1,x' is no list of whole numbers"),
        (("--seq-len", "32,,16"), "--seq-len '32,,16' is no list of whole numbers"),
        (("--batch", "1.5"), "--batch '1.5' is no list of whole numbers"),
        (("--threads", ""), "--threads '' is empty"),
        (("--threads", "1,2,1"), "--threads must name each number once, got 1,2,1"),
        (("--batch", "4,0"), "--batch must be from 1 to 65,536, got 0"),
        (("--seq-len", "32,500"), "--seq-len 500 is over the model's limit of 66 tokens"),
        (("--precision", "fp32,fp32"), "--precision must name each precision once"),
        (("--precision", "fp32,fp17"), "does not run 'fp17'"),
        (("--check-nets", "11"), "--check-nets must be from 12 to 10,000, got 11"),
        (("-o", "{root}/none/table.json"), "no folder {root}/none to write the table to"),
        (("-o", "{root}"), "{root} is a folder"),
    ],
    ids=lambda value: value[0].strip("-") if isinstance(value, tuple) else "",
)
def test_bad_lists(place, flags, words):
    never = place.root / "never.json"
    done = place.profile("cpu", never, *(flag.format(root=place.root) for flag in flags))
    assert done.code == 2
    assert words.format(root=place.root) in done.message[0]
    assert len(done.message) <= 2
    assert not never.exists()


# --- tables that ship


@pytest.fixture(scope="module")
def table(place):
    """A table as if it had been measured on the device that the null device posed as; beside it one of a model of the same sizes
    with another vocabulary, which would serve, and one of another model."""
    path = place.costs / "a10g-tiny.json"
    done = place.profile("a10g", path, "--seq-len", "16,32")
    assert done.code == 0, done.err
    data = json.loads(path.read_text(encoding="utf-8"))
    data["source"] = "measured"
    data["fingerprint"] |= {"device_name": "NVIDIA A10G", "kind": "gpu"}
    path.write_text(json.dumps(data), encoding="utf-8")
    data["dimensions"]["vocabulary"] += 1
    (place.costs / "a10g-alike.json").write_text(json.dumps(data), encoding="utf-8")
    data["dimensions"]["hidden_size"] = 64
    (place.costs / "a10g-broad.json").write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.fixture
def shipped(place, table, monkeypatch):
    monkeypatch.setattr("targets.presence._costs_folder", lambda: place.costs)
    monkeypatch.setattr("compiler.pipeline.stages.export.compare_with_fresh_export", lambda *_: 0.0)
    return table


def test_a_run_elsewhere_takes_the_table_that_fits_best_and_says_so(place, shipped):
    _, front = place.run("--max-drop", "50%")
    assert front["target"]["present"] is False
    assert front["target"]["fingerprint"]["device_name"] == "NVIDIA A10G"
    assert front["table"]["source"] == "measured"
    assert front["table"]["entries"] == len(CostTable.read(shipped).entries) / 2, "those of its own length only"
    for net in (front["dense"], *front["candidates"]):
        assert net["measured"] is None
        assert net["predicted"]["source"] in {"measured", "interpolated"}
    assert next(c for c in front["candidates"] if c["id"] == front["best"])["budget"]["status"] == "predicted"
    note = "costs are from a10g-tiny.json, a table that ships with paretoc: measured on NVIDIA A10G"
    assert note in front["notes"]
    _, given = place.run("--max-drop", "50%", "--table", shipped)
    assert given["candidates"] == front["candidates"]
    assert note not in given["notes"]


@pytest.mark.usefixtures("shipped")
def test_where_none_fits_the_refusal_says_what_they_are_for(place):
    done, _ = place.run("--batch", 4, code=3)
    assert "a10g is not here" in done.message[0]
    sizes = "4 heads, 48 FFN units and hidden size {} at batch 1, tokens 16 or 32, threads 1, fp32 or fp16 in null"
    for name, hidden in (("a10g-tiny.json", 32), ("a10g-broad.json", 64)):
        assert f"{name} is for {sizes.format(hidden)}" in done.message[0]
    assert "--accept-modelled" in done.message[1]
    assert len(done.message) == 2


@pytest.mark.usefixtures("shipped")
def test_where_none_fits_an_estimate_can_be_accepted(place):
    _, front = place.run("--batch", 4, "--accept-modelled")
    assert front["table"]["source"] == "roofline"


@pytest.mark.usefixtures("shipped")
def test_what_is_here_is_measured(place):
    _, front = place.run("--runtime", "null")
    assert front["table"]["source"] == "null"


@pytest.mark.usefixtures("shipped")
def test_a_table_that_ships_is_no_profile(place, tmp_path):
    done = call("profile", "--target", "a10g", "--model", place.model, "-o", tmp_path / "t.json")
    assert done.code == 3
    assert "a10g is not here" in done.message[0]
    assert not (tmp_path / "t.json").exists()


def test_the_catalogue_lists_what_ships(shipped):
    said = call("targets", "a10g").out
    worst = max(error.mape for error in CostTable.read(shipped).errors.values())
    (row,) = [line for line in said.splitlines() if "a10g-tiny.json" in line]
    cells = [cell.strip() for cell in row.strip("│ ").split("│")]
    assert cells[:7] == ["a10g-tiny.json", "3", "32", "4", "48", "4", "NVIDIA A10G"]
    assert cells[7] == f"{worst:.1%}"
    assert said.index("bandwidth_bytes_per_s") < said.index("a10g-tiny.json")
    assert "a10g-broad.json" in said
    assert "tables that ship" not in call("targets", "l4").out
