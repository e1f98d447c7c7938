"""A tagger on the null device: a new head is trained, cut, quantised, verified, loaded without paretoc; texts alone compile too."""

import json
import random

import numpy as np
import onnxruntime
import pytest
import torch
import transformers

from tests.cli import call
from tests.tiny import WORDS, save_tiny

NAMES = ("O", "B-LOC", "I-LOC", "B-PER")
ENTITIES = ((("doctor",), ("B-PER",)), (("river", "north"), ("B-LOC", "I-LOC")), (("market",), ("B-LOC",)))
FEW = ("--target", "null", "--seq-len", 32, "--evaluations", 8, "--winners", 1, "--quiet")


def sentences(count):
    """Words of which some, always the same, are entities."""
    rng = random.Random(0)
    for _ in range(count):
        parts = [rng.choice(ENTITIES) if rng.random() < 0.4 else ((rng.choice(WORDS[:20]),), ("O",)) for _ in range(6)]
        yield [word for words, _ in parts for word in words], [tag for _, tags in parts for tag in tags]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("tags")
    found = list(sentences(120))
    (root / "a.conll").write_text(
        "\n".join("".join(f"{word}\t{tag}\n" for word, tag in zip(*each, strict=True)) for each in found)
    )
    (root / "texts.txt").write_text("\n".join(" ".join(words) for words, _ in found[:80]))
    save_tiny(root / "encoder")
    names = {"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}
    save_tiny(root / "tagger", labels=4, task="token_classification", **names)
    return root


@pytest.fixture(scope="module")
def trained(place):
    """The run folder of a new head."""
    out = place / "trained"
    done = call(
        place / "encoder", "--data", place / "a.conll", "--effort", "balanced", "--epochs", 1, "--cache", place / "cache", "--out", out, *FEW,
    )  # fmt: skip
    assert done.code == 0, done.err
    return out


def front_of(folder):
    return json.loads((folder / "front.json").read_text(encoding="utf-8"))


def test_a_new_head_is_trained_and_judged_by_entities(trained):
    front = front_of(trained)
    assert (front["task"], front["metric"]["name"], front["effort"]) == (
        "token_classification",
        "entity_f1",
        "balanced",
    )
    assert set(front["dense"]["metric"]["others"]) == {"entity_precision", "entity_recall", "token_accuracy"}
    assert 0 <= front["dense"]["metric"]["test"] <= 1


def test_the_files_verify_and_transformers_loads_the_tagger(trained):
    done = call("verify", trained)
    assert done.code == 0, done.err
    folder = trained / front_of(trained)["candidates"][0]["id"]
    model = transformers.AutoModelForTokenClassification.from_pretrained(folder, trust_remote_code=True).eval()
    assert tuple(model.config.id2label[i] for i in range(4)) == NAMES
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    given = tokenizer(["the doctor is at river north", "the"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = model(**given).logits.numpy()
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (found,) = session.run(["logits"], {name: tensor.numpy() for name, tensor in given.items()})
    real = given["attention_mask"].numpy() == 1
    np.testing.assert_allclose(found[real], expected[real], atol=1e-4)
    assert "token-classification" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("trained")  # which made the one comparison with a fresh export
def test_a_trained_head_is_compiled_on_texts_alone_and_in_int8(place, monkeypatch):
    monkeypatch.setattr("compiler.pipeline.stages.export.compare_with_fresh_export", lambda *_: 0.0)
    out = place / "alone"
    target = ("--target", "null:int8", *FEW[2:])
    done = call(place / "tagger", "--data", place / "texts.txt", "--cache", place / "cache", "--out", out, *target)
    assert done.code == 0, done.err
    front = front_of(out)
    assert (front["task"], front["metric"]["name"]) == ("token_classification", "entity_f1_with_dense")
    assert front["dense"]["metric"]["test"] == pytest.approx(1, abs=0.2)  # an int8 file of itself


def test_labels_that_the_head_does_not_know_are_refused(place, tmp_path):
    (tmp_path / "b.conll").write_text("the\tO\nriver\tB-RIVER\n\n" * 9)
    done = call(place / "tagger", "--data", tmp_path / "b.conll", "--out", tmp_path / "out", *FEW)
    assert done.code == 2
    assert "do not match" in done.message[0]
