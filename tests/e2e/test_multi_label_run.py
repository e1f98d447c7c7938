"""Multi-label classifiers on the null device: trained, fast, without labels, in int8, compiled again, loaded by transformers."""

import json

import pytest
import torch

from compiler.families import load_checkpoint
from compiler.supernet.training import TrainingOptions, fine_tune
from compiler.tasks import read_data, task_named
from tests.cli import call, texts
from tests.tiny import save_tiny

NAMES = ("water", "light", "the")
HEAD = {"problem_type": "multi_label_classification", "id2label": dict(enumerate(NAMES[::-1]))}


class Place:
    """A model of three labels, an encoder, and texts with labels: those of their words."""

    def __init__(self, root):
        self.root, self.runs = root, 0
        self.labeller = save_tiny(
            root / "labeller", **HEAD, label2id={n: i for i, n in HEAD["id2label"].items()}, labels=3
        )
        self.encoder = save_tiny(root / "encoder")
        self.sets, self.flags, self.plain = root / "sets.jsonl", root / "flags.csv", root / "plain.txt"
        found = [
            (" ".join([*text.split(), *(n for j, n in enumerate(NAMES) if i % (j + 3) == 0)]))
            for i, text in enumerate(texts(160))
        ]
        labels = [[name for name in NAMES if name in text.split()] for text in found]
        rows = [json.dumps({"text": text, "labels": own}) for text, own in zip(found, labels, strict=True)]
        self.sets.write_text("\n".join(rows), encoding="utf-8")
        rows = [
            f"{text},{','.join(str(int(n in own)) for n in NAMES)}" for text, own in zip(found, labels, strict=True)
        ]
        self.flags.write_text("\n".join([f"text,{','.join(NAMES)}", *rows]), encoding="utf-8")
        self.plain.write_text("\n".join(found), encoding="utf-8")

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
    return Place(tmp_path_factory.mktemp("multi_label"))


@pytest.fixture(scope="module")
def fast(place):
    return place.run(place.labeller, place.plain, "--precision", "fp32,int8")


def folder_of(out, front):
    network = next(net for net in front["candidates"] if net["id"].startswith("n"))
    return (out / network["artifact"]["path"]).parent


def test_without_labels_networks_are_held_against_the_dense_ones(fast):
    out, front = fast
    assert (front["task"], front["effort"], front["metric"]["name"]) == ("multi_label", "fast", "micro_f1_with_dense")
    assert front["dense"]["metric"]["validation"] == 1
    assert call("verify", out).code == 0


def test_a_network_loads_with_transformers_alone(fast):
    from transformers import AutoModelForSequenceClassification, pipeline

    from compiler.export import load_sliced

    folder = folder_of(*fast)
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
    assert model.config.problem_type == "multi_label_classification"
    loaded = load_sliced(folder)
    logits = loaded.model(**loaded.tokenizer(["the water"], return_tensors="pt"))[0].detach()
    answers = pipeline("text-classification", model=model, tokenizer=loaded.tokenizer, top_k=None)(["the water"])
    ours = dict(zip(HEAD["id2label"].values(), torch.sigmoid(logits)[0].tolist(), strict=True))
    assert {each["label"]: each["score"] for each in answers[0]} == pytest.approx(ours, abs=1e-4)


def test_a_compiled_network_is_compiled_again_in_the_order_of_its_head(place, fast):
    _, front = place.run(folder_of(*fast), place.flags)
    assert (front["task"], front["metric"]["name"]) == ("multi_label", "micro_f1")


def test_a_new_head_is_trained_first(place):
    _, front = place.run(place.encoder, place.sets, "--epochs", 2)
    assert (front["task"], front["effort"]) == ("multi_label", "balanced")
    assert set(front["dense"]["metric"]["others"]) == {"macro_f1", "mean_average_precision"}


def test_a_new_head_learns_labels(place):
    data, task = read_data(str(place.sets)), task_named("multi_label")
    checkpoint = load_checkpoint(str(place.encoder), task="multi_label", label_names=data.label_names)
    options = TrainingOptions(epochs=30, learning_rate=1e-3, dropout=0.0)
    trained = fine_tune(
        checkpoint, data.train, options=options, max_tokens=32, work_dir=place.root / "work", progress=lambda *_: None
    )
    checkpoint.model.backbone.load_state_dict(trained, strict=False)
    batches = task.encode(checkpoint, data.train, max_tokens=32)
    logits = batches.outputs(lambda inputs: task.judged(checkpoint.model(**inputs)))
    assert task.metric().score(logits, task.reference(data.train)) > 0.7  # the same labels for every text: 0.54
    assert task.doubt(task.metric(), logits, data.train, data.label_names) is None
