"""What a run leaves behind, loaded as its model card says, in processes that have no paretoc."""

import json
import subprocess
import sys
from importlib.metadata import version
from textwrap import dedent

import numpy as np
import onnx
import pytest

from compiler.export import load_sliced
from tests.cli import call, classes, texts, write_rows, write_texts
from tests.tiny import save_tiny

WITHOUT = "import sys\nfor name in {names}: sys.modules[name] = None\nsys.path = [p for p in sys.path if p]\n"
OURS = ("compiler", "profilers", "targets")


def compiled(root, **model):
    data = write_rows(root / "data.csv", classes()) if model else write_texts(root / "texts.txt")
    done = call(
        save_tiny(root / "model", **model), "--data", data, "--target", "null", "--seq-len", 32, "--effort", "fast",
        "--evaluations", 24, "--winners", 3, "--min-speedup", "1x", "--cache", root / "cache", "--out", root / "out", "--quiet",
    )  # fmt: skip
    assert done.code == 0, done.err
    front = json.loads((root / "out" / "front.json").read_text(encoding="utf-8"))
    return (root / "out" / front["candidates"][0]["artifact"]["path"]).parent


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("judge"), labels=2)


def alone(folder, script, blocked=OURS):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(names=blocked) + script], check=False, capture_output=True, text=True,
        cwd=folder, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def expected(folder, sentences):
    loaded = load_sliced(folder)
    return loaded.model(**loaded.tokenizer(sentences, padding=True, return_tensors="pt"))[-1].detach().numpy()


def snippet(folder, title):
    """The code below a line of the card."""
    card = (folder / "README.md").read_text(encoding="utf-8")
    block = card.split(title, 1)[1].split("\n\n", 2)[1]
    return dedent(block)


@pytest.mark.parametrize("kind", ["encoder", "judge"])
def test_the_card_s_lines_run_with_onnx_runtime_and_tokenizers_alone(kind, request):
    folder = request.getfixturevalue(kind)
    result = "logits" if kind == "judge" else "sentence_embedding"
    code = snippet(folder, "ONNX Runtime, with the tokenizers package")
    ending = f"\nimport json; print(json.dumps({result}.tolist()))"
    found = alone(folder, code + ending, (*OURS, "transformers", "torch", "onnx"))
    np.testing.assert_allclose(found, expected(folder, ["a text", "another one"]), atol=1e-5)


@pytest.mark.parametrize("kind", ["encoder", "judge"])
def test_the_card_s_lines_run_with_transformers(kind, request):
    folder = request.getfixturevalue(kind)
    code = snippet(folder, "transformers 5 (the modelling file").replace("FOLDER", repr(str(folder)))
    ending = "\nimport json; print(json.dumps([type(model).__name__, sum(p.numel() for p in model.parameters())]))"
    name, count = alone(folder, code + ending)
    front = json.loads((folder.parent / "front.json").read_text(encoding="utf-8"))
    assert name == "Subnet"
    assert count == next(c["parameters"] for c in front["candidates"] if c["id"] == folder.name)


def test_sentence_transformers_gives_the_same_embeddings(encoder):
    sentences = texts(5)
    code = snippet(encoder, "sentence-transformers, on the checkpoint").replace("FOLDER", repr(str(encoder)))
    found = alone(encoder, f"{code}\nimport json; print(json.dumps(model.encode({sentences!r}).tolist()))")
    np.testing.assert_allclose(found, expected(encoder, sentences), atol=1e-5)


@pytest.mark.parametrize(("kind", "labels"), [("encoder", []), ("judge", ["LABEL_0", "LABEL_1"])])
def test_the_file_says_what_it_is(kind, labels, request):
    folder = request.getfixturevalue(kind)
    said = {entry.key: entry.value for entry in onnx.load(folder / "model.onnx").metadata_props}
    front = json.loads((folder.parent / "front.json").read_text(encoding="utf-8"))
    net = next(c for c in front["candidates"] if c["id"] == folder.name)
    assert (said["task"], said["base_model"]) == (front["task"], front["model"]["name"])
    assert json.loads(said["labels"]) == labels
    assert said["heads"] == " ".join(map(str, net["shape"]["heads"]))
    assert said["ffn_units"] == " ".join(map(str, net["shape"]["ffn_units"]))
    assert float(said[f"validation_{front['metric']['name']}"]) == pytest.approx(net["metric"]["validation"], abs=1e-6)
    assert json.loads(said["budget"]) == {"min_speedup": 1.0}
    assert f"paretoc {front['tool']['version']}" in said["made_with"]
    assert f"torch {version('torch')}" in said["made_with"]
