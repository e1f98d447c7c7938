"""One recipe, many readers: the graph, the server, the card's lines and sentence-transformers give one embedding."""

import importlib.util
import json
from functools import cache
from textwrap import dedent

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from fastapi.testclient import TestClient
from torch import nn

from compiler.export import ModelWorkbench, load_sliced, write_artifact
from compiler.export.dense import export_module
from compiler.export.files import inline
from compiler.export.preprocessing import lines_of_server
from compiler.export.serving import write_bundles
from compiler.export.surgery import remove_dead
from compiler.export.template import make_template, narrow_template
from compiler.families import TaskModel
from compiler.pipeline.subject import as_arrays
from compiler.report.card import render_card
from compiler.spaces import Subnet
from compiler.tasks import encode
from tests import recipe_forms as forms
from tests.recipes import TEXTS, edit, embeddings, load, sentence_embeddings
from tests.report_sample import sample_front
from tests.tiny import randomise

pytestmark = pytest.mark.timeout(240)  # the one export of all recipes' graphs, in the first test

RECIPES = {form.__name__: (form, {}) for form in forms.FORMS if form is not forms.last_token_of_roberta} | {
    "pooling given": (forms.cls_flag, {"pooling": "mean"}),
    "pooling given to a plain checkpoint": (forms.plain, {"pooling": "lasttoken"}),
    "poolings given": (forms.no_flag, {"pooling": "max,mean"}),
    "prompt given": (forms.prompts, {"prompt": "cold "}),
    "prompt given to a plain checkpoint": (forms.plain, {"prompt": "the ", "pooling": "cls"}),
    "no prompt given": (forms.prompts, {"prompt": ""}),
    "prompt given and left out": (forms.prompt_left_out, {"prompt": "cold water of "}),
}


class Many(TaskModel):
    """One encoder read by many recipes: an output each, so that torch exports only once."""

    def __init__(self, readers):
        vectors = (f"vector_of_recipe_{i}" for i in range(len(readers)))
        super().__init__(readers[0].backbone, outputs=("last_hidden_state", *vectors))
        self.readers = [reader.read for reader in readers]
        self.steps = nn.ModuleList(reader.steps for reader in readers)

    def read(self, outputs, attention_mask):
        return outputs.last_hidden_state, *(read(outputs, attention_mask)[1] for read in self.readers)


def graph_of(recipe):
    """What the graph depends on: torch merges outputs that are equal."""
    left_out = 0 if recipe.include_prompt else recipe.prompt_tokens
    return recipe.poolings, recipe.steps, left_out, recipe.dimensions


class Place:
    """Every recipe's folder, and the graph of each."""

    def __init__(self, root):
        self.root = root
        self.checkpoints = {}
        for name, (form, options) in RECIPES.items():
            form(root / name)
            self.checkpoints[name] = load(root / name, **options)
        distinct = {graph_of(checkpoint.model.recipe): checkpoint.model for checkpoint in self.checkpoints.values()}
        self.graphs = list(distinct)
        several = Many(list(distinct.values()))
        self.proto = export_module(several, next(iter(self.checkpoints.values())))
        self.parameters = as_arrays(dict(several.backbone.named_parameters()))

    def template(self, name):
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        tokens, *others = proto.graph.output
        wanted = others[self.graphs.index(graph_of(self.checkpoints[name].model.recipe))]
        for node in proto.graph.node:
            node.output[:] = ["sentence_embedding" if o == wanted.name else o for o in node.output]
            node.input[:] = ["sentence_embedding" if i == wanted.name else i for i in node.input]
        wanted.name = "sentence_embedding"
        del proto.graph.output[:]
        proto.graph.output.extend([tokens, wanted])
        remove_dead(proto.graph)
        return make_template(proto, self.parameters, self.checkpoints[name].architecture)

    @cache  # noqa: B019  one place a module
    def artifact(self, name):
        checkpoint, folder = self.checkpoints[name], self.root / f"{name} out"
        bench = ModelWorkbench(checkpoint, {"fp32": self.template(name)})
        subnet = Subnet.first(bench.dimensions.dense, bench.ordering)
        texts = [(text,) for text in TEXTS]
        real = encode(checkpoint, texts, max_tokens=checkpoint.max_tokens)
        written = write_artifact(folder, bench, subnet, bench.dense, real, {})
        write_bundles(folder / "serving", written.path, checkpoint, runs_on="cpu", threads=1)
        front = {**sample_front(), "task": "embedding"}
        net = {**front["candidates"][0], "artifact": {**front["candidates"][0]["artifact"], "path": "c/model.onnx"}}
        (folder / "README.md").write_text(render_card(front, net, {}, lines_of_server(folder)), encoding="utf-8")
        return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp("recipes"))


def served(folder):
    spec = importlib.util.spec_from_file_location("server", folder / "serving" / "http" / "server.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with TestClient(module.app) as client:
        answer = client.post("/embed", json={"inputs": list(TEXTS)})
    assert answer.status_code == 200, answer.text
    return np.array(answer.json())


def by_the_card(folder, monkeypatch):
    """What the card's lines give, as printed, in the artefact's folder; then of other texts by the same lines."""
    monkeypatch.chdir(folder)
    card = (folder / "README.md").read_text(encoding="utf-8")
    names = {}
    lines = dedent(card.split("ONNX Runtime, with the tokenizers package", 1)[1].split("\n\n", 2)[1])
    exec(lines, names)  # noqa: S102  as a reader would
    printed = names["sentence_embedding"]
    found = [
        names["session"].run(None, names["arrays"](names["encode"]([text]), names["session"]))[-1] for text in TEXTS
    ]
    return printed, np.concatenate(found)


def by_the_graph(checkpoint, graph):
    session = onnxruntime.InferenceSession(graph)
    batches = encode(checkpoint, [(text,) for text in TEXTS], max_tokens=checkpoint.max_tokens)

    def run(inputs):
        return torch.from_numpy(session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})[-1])

    return batches.outputs(run)


@pytest.mark.parametrize("name", RECIPES)
def test_all_readers_give_one_embedding(name, place, monkeypatch):
    folder, checkpoint = place.artifact(name), place.checkpoints[name]
    wanted = sentence_embeddings(folder, trust=True)
    printed, by_card = by_the_card(folder, monkeypatch)
    found = {
        "graph": by_the_graph(checkpoint, folder / "model.onnx"),
        "server": served(folder),
        "card": by_card,
        "PyTorch": embeddings(checkpoint),
        "loaded again": embeddings(load_sliced(folder)),
    }
    if not RECIPES[name][1]:
        found["input folder"] = sentence_embeddings(place.root / name)
    for reader, values in found.items():
        np.testing.assert_allclose(values, wanted, atol=1e-5, err_msg=reader)
    np.testing.assert_allclose(printed, embeddings(checkpoint, ["a text", "another one"]), atol=1e-5)


@pytest.mark.parametrize("precision", ["fp16", "int8", "int8-static"])
@pytest.mark.parametrize("name", ["dense_of_two_poolings", "norm_and_dropout", "prompt_left_out_of_several"])
def test_narrower_precisions_keep_the_recipe(name, precision, place):
    checkpoint, template = place.checkpoints[name], place.template(name)
    narrower = narrow_template(template, precision, place.parameters, checkpoint.architecture)
    texts = encode(checkpoint, [(text,) for text in TEXTS], max_tokens=checkpoint.max_tokens)
    bench = ModelWorkbench(checkpoint, {"fp32": template, precision: narrower}, texts)
    subnet = Subnet.first(bench.dimensions.dense, bench.ordering)
    graph = inline(bench.graph(subnet, bench.dense, precision)).SerializeToString()
    wanted = embeddings(checkpoint)
    error = np.abs(by_the_graph(checkpoint, graph) - wanted).max() / np.abs(wanted).max()
    assert error < (0.01 if precision == "fp16" else 0.2)


@pytest.mark.parametrize("name", ["lower_case", "cut_by_the_tokenizer_s_own_file", "plain"])
def test_the_tokenizer_is_saved_as_it_was_loaded(name, place):
    loaded, saved = (
        json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        for folder in (place.root / name, place.artifact(name))
    )
    if name == "lower_case":  # the casing of the recipe lies in the tokenizer, for those who know no recipe
        assert {"type": "Lowercase"} in saved["normalizer"]["normalizers"]
        saved["normalizer"] = loaded["normalizer"]
    assert saved == loaded


def test_a_tokenizer_that_was_used_is_saved_as_it_was_loaded(place, tmp_path):
    from compiler.export.checkpoint import save_tokenizer

    checkpoint = load(place.root / "plain")
    encode(checkpoint, [(text,) for text in TEXTS], max_tokens=4)
    assert checkpoint.tokenizer.backend_tokenizer.truncation is None
    checkpoint.tokenizer(list(TEXTS), truncation=True, max_length=5, padding="max_length", return_tensors="pt")
    save_tokenizer(tmp_path, checkpoint)
    saved = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert (saved["truncation"], saved["padding"]) == (None, None)


def test_a_recipe_is_written_the_same_when_it_is_read_again(place, tmp_path):
    from compiler.export.recipe_files import write_recipe_files

    for name in RECIPES:
        folder, again = place.artifact(name), load_sliced(place.artifact(name))
        write_recipe_files(tmp_path / name, again.model.recipe, hidden=16, max_tokens=again.max_tokens)
        for path in (p for p in (tmp_path / name).rglob("*") if p.is_file()):
            assert path.read_bytes() == (folder / path.relative_to(tmp_path / name)).read_bytes(), path


def test_weights_after_the_pooling_are_the_model_s_own(place):
    model = place.checkpoints["dense_tanh"].model
    assert not dict(model.steps.named_parameters())
    before = model.steps[0].linear_weight.clone()
    randomise(model)
    assert torch.equal(before, model.steps[0].linear_weight)
    edit(place.root / "dense_tanh" / "2_Dense" / "config.json", bias=True)
    assert repr(load(place.root / "dense_tanh").model.recipe) == repr(model.recipe)
    assert "digest" in repr(model.recipe)
