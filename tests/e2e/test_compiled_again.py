"""A network that was compiled before, compiled further: its uneven layers are the new dense model."""

import json
import shutil

import numpy as np
import onnxruntime
import pytest
from safetensors.torch import load_file, save_file

from compiler.export import load_sliced, save_checkpoint
from compiler.slicing import SubnetRunner
from compiler.spaces import Subnet
from tests.cli import call, classes, write_rows, write_texts
from tests.tiny import tiny_checkpoint

KEPT = Subnet.of([[1, 3], [], [0, 1, 2]], [range(0, 48, 2), range(5, 40), []])
FEW = ("--target", "null", "--seq-len", 32, "--evaluations", 24, "--winners", 3, "--quiet")


def cut(root, task, model_type="bert"):
    """An uneven network as paretoc writes it, with a modelling file that must not run."""
    checkpoint = tiny_checkpoint(root / "dense", model_type, task=task, labels=2)
    parameters = SubnetRunner(checkpoint.model, checkpoint.architecture).parameters(KEPT)
    save_checkpoint(root / "parent", checkpoint, KEPT, parameters)
    (root / "parent" / "modeling_subnet.py").write_text("raise SystemExit('executed')", encoding="utf-8")
    dense = {name: tensor.detach().clone() for name, tensor in checkpoint.model.backbone.named_parameters()}
    return root / "parent", dense


class Place:
    def __init__(self, root):
        self.root = root
        self.parent, self.dense = cut(root / "encoder", "embedding")
        self.judge, _ = cut(root / "judge", "classification", "distilbert")
        self.texts = write_texts(root / "texts.txt")
        self.classes = write_rows(root / "classes.csv", ["class 0" if c else "class 1" for c in classes()])
        self.runs = 0

    def run(self, model, *arguments, data=None, code=0):
        self.runs += 1
        out = self.root / f"out{self.runs}"
        done = call(model, "--data", data or self.texts, "--cache", self.root / "cache", "--out", out, *FEW, *arguments)
        assert done.code == code, done.err
        return done if code else out


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp("again"))


@pytest.fixture(scope="module")
def child(place):
    return place.run(place.parent)


@pytest.fixture
def quick(monkeypatch, child):
    """Without the comparison with torch's own export, 4 s each; the first run of this module made it."""
    monkeypatch.setattr("compiler.pipeline.stages.export.compare_with_fresh_export", lambda *_: 0.0)
    return child


def read(out):
    return json.loads((out / "front.json").read_text(encoding="utf-8"))


def nets(out):
    front = read(out)
    return [front["dense"], *front["candidates"]]


def origin(folder):
    return json.loads((folder / "subnet.json").read_text(encoding="utf-8"))


def shape(net):
    return list(zip(net["shape"]["heads"], net["shape"]["ffn_units"], strict=True))


def test_the_baseline_is_the_network_that_was_given(place, child):
    front = read(child)
    assert shape(front["dense"]) == list(KEPT.shape)
    assert front["dense"]["speedup"] == 1.0
    assert front["model"]["name"] == "parent of dense"
    assert any("compiled before" in note for note in front["notes"])
    parent = load_sliced(place.parent)
    inputs = parent.tokenizer(["the small city", "a river"], padding=True, return_tensors="pt")
    session = onnxruntime.InferenceSession(child / "dense" / "model.onnx")
    found = session.run(None, {i.name: inputs[i.name].numpy() for i in session.get_inputs()})
    for ours, theirs in zip(found, parent.model(**inputs), strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=2e-5)


def test_no_network_has_more_than_the_one_it_was_cut_from(child):
    candidates = nets(child)[1:]
    assert candidates
    for net in candidates:
        sizes = shape(net)
        assert all(h <= most.heads and u <= most.ffn_units for (h, u), most in zip(sizes, KEPT.shape, strict=True))
        assert sizes != list(KEPT.shape)


def test_heads_and_units_are_counted_in_the_first_dense_model(place, child):
    """No step before the output projections changes a weight: the rows are the first model's own."""
    for net in nets(child):
        folder = child / net["id"]
        about, weights = origin(folder), load_file(folder / "model.safetensors")
        assert about["base"] == "dense"
        for layer, (heads, units) in enumerate(zip(about["heads"], about["ffn_units"], strict=True)):
            for name, kept, group in (("attention.self.query", heads, 8), ("intermediate.dense", units, 1)):
                parameter = f"encoder.layer.{layer}.{name}.weight"
                rows = [index * group + row for index in kept for row in range(group)]
                assert (parameter in weights) == bool(kept)
                if kept:
                    assert weights[parameter].equal(place.dense[parameter][rows])


def test_what_it_wrote_holds(child):
    done = call("verify", child, "--json")
    assert done.code == 0, done.err


def test_the_first_model_s_graph_and_table_serve_again(place, quick, monkeypatch):
    """Pieces are the dense model's: nothing is exported or profiled a second time."""
    monkeypatch.setattr("compiler.pipeline.graphs.export_dense", lambda *_, **__: pytest.fail("exported again"))
    monkeypatch.setattr("compiler.pipeline.measuring.measure_here", lambda *_, **__: pytest.fail("profiled again"))
    out = place.run(place.root / "encoder" / "dense", "--task", "embedding")
    again = place.run(out / read(out)["candidates"][0]["id"])
    assert read(again)["table"]["error"] == read(quick)["table"]["error"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("space", ["small", "layer", "large"])
def test_every_space_takes_it(place, space):
    out = place.run(place.parent, "--space", space)
    assert shape(read(out)["dense"]) == list(KEPT.shape)


@pytest.mark.usefixtures("quick")
def test_a_classifier_is_trained_further(place):
    out = place.run(place.judge, "--effort", "thorough", "--epochs", 1, data=place.classes)
    front = read(out)
    assert (front["task"], front["effort"]) == ("classification", "thorough")
    assert "train super-network" in front["timings_s"]


@pytest.mark.usefixtures("quick")
def test_a_third_time(place, child):
    middle = read(child)["candidates"][-1]["id"]
    out = place.run(child / middle)
    front, parent = read(out), origin(child / middle)
    assert front["model"]["name"] == f"{middle} of dense"
    for net in front["candidates"]:
        about = origin(out / net["id"])
        assert about["base"] == "dense"
        for part in ("heads", "ffn_units"):
            assert all(set(own) <= set(kept) for own, kept in zip(about[part], parent[part], strict=True))


@pytest.mark.usefixtures("quick")
def test_it_can_be_profiled(place, tmp_path):
    table = tmp_path / "table.json"
    done = call("profile", "--target", "null", "--model", place.parent, "--seq-len", 32, "-o", table)
    assert done.code == 0, done.err
    sizes = json.loads(table.read_text(encoding="utf-8"))["dimensions"]
    assert (sizes["heads"], sizes["ffn_units"]) == (4, 48)


def edited(place, tmp_path, **changes):
    folder = shutil.copytree(place.parent, tmp_path / "parent")
    (folder / "subnet.json").write_text(json.dumps(origin(folder) | changes), encoding="utf-8")
    return folder


BAD = {
    "another task": ({"task": "classification"}, "weights are not those of subnet.json"),
    "a later version": ({"schema": 3}, "has schema 3, this version reads 1 to 2"),
    "no sizes": ({"heads": None}, "subnet.json is damaged"),
    "indices that do not ascend": ({"heads": [[1, 1], [], [0]]}, "subnet.json is damaged"),
    "a head too many": ({"heads": [[1, 4], [], [0, 1, 2]]}, "subnet.json is of another model than config.json"),
    "other sizes": ({"heads": [[1], [], [0, 1, 2]]}, "weights are not those of subnet.json"),
    "nothing": ({"heads": [[], [], []], "ffn_units": [[], [], []]}, "belongs nowhere"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_a_folder_that_was_edited_is_refused(place, tmp_path, changes, message):
    done = place.run(edited(place, tmp_path, **changes), code=2)
    assert 1 <= len(done.message) <= 2
    assert message in "\n".join(done.message)


def test_weights_that_are_damaged_are_refused(place, tmp_path):
    folder = edited(place, tmp_path)
    (folder / "model.safetensors").write_bytes(b"no weights")
    assert "no safetensors header" in place.run(folder, code=2).message[0]


def test_a_network_with_nothing_left_is_refused(place, tmp_path):
    folder = edited(place, tmp_path, heads=[[], [], []], ffn_units=[[], [], []])
    weights = load_file(folder / "model.safetensors")
    save_file({n: t for n, t in weights.items() if ".layer." not in n}, folder / "model.safetensors")
    assert "no head and no FFN unit left to cut" in place.run(folder, code=2).message[0]


def test_a_model_is_the_same_wherever_it_lies(place, tmp_path):
    here, there = load_sliced(place.parent), load_sliced(shutil.copytree(place.parent, tmp_path / "moved"))
    assert here.digest == there.digest
    assert there.name == "moved of dense"


def test_another_task_is_refused(place):
    assert "was compiled for embedding" in place.run(place.parent, "--task", "classification",
                                                     data=place.classes, code=2).message[0]  # fmt: skip


def test_a_run_does_not_write_over_its_own_model(place, child):
    best = child / read(child)["best"]
    done = call(best, "--data", place.texts, "--out", child, *FEW)
    assert done.code == 2
    assert "which this run would write over" in done.message[0]
    assert "--out" in done.message[1]
