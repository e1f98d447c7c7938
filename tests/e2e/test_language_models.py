"""Language models from text to artefact on the null device: chosen by name, scored on the text, loaded and generating elsewhere."""

import json
import math

import numpy as np
import onnxruntime
import pytest
import torch

from tests.cli import call
from tests.tiny import WORDS, save_tiny

FEW = ("--target", "null", "--seq-len", 32, "--evaluations", 8, "--winners", 1, "--quiet")


def write_articles(path, count=24):
    rng = np.random.default_rng(0)
    articles = [f" = {WORDS[i]} {WORDS[i + 9]} = \n\n " + " ".join(rng.choice(WORDS, 80)) for i in range(count)]
    path.write_text("\n\n".join(articles) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("language")
    save_tiny(root / "llama", "llama", task="causal_lm", tie_word_embeddings=True)
    write_articles(root / "text.txt")
    return root


@pytest.fixture(scope="module")
def run(place):
    done = call(
        place / "llama", "--task", "causal_lm", "--data", place / "text.txt", "--cache", place / "cache", "--out",
        place / "out", "--max-drop", "60%", *FEW,
    )  # fmt: skip
    assert done.code == 0, done.err
    return place / "out", json.loads((place / "out" / "front.json").read_text(encoding="utf-8"))


def test_texts_and_a_causal_head_are_two_tasks_and_the_user_says_which(place):
    done = call(place / "llama", "--data", place / "text.txt", "--cache", place / "cache", "--out", place / "no", *FEW)
    assert done.code == 2
    assert "fits embedding and causal_lm" in done.message[0].replace("that ", "")
    assert done.message[1] == "say which: --task embedding or --task causal_lm"


def test_a_figure_where_lower_is_better_reads_right_everywhere(run):
    out, front = run
    assert front["metric"]["name"] == front["metric"]["scale"] == "perplexity"
    assert not front["metric"]["higher_is_better"]
    for net in (front["dense"], *front["candidates"]):
        assert net["error"] == pytest.approx(math.log(net["metric"]["validation"]), rel=1e-5)
        assert set(net["metric"]["others"]) == {"accuracy", "agreement", "kl"}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "perplexity, lower is better" in page
    best = next(net for net in front["candidates"] if net["id"] == front["best"])
    kept = front["dense"]["metric"]["test"] / best["metric"]["test"]
    alike = "dense" in best["same_as"]
    said = (
        "cannot be told from that of the dense model"
        if alike
        else f"{100 * kept:.1f}\u00a0%</strong> of the perplexity"
    )
    assert said in page
    card = (out / best["id"] / "README.md").read_text(encoding="utf-8")
    assert "no cache of keys and values" in card
    assert "use_cache=False" in card


def test_verify_and_diff_take_a_lower_figure_for_the_better_one(run, tmp_path):
    out, front = run
    assert call("verify", out).code == 0
    worse = json.loads(json.dumps(front))
    for net in worse["candidates"]:
        net["metric"]["validation"] *= 1.2
    other = tmp_path / "other"
    other.mkdir()
    (other / "front.json").write_text(json.dumps(worse), encoding="utf-8")
    assert call("diff", out, other, "--fail-if-worse", "10%").code == 5
    assert call("diff", other, out, "--fail-if-worse", "10%").code == 0
    assert call("diff", out, other, "--fail-if-worse", "20%").code == 0


def test_the_perplexity_is_that_of_the_file(run):
    out, front = run
    from compiler.families import load_checkpoint
    from compiler.tasks import read_data, task_named

    task, dense = task_named("causal_lm"), load_checkpoint(str(out.parent / "llama"), task="causal_lm")
    data = read_data(str(out.parent / "text.txt"), task="causal_lm", seed=0)
    test = task.prepared(data.test, dense, max_tokens=64)
    session = onnxruntime.InferenceSession(out / front["candidates"][0]["artifact"]["path"])
    assert [output.name for output in session.get_outputs()] == ["logits"]
    losses = []
    for inputs, extras in task.encode(dense, test, max_tokens=64).each():
        (logits,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        places = extras["token_labels"] >= 0
        losses.append(
            torch.nn.functional.cross_entropy(
                torch.from_numpy(logits)[places], extras["token_labels"][places], reduction="none"
            )
        )
    assert math.exp(float(torch.cat(losses).mean())) == pytest.approx(
        front["candidates"][0]["metric"]["test"], rel=1e-4
    )


def test_transformers_alone_loads_it_and_generates(run):
    from transformers import AutoModelForCausalLM

    out, front = run
    for name in ("dense", front["candidates"][0]["id"]):
        model = AutoModelForCausalLM.from_pretrained(out / name, trust_remote_code=True).eval()
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
        ids = torch.tensor([[7, 40, 21]])
        found = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False)
        with torch.inference_mode():
            for _ in range(4):
                ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
        assert torch.equal(found, ids)


def test_a_compiled_language_model_is_compiled_again_without_being_told_its_task(run, place):
    out, front = run
    done = call(
        out / front["candidates"][0]["id"], "--data", place / "text.txt", "--cache", place / "cache", "--out",
        place / "again", *FEW,
    )  # fmt: skip
    assert done.code == 0, done.err
    again = json.loads((place / "again" / "front.json").read_text(encoding="utf-8"))
    assert again["task"] == "causal_lm"
    assert again["dense"]["metric"]["test"] == pytest.approx(front["candidates"][0]["metric"]["test"], rel=1e-3)


def test_a_masked_model_in_8_bits(place):
    save_tiny(place / "bert", "bert", task="masked_lm")
    done = call(
        place / "bert", "--task", "masked_lm", "--data", place / "text.txt", "--cache", place / "cache", "--out",
        place / "masked", "--precision", "int8,fp32", "--metric", "kl", *FEW,
    )  # fmt: skip
    assert done.code == 0, done.err
    front = json.loads((place / "masked" / "front.json").read_text(encoding="utf-8"))
    (whole,) = [net for net in front["candidates"] if net["id"] == "dense-int8"]
    assert front["metric"]["scale"] == "divergence"
    assert front["dense"]["metric"]["test"] == pytest.approx(0, abs=1e-6)
    assert 0 < whole["metric"]["test"] < 0.1
