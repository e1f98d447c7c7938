"""Rerankers on the null device: trained, fast, without labels, in int8, compiled again, and loaded by what serves them."""

import json

import numpy as np
import pytest
import torch

from compiler.families import load_checkpoint
from compiler.supernet.training import TrainingOptions, fine_tune
from compiler.tasks import read_data, task_named
from tests.cli import call, texts
from tests.tiny import WORDS, save_tiny

QUERIES, CANDIDATES = 40, 5


class Place:
    """A reranker, an encoder, and pairs with grades and without."""

    def __init__(self, root):
        self.root, self.runs = root, 0
        self.reranker = save_tiny(root / "reranker", labels=1)
        self.encoder = save_tiny(root / "encoder")
        self.graded, self.plain = root / "graded.csv", root / "plain.csv"
        queries, passages = texts(QUERIES), texts(QUERIES * CANDIDATES, seed=1)
        rows = [(f"Q{i // 5}", queries[i // 5], passages[i], int(i % 5 == i // 5 % 5)) for i in range(len(passages))]
        right = [f"{text} {WORDS[-1]}" if label else text for _, _, text, label in rows]
        lines = [f"{q},{query},{text},{label}" for (q, query, _, label), text in zip(rows, right, strict=True)]
        self.graded.write_text("\n".join(["query_id,query,passage,label", *lines]), encoding="utf-8")
        lines = [f"{query},{text}" for _, query, text, _ in rows]
        self.plain.write_text("\n".join(["query,passage", *lines]), encoding="utf-8")

    def run(self, model, data, *arguments):
        self.runs += 1
        out = self.root / f"out{self.runs}"
        done = call(
            model, "--data", data, "--target", "null", "--seq-len", 32, "--evaluations", 12, "--winners", 2, "--quiet",
            "--cache", self.root / "cache", "--out", out, *arguments,
        )  # fmt: skip
        assert done.code == 0, done.err
        return out, json.loads((out / "front.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", autouse=True)
def no_fresh_export():
    """Runs skip the comparison with torch's own export, seconds each; the null device's own tests make it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compiler.pipeline.stages.export.compare_with_fresh_export", lambda *_: 0.0)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp("reranking"))


@pytest.fixture(scope="module")
def fast(place):
    return place.run(place.reranker, place.plain, "--precision", "fp32,int8")


def test_without_grades_networks_are_held_against_the_dense_order(fast):
    out, front = fast
    assert (front["task"], front["effort"]) == ("reranking", "fast")
    assert front["metric"]["name"] == "ndcg_at_10_with_dense"
    assert front["dense"]["metric"]["validation"] == 1
    assert set(front["dense"]["metric"]["others"]) == {"spearman_with_dense"}
    assert all(net["artifact"]["parity_max_abs_error"] < 1 for net in front["candidates"])
    assert call("verify", out).code == 0
    card = next(out.glob("n0*/README.md"))
    assert "pipeline_tag: text-ranking" in card.read_text(encoding="utf-8").replace('"', "")


def test_a_run_folder_loads_as_a_cross_encoder(fast):
    from sentence_transformers import CrossEncoder

    from compiler.export import load_sliced

    out, front = fast
    network = next(net for net in front["candidates"] if net["id"].startswith("n"))
    folder = (out / network["artifact"]["path"]).parent
    pairs = [("the city", "a river in the north"), ("the city", "the market")]
    model = CrossEncoder(str(folder), trust_remote_code=True, device="cpu")
    theirs = model.predict(pairs, activation_fn=torch.nn.Identity())
    loaded = load_sliced(folder)
    inputs = loaded.tokenizer(*map(list, zip(*pairs, strict=True)), padding=True, return_tensors="pt")
    np.testing.assert_allclose(theirs, loaded.model(**inputs)[0][:, 0].detach().numpy(), rtol=1e-4, atol=1e-5)


def test_a_compiled_reranker_is_compiled_again(place, fast):
    out, front = fast
    network = next(net for net in front["candidates"] if net["id"].startswith("n"))
    _, again = place.run((out / network["artifact"]["path"]).parent, place.graded)
    assert (again["task"], again["metric"]["name"]) == ("reranking", "ndcg_at_10")
    assert any("40 queries of 5 candidates" in note for note in again["data"]["notes"])


def test_a_new_head_is_trained_first(place):
    _, front = place.run(place.encoder, place.graded, "--epochs", 2)
    assert (front["effort"], front["metric"]["name"]) == ("balanced", "ndcg_at_10")
    assert set(front["dense"]["metric"]["others"]) == {"mrr_at_10", "map"}


def test_a_new_head_learns_to_rank(place):
    data, task = read_data(str(place.graded)), task_named("reranking")
    checkpoint = load_checkpoint(str(place.encoder), task="reranking", labels=data.train.labels)
    options = TrainingOptions(epochs=30, learning_rate=1e-3, dropout=0.0)
    trained = fine_tune(
        checkpoint, data.train, options=options, max_tokens=32, work_dir=place.root / "work", progress=lambda *_: None
    )
    checkpoint.model.backbone.load_state_dict(trained, strict=False)
    batches = task.encode(checkpoint, data.train, max_tokens=32)
    scores = batches.outputs(lambda inputs: task.judged(checkpoint.model(**inputs)))
    assert task.metric().score(scores, task.reference(data.train)) > 0.85
    assert task.doubt(task.metric(), scores, data.train, ()) is None
