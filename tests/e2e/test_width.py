"""Runs that search the width of the residual stream, on the null device: from the command line to every file they leave."""

import csv
import json

import numpy as np
import onnxruntime
import pytest
import torch

from compiler.export import load_sliced
from tests.cli import call
from tests.e2e.test_null_device import FEW, Place, read
from tests.tiny import HIDDEN

WIDTH = ("--space", "width", "--objectives", "params", "--evaluations", 60, "--winners", 6)
"""The tiny models' time on the null device is mostly that of the call; of their parameters width takes much."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp("width"))


@pytest.fixture(scope="module")
def embedding(place):
    """The run folder of an embedding model, its fresh export included."""
    return place.run(*WIDTH)[1]


@pytest.fixture(scope="module")
def classifier(place):
    """The run folder of a classifier in two precisions."""
    return place.run(*WIDTH, "--precision", "fp32,int8", model=place.judge, data=place.classes)[1]


@pytest.fixture
def no_fresh_export(monkeypatch):
    monkeypatch.setattr("compiler.pipeline.stages.export.compare_with_fresh_export", lambda *_: 0.0)


@pytest.fixture(params=["embedding", "classifier"])
def out(request):
    return request.getfixturevalue(request.param)


def narrow_of(out):
    return [net for net in read(out)["candidates"] if "hidden_size" in net["shape"]]


def test_narrow_networks_are_found_and_say_how_wide_they_are(out):
    nets = narrow_of(out)
    rows = list(csv.DictReader((out / "candidates.csv").open(encoding="utf-8")))
    widths = {row["id"]: int(row["hidden_size"]) for row in rows}
    assert len(nets) > 0
    assert set(widths.values()) <= {16, 24, 32}
    for net in nets:
        kept = json.loads((out / net["id"] / "subnet.json").read_text(encoding="utf-8"))["residual"]
        assert len(kept) == net["shape"]["hidden_size"] == widths[net["id"]] < HIDDEN
        assert f"{len(kept)} of {HIDDEN} residual dimensions" in (out / net["id"] / "README.md").read_text("utf-8")
        assert net["parameters"] < read(out)["dense"]["parameters"]
    assert f"of {HIDDEN} residual dimensions between the layers" in (out / "report.html").read_text(encoding="utf-8")


def test_the_dense_network_is_as_it_was(place, embedding):
    ordinary = place.run()[1]
    files = [out / "dense" / "model.onnx" for out in (embedding, ordinary)]
    values = {"input_ids": 9, "attention_mask": 1, "token_type_ids": 0}
    inputs = {name: np.full((2, 7), value) for name, value in values.items()}
    outputs = [onnxruntime.InferenceSession(file).run(None, inputs) for file in files]
    assert all(np.array_equal(a, b) for a, b in zip(*outputs, strict=True))
    assert "hidden_size" not in read(embedding)["dense"]["shape"]


def test_every_file_is_verified(out):
    done = call("verify", out)
    assert done.code == 0, done.err


def test_a_width_that_is_not_the_files_own_is_noticed(place):
    out = place.run(*WIDTH, "--winners", 1)[1]
    front = json.loads((out / "front.json").read_text(encoding="utf-8"))
    front["candidates"][0]["shape"]["hidden_size"] = 8
    (out / "front.json").write_text(json.dumps(front), encoding="utf-8")
    done = call("verify", out)
    assert done.code == 5
    assert "describes another network" in done.err


def test_embeddings_keep_their_dimensions(embedding):
    for net in narrow_of(embedding):
        loaded, file = load_sliced(embedding / net["id"]), embedding / net["artifact"]["path"]
        inputs = loaded.tokenizer(["the river is cold", "buy"], padding=True, return_tensors="pt")
        given = {name: inputs[name] for name in loaded.input_names}
        session = onnxruntime.InferenceSession(file)
        ours = session.run(None, {name: tensor.numpy() for name, tensor in given.items()})[-1]
        with torch.no_grad():
            theirs = loaded.model(**given)[-1].numpy()
        assert ours.shape == (2, HIDDEN)
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_costs_of_every_width_are_null_here_and_the_notes_say_where_they_are_from(embedding):
    front = read(embedding)
    assert {net["predicted"]["source"] for net in front["candidates"]} == {"null"}
    (note,) = [note for note in front["notes"] if "residual dimensions" in note]
    assert note.startswith("networks of 16 and 24 residual dimensions (of 32) have a cost table of their own")
    nets = front["candidates"]
    for net in nets:
        off = net["predicted"]["latency_ms"] / net["measured"]["latency_ms"]["p50"] - 1
        assert abs(off) < 0.03


def test_a_run_started_again_ends_with_the_same_front(place, embedding):
    again = place.run(*WIDTH)[1]
    ours, theirs = (
        [(net["id"], net["shape"], net["error"]) for net in read(out)["candidates"]] for out in (again, embedding)
    )
    assert ours == theirs


@pytest.mark.usefixtures("no_fresh_export")
def test_index_order_keeps_the_first_dimensions(place):
    out = place.run(*WIDTH, "--order", "index")[1]
    nets = [json.loads(path.read_text(encoding="utf-8")) for path in out.glob("n*/subnet.json")]
    kept = [net["residual"] for net in nets if "residual" in net]
    assert kept
    assert all(dims == list(range(len(dims))) for dims in kept)


@pytest.mark.usefixtures("no_fresh_export")
@pytest.mark.parametrize("data", ["texts", "classes"])
def test_a_super_network_is_trained_at_several_widths_and_winners_are_polished(place, data):
    model = {"texts": place.encoder, "classes": place.judge}[data]
    out = place.run(*WIDTH, "--effort", "thorough", "--epochs", 1, model=model, data=getattr(place, data))[1]
    assert narrow_of(out)
    assert call("verify", out).code == 0


@pytest.mark.usefixtures("no_fresh_export")
def test_a_limit_holds_for_narrow_networks_too(place, embedding):
    limit = min(net["measured"]["latency_ms"]["p50"] for net in narrow_of(embedding)) * 1.2
    front = place.front(*WIDTH, "--max-latency", f"{limit:.6f}ms")
    best = next(net for net in front["candidates"] if net["id"] == front["best"])
    assert best["budget"]["status"] == "met"
    assert best["measured"]["latency_ms"]["p50"] <= limit


# --- compiled before


@pytest.mark.usefixtures("no_fresh_export")
def test_a_network_that_lost_heads_can_lose_width(place):
    parent = place.run("--winners", 1)[1] / "best"
    out = place.run(*WIDTH, model=parent)[1]
    first = json.loads((parent / "subnet.json").read_text(encoding="utf-8"))
    for net in narrow_of(out):
        kept = json.loads((out / net["id"] / "subnet.json").read_text(encoding="utf-8"))
        for part in ("heads", "ffn_units"):
            assert all(set(ours) <= set(theirs) for ours, theirs in zip(kept[part], first[part], strict=True))
    assert narrow_of(out)
    assert call("verify", out).code == 0


def test_a_network_that_lost_width_is_not_compiled_again(place, embedding):
    folder = embedding / narrow_of(embedding)[0]["id"]
    done, _ = place.run(model=folder, code=2)
    assert "residual dimensions: such a network is not compiled again" in done.message[0]
    done = call("profile", "--target", "null", "--model", folder, "-o", place.root / "t.json")
    assert done.code == 2
    assert "not compiled again" in done.message[0]


# --- where its costs cannot be had


@pytest.mark.parametrize(
    "flags", [("--objectives", "latency,memory"), ("--max-memory", "1GB"), ("--objectives", "energy")]
)
def test_what_is_modelled_at_one_width_is_refused(place, flags):
    done, _ = place.run(*WIDTH, *flags, code=2)
    assert "cannot be had with --space width" in done.message[0]


def test_a_table_of_one_width_is_refused(place, tmp_path):
    done, _ = place.run(*WIDTH, "--table", tmp_path / "any.json", code=2)
    assert "--table is of one" in done.message[0]


def test_a_device_that_is_not_here_needs_the_datasheet(place):
    done = call(place.encoder, "--data", place.texts, "--target", "a10g", "--out", place.root / "away", *WIDTH, *FEW)
    assert done.code == 3
    assert "--accept-modelled" in done.err


@pytest.mark.usefixtures("no_fresh_export")
def test_the_datasheet_knows_every_width(place):
    front = place.front(*WIDTH, "--accept-modelled", target="a10g")
    assert {net["predicted"]["source"] for net in front["candidates"]} == {"roofline"}
    assert any("hidden_size" in net["shape"] for net in front["candidates"])
