"""Saved sub-networks in a process that has no paretoc: transformers, sentence-transformers, and ONNX Runtime alone."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer

from compiler.export import load_sliced, save_checkpoint
from compiler.export.foreign import held_against_libraries
from compiler.export.reload import modelling_file
from compiler.export.settings import describe_layers
from compiler.families import FAMILIES, load_checkpoint
from compiler.slicing import SubnetRunner
from compiler.spaces import Subnet
from profilers import LayerSizes
from tests.cli import texts
from tests.tiny import ALL_TYPES, HEADS, LAYERS, UNITS, save_tiny, tiny_checkpoint

SHAPE = (LayerSizes(2, 16), LayerSizes(0, 24), LayerSizes(3, 0))
SHAPES = {
    "uneven": SHAPE,
    "a layer gone": (LayerSizes(0, 0), *SHAPE[1:]),
    "whole": (LayerSizes(HEADS, UNITS),) * LAYERS,
}

ALONE = """
import json, sys
for name in ("compiler", "profilers", "targets", *{blocked}):
    sys.modules[name] = None
sys.path = [p for p in sys.path if p]
import numpy as np
folder, texts = json.loads(sys.argv[1])
"""

LOADING = (
    ALONE.format(blocked=())
    + """
import torch, transformers
transformers.logging.set_verbosity_error()
def load(folder, auto, trained):
    auto = getattr(transformers, auto)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = auto.from_pretrained(folder, trust_remote_code=True).eval()
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    found = outputs.logits if hasattr(outputs, "logits") else outputs.last_hidden_state * inputs["attention_mask"][..., None]
    model.train()
    before = {n: p.clone() for n, p in model.named_parameters()}
    loss = model(**inputs)[0].square().mean()
    loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    moved = sum(not torch.equal(p, before[n]) for n, p in model.named_parameters())
    model.save_pretrained(trained)
    again = auto.from_pretrained(trained, trust_remote_code=True)
    same = all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True))
    return {"outputs": found.tolist(), "moved": moved, "same": same}
"""
)
LOAD = f"{LOADING}print(json.dumps(load(folder, *sys.argv[2:])))"
LOAD_ALL = f"{LOADING}print(json.dumps([load(*job) for job in json.loads(sys.argv[2])]))"


def alone(script: str, folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps([str(folder), texts(5)]), *map(str, arguments)],
        check=False, capture_output=True, text=True, cwd=folder, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def uneven(architecture):
    """Layers that keep some heads and units, one branch each, and (of types other than BERT's) nothing at all."""
    most = architecture.heads
    second = LayerSizes(0, 24) if architecture.stem else LayerSizes(0, 0)
    return LayerSizes(most // 2, 16), second, LayerSizes(most - 1, 0)


def saved(folder, model_type, task, shape=None, *, name="cut"):
    """The folder of a network that keeps the first of everything, and its outputs for five texts."""
    checkpoint = tiny_checkpoint(folder / "dense", model_type, task=task)
    shape = shape or uneven(checkpoint.architecture)
    return written(folder / name, checkpoint, Subnet.of(*zip(*((range(h), range(u)) for h, u in shape), strict=True)))


def written(folder, checkpoint, subnet):
    runner = SubnetRunner(checkpoint.model, checkpoint.architecture)
    save_checkpoint(folder, checkpoint, subnet, runner.parameters(subnet))
    return folder, outputs_of(checkpoint, lambda inputs: runner(subnet, inputs))


def outputs_of(checkpoint, run):
    """[texts, classes], or [texts, tokens, hidden] with zeros where there is no token."""
    inputs = checkpoint.tokenizer(texts(5), padding=True, return_tensors="pt")
    with torch.no_grad():
        outputs = run({name: inputs[name] for name in checkpoint.input_names})[0]
    return (outputs * inputs["attention_mask"][..., None] if checkpoint.model.recipe is not None else outputs).numpy()


AUTO = {"embedding": "AutoModel", "classification": "AutoModelForSequenceClassification"}


@pytest.fixture(scope="module", params=AUTO)
def everywhere(request, tmp_path_factory):
    """By type: what one process without paretoc makes of a network, and what its outputs have to be."""
    root = tmp_path_factory.mktemp(request.param)
    ours = {each: saved(root / each, each, request.param, name=each) for each in ALL_TYPES}
    jobs = [[str(folder), AUTO[request.param], str(root / each / "trained")] for each, (folder, _) in ours.items()]
    found = alone(LOAD_ALL, root, json.dumps(jobs))
    return {each: (one, ours[each][1]) for each, one in zip(ours, found, strict=True)}


@pytest.mark.parametrize("model_type", ALL_TYPES)
def test_transformers_loads_trains_and_saves_it_without_paretoc(everywhere, model_type):
    found, expected = everywhere[model_type]
    np.testing.assert_allclose(found["outputs"], expected, atol=1e-5)
    assert found["moved"] > 0
    assert found["same"]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_our_own_loader_runs_none_of_the_folders_code(tmp_path, shape):
    folder, expected = saved(tmp_path, "bert", "embedding", shape)
    (folder / "modeling_subnet.py").write_text("raise SystemExit('executed')", encoding="utf-8")
    loaded = load_sliced(folder)
    assert loaded.architecture.shape == shape
    inputs = loaded.tokenizer(texts(5), padding=True, return_tensors="pt")
    with torch.no_grad():
        found = loaded.model(**inputs)[0] * inputs["attention_mask"][..., None]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_tokens_that_were_added_to_the_tokenizer_are_kept(tmp_path):
    model, cut = save_tiny(tmp_path / "dense"), tmp_path / "cut"
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_tokens(["<price>", AddedToken("<name>", special=True)])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<name>"]})
    tokenizer.save_pretrained(model)
    checkpoint = load_checkpoint(str(model), task="embedding")
    subnet = Subnet.of((range(s.heads) for s in SHAPE), (range(s.ffn_units) for s in SHAPE))
    runner = SubnetRunner(checkpoint.model, checkpoint.architecture)
    save_checkpoint(cut, checkpoint, subnet, runner.parameters(subnet))
    text = "the <price> of <name> film"
    wanted = tokenizer(text)["input_ids"]
    assert {len(tokenizer) - 1, len(tokenizer) - 2} < set(wanted)
    assert load_sliced(cut).tokenizer(text)["input_ids"] == wanted
    assert Tokenizer.from_file(str(cut / "tokenizer.json")).encode(text).ids == wanted
    config = json.loads((cut / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"  # transformers 4 knows no TokenizersBackend
    assert config["additional_special_tokens"] == ["<name>"]


def test_layers_are_described_in_the_words_of_transformers():
    settings = {"attention": {"num_attention_heads": 1}, "ffn": {"intermediate_size": 1}}
    assert describe_layers(SHAPE, settings) == [
        {"num_attention_heads": 2, "intermediate_size": 16},
        {"intermediate_size": 24, "skip": ["attention"]},
        {"num_attention_heads": 3, "skip": ["mlp"]},
    ]


def test_layers_of_grouped_heads_say_both_numbers(tmp_path):
    folder, _ = saved(tmp_path, "llama", "embedding")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (4, 2)
    assert config["subnet"]["layers"] == [
        {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 16},
        {"skip": ["attention", "mlp"]},
        {"num_attention_heads": 2, "num_key_value_heads": 1, "skip": ["mlp"]},
    ]


def test_what_a_family_adapts_is_adapted_in_the_file(tmp_path):
    checkpoint = tiny_checkpoint(tmp_path / "dense", "bert")
    family = replace(checkpoint.architecture.family, adapt=alone)
    adapting = replace(checkpoint, architecture=replace(checkpoint.architecture, family=family))
    plain, code = modelling_file(checkpoint), modelling_file(adapting)
    head, _, own = code.rpartition("class Subnet(BertModel)")
    assert "def alone(" in head
    assert own.replace("        alone(self)\n", "") == plain.rpartition("class Subnet(BertModel)")[2]
    compile(code, "modeling_subnet.py", "exec")


CAUSAL = [model_type for family in FAMILIES if family.causal for model_type in family.model_types]


@pytest.mark.parametrize("model_type", CAUSAL)
def test_sentence_transformers_pools_the_last_token(tmp_path, model_type):
    save_tiny(tmp_path / "dense", model_type)
    checkpoint = load_checkpoint(str(tmp_path / "dense"), task="embedding", pooling="lasttoken")
    shape = uneven(checkpoint.architecture)
    subnet = Subnet.of(*zip(*((range(h), range(u)) for h, u in shape), strict=True))
    folder, _ = written(tmp_path / "cut", checkpoint, subnet)
    loaded = load_sliced(folder)
    assert loaded.model.recipe.poolings == ("lasttoken",)
    assert held_against_libraries(folder, loaded).startswith("largest difference from sentence-transformers ")
