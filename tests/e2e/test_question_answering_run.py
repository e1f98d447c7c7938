"""Question answering on the null device: from SQuAD's JSON to artefacts that verify, again, with a new head, and without labels."""

import json
import random

import numpy as np
import onnxruntime
import pytest
import torch

from tests.cli import call
from tests.tiny import WORDS, save_tiny

FEW = ("--target", "null", "--seq-len", 32, "--evaluations", 12, "--winners", 2, "--quiet")


def paragraph(rng):
    """A context of 20 to 90 words, and three questions: two words and the two that follow them are question and answer."""
    words = rng.choices(WORDS, k=rng.randint(20, 90))
    asked = []
    for place in rng.sample(range(2, len(words) - 2), 3):
        answer = {"text": " ".join(words[place : place + 2]), "answer_start": len(" ".join(words[:place])) + 1}
        asked.append({"question": " ".join(words[place - 2 : place]), "answers": [answer]})
    return {"context": " ".join(words), "qas": asked}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("questions"), random.Random(0)
    articles = [{"title": f"t{i}", "paragraphs": [paragraph(rng) for _ in range(3)]} for i in range(12)]
    (root / "squad.json").write_text(json.dumps({"version": "1.1", "data": articles}))
    pairs = [(q["question"], p["context"]) for a in articles for p in a["paragraphs"] for q in p["qas"]]
    (root / "pairs.csv").write_text(
        "question,context\n" + "".join(f"{question},{context}\n" for question, context in pairs)
    )
    save_tiny(root / "trained", task="question_answering")
    save_tiny(root / "encoder")
    return root


def compiled(place, model, data, out, *more):
    done = call(place / model, "--data", place / data, "--out", place / out, "--cache", place / "cache", *FEW, *more)
    assert done.code == 0, done.err
    return json.loads((place / out / "front.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def labelled(place):
    return compiled(place, "trained", "squad.json", "labelled", "--precision", "fp32,int8")


def test_every_network_verifies_and_says_what_it_is(place, labelled):
    assert (labelled["task"], labelled["metric"]["name"]) == ("question_answering", "f1")
    assert "int8" in {net["precision"] for net in labelled["candidates"]}
    done = call("verify", place / "labelled")
    assert done.code == 0, done.err
    card = (place / "labelled" / "best" / "README.md").read_text(encoding="utf-8")
    assert "question-answering" in card
    assert "ORTModelForQuestionAnswering" in card
    assert "start_logits, end_logits = session.run" in card


@pytest.fixture(scope="module")
def again(place, labelled):
    return compiled(place, f"labelled/{labelled['best']}", "pairs.csv", "again")


def test_an_artefact_is_compiled_again_without_labels(again):
    assert again["metric"]["name"] == "f1_with_dense"
    assert again["dense"]["metric"]["validation"] == 1
    assert again["task"] == "question_answering"


def test_transformers_alone_gives_what_the_graph_gives(place, again):
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    file = place / "again" / again["candidates"][0]["artifact"]["path"]
    model = AutoModelForQuestionAnswering.from_pretrained(file.parent, trust_remote_code=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(file.parent)
    given = tokenizer(["the film is", "was"], ["great and the city", "a"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        found = model(**given)
    session = onnxruntime.InferenceSession(file)
    assert [output.name for output in session.get_outputs()] == ["start_logits", "end_logits"]
    start, end = session.run(None, {name: tensor.numpy() for name, tensor in given.items()})
    real = given["attention_mask"].bool().numpy()
    np.testing.assert_allclose(start[real], found.start_logits.numpy()[real], atol=1e-4)
    np.testing.assert_allclose(end[real], found.end_logits.numpy()[real], atol=1e-4)


def test_a_new_head_is_trained(place):
    front = compiled(place, "encoder", "squad.json", "trained-here", "--effort", "balanced", "--epochs", 1)
    assert front["metric"]["name"] == "f1"
    assert front["effort"] == "balanced"
    best = json.loads((place / "trained-here" / "best" / "config.json").read_text())
    assert best["id2label"] == {"0": "start", "1": "end"}


def test_a_head_for_something_else_is_refused(place):
    save_tiny(place / "classifier", labels=3)
    done = call(place / "classifier", "--data", place / "squad.json", "--out", place / "none", *FEW)
    assert done.code != 0
    assert "has a head for classification, asked is question answering" in done.err
