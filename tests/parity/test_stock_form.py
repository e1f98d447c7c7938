"""Networks whose layers all keep the same: transformers' own class, with smaller sizes in its configuration."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from compiler.export import load_sliced
from compiler.export.foreign import check_code, held_against_libraries
from compiler.families import FAMILIES, family_of, load_checkpoint
from compiler.spaces import Subnet
from targets.errors import InputError, VerificationError
from tests.parity.test_reload import AUTO, LOAD, alone, outputs_of, written
from tests.recipes import edit
from tests.tiny import LAYERS, UNITS, VOCABULARY, save_tiny, tiny_checkpoint
from tests.tiny import cut as cut_to

STOCK = [model_type for family in FAMILIES if family.stock for model_type in family.model_types]
CAUSAL = [model_type for model_type in STOCK if family_of(model_type).causal]
SIZES = ("num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size")
POOLED = [("jina_embeddings_v3", "embedding")]
"""Its class has a pooler, which an embedding network does without: the modelling file leaves it out."""


def equal(architecture, *, heads=True):
    """Every layer keeps as many heads (of other places in each) and half of the units; all heads where they cannot be said.

    Where query heads are cut apart, two of every head.
    """
    most = architecture.heads
    fewer = heads and "head_dim" in architecture.family.stock
    groups = [[most - 1], [0], [0]] if fewer else [range(most)] * LAYERS
    return cut_to(architecture, groups, [range(24), range(10, 34), range(0, 48, 2)], *[2] * LAYERS)


def cut(folder, model_type, task="embedding"):
    checkpoint = tiny_checkpoint(folder / "dense", model_type, task=task)
    return checkpoint, *written(folder / "cut", checkpoint, equal(checkpoint.architecture))


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("model_type", "task"), [(each, task) for each in STOCK for task in AUTO])
def test_transformers_loads_it_with_code_of_its_own(tmp_path, model_type, task):
    checkpoint, folder, expected = cut(tmp_path, model_type, task)
    config = read(folder / "config.json")
    if (model_type, task) in POOLED:
        assert "auto_map" in config
        return
    assert not {"auto_map", "subnet"} & set(config)
    assert not list(folder.glob("*.py"))
    said = {name for name in SIZES if config.get(name) != checkpoint.config.to_dict().get(name)}
    assert "intermediate_size" in said
    assert said <= set(checkpoint.architecture.family.stock)
    auto = getattr(transformers, AUTO[task])
    model = auto.from_pretrained(folder)
    names = {name for name, _ in model.named_parameters()}
    assert names == set(load_file(folder / "model.safetensors"))
    found = outputs_of(checkpoint, lambda inputs: model(**inputs))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    model.save_pretrained(tmp_path / "again")
    again = dict(auto.from_pretrained(tmp_path / "again").named_parameters())
    assert all(again[name].equal(parameter) for name, parameter in model.named_parameters())
    loaded = load_sliced(folder)
    np.testing.assert_array_equal(outputs_of(loaded, lambda inputs: loaded.model(**inputs)), expected)
    assert held_against_libraries(folder, loaded).startswith("largest difference from ")


@pytest.mark.parametrize("model_type", STOCK)
def test_cut_again_it_counts_in_the_first_model(tmp_path, model_type):
    checkpoint, folder, _ = cut(tmp_path, model_type)
    first = equal(checkpoint.architecture)
    parent = load_sliced(folder)
    assert parent.config.to_dict().get("intermediate_size") == UNITS
    again = cut_to(parent.architecture, [[0]] * LAYERS, [[1, 5]] * LAYERS)
    if again.queries is not None:
        again = replace(again, queries=replace(again.queries, kept=(((1,),),) * LAYERS))
    grandchild, expected = written(tmp_path / "again", parent, again)
    about, weights = read(grandchild / "subnet.json"), load_file(grandchild / "model.safetensors")
    assert about["base"] == "dense"
    assert about["ffn_units"] == [[kept[1], kept[5]] for kept in first.units]
    assert about["heads"] == [[kept[0]] for kept in first.heads]
    dense = dict(checkpoint.model.backbone.named_parameters())
    whole = Subnet.from_json(about)
    if whole.queries is not None:
        assert whole.queries.kept == tuple(((kept[0][1],),) for kept in first.queries.kept)
    for layer in range(LAYERS):
        for branch, kept in zip(checkpoint.architecture.branches(layer), whole.kept(layer), strict=True):
            for matrix in branch.reads:
                name = f"{matrix.module}.weight"
                assert weights[name].equal(dense[name][matrix.indices(kept, len(dense[name]))])
    loaded = load_sliced(grandchild)
    np.testing.assert_array_equal(outputs_of(loaded, lambda inputs: loaded.model(**inputs)), expected)


@pytest.mark.parametrize("model_type", STOCK)
def test_the_whole_network_has_the_dense_configuration(tmp_path, model_type):
    checkpoint = tiny_checkpoint(tmp_path / "dense", model_type, task="classification")
    architecture = checkpoint.architecture
    whole = cut_to(architecture, [range(architecture.heads)] * LAYERS, [range(UNITS)] * LAYERS)
    folder, _ = written(tmp_path / "cut", checkpoint, whole)
    assert "dense" not in read(folder / "subnet.json")
    mine, dense = read(folder / "config.json"), checkpoint.config.to_dict()
    assert {name: mine.get(name) for name in SIZES} == {name: dense.get(name) for name in SIZES}
    assert not list(folder.glob("*.py"))


NO_STOCK = {
    "units differ": lambda a: cut_to(a, [range(a.heads)] * LAYERS, [range(24), range(24), range(25)]),
    "heads differ": lambda a: cut_to(a, [[0], range(a.heads), [0]], [range(24)] * LAYERS),
    "query heads differ": lambda a: cut_to(a, [range(a.heads)] * LAYERS, [range(24)] * LAYERS, 1, 3, 1),
    "no attention": lambda a: cut_to(a, [[]] * LAYERS, [range(24)] * LAYERS),
    "no FFN": lambda a: cut_to(a, [range(a.heads)] * LAYERS, [[]] * LAYERS),
}


@pytest.mark.parametrize("kind", NO_STOCK)
def test_layers_that_differ_need_the_modelling_file(tmp_path, kind):
    checkpoint = tiny_checkpoint(tmp_path / "dense", "llama")
    folder, _ = written(tmp_path / "cut", checkpoint, NO_STOCK[kind](checkpoint.architecture))
    assert "auto_map" in read(folder / "config.json")
    assert (folder / "modeling_subnet.py").is_file()
    assert "dense" not in read(folder / "subnet.json")


def test_heads_that_the_configuration_refuses_need_the_modelling_file(tmp_path):
    """Llama's class wants the hidden size to be a multiple of the heads, Qwen3's does not."""
    needs = {}
    for model_type in ("llama", "qwen3"):
        place = tmp_path / model_type
        save_tiny(place / "dense", model_type, num_attention_heads=4, num_key_value_heads=4, hidden_size=32)
        checkpoint = load_checkpoint(str(place / "dense"), task="embedding")
        folder, expected = written(place / "cut", checkpoint, Subnet.of([range(3)] * LAYERS, [range(24)] * LAYERS))
        needs[model_type] = (folder / "modeling_subnet.py").is_file()
        loaded = load_sliced(folder)
        np.testing.assert_array_equal(outputs_of(loaded, lambda inputs, own=loaded: own.model(**inputs)), expected)
        assert held_against_libraries(folder, loaded).startswith("largest difference from ")
    assert needs == {"llama": True, "qwen3": False}


def test_older_families_keep_their_form(tmp_path):
    checkpoint = tiny_checkpoint(tmp_path / "dense", "bert")
    folder, _ = written(tmp_path / "cut", checkpoint, Subnet.of([range(4)] * LAYERS, [range(24)] * LAYERS))
    assert (folder / "modeling_subnet.py").is_file()
    assert read(folder / "config.json")["intermediate_size"] == UNITS


def test_no_row_has_both_a_stock_form_and_residual_dimensions():
    assert not [family.name for family in FAMILIES if family.stock and family.stem]


BAD = {
    "another setting": ({"vocab_size": 7}, "'vocab_size' is no size of llama"),
    "a part of the class": ({"to_dict": 7}, "'to_dict' is no size of llama"),
    "nothing": ({"intermediate_size": 0}, "is damaged"),
    "no number": ({"intermediate_size": "48"}, "is damaged"),
    "a smaller model": ({"intermediate_size": 30}, "is of another model than config.json"),
    "groups that no query fits": ({"num_attention_heads": 5, "num_key_value_heads": 2}, "cut"),
}


@pytest.mark.parametrize("kind", BAD)
def test_sizes_that_were_edited_are_refused(tmp_path, kind):
    _, folder, _ = cut(tmp_path, "llama")
    changes, message = BAD[kind]
    edit(folder / "subnet.json", dense=changes)
    with pytest.raises(InputError, match=message):
        load_sliced(folder)


def test_code_that_was_added_is_never_run(tmp_path):
    _, folder, _ = cut(tmp_path, "llama")
    saved = load_sliced(folder)
    check_code(folder, saved)
    (folder / "theirs.py").write_text("raise SystemExit('executed')", encoding="utf-8")
    edit(folder / "config.json", auto_map={"AutoModel": "theirs.Own"})
    with pytest.raises(VerificationError, match=r"config\.json names other code"):
        check_code(folder, saved)


@pytest.mark.parametrize("task", AUTO)
@pytest.mark.parametrize("model_type", CAUSAL)
def test_a_decoder_generates_with_its_cache(tmp_path, model_type, task):
    """Names of an encoder have no prefix, those of a classifier have one: words that tied embeddings predict come of both."""
    names = ["a", "b"] if task == "classification" else None
    save_tiny(tmp_path / "dense", model_type, tie_word_embeddings=True)
    checkpoint = load_checkpoint(str(tmp_path / "dense"), task=task, label_names=names)
    folder, _ = written(tmp_path / "cut", checkpoint, equal(checkpoint.architecture))
    model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    given = torch.randint(5, VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(0))
    never = transformers.LogitsProcessorList([transformers.SuppressTokensLogitsProcessor([3], device="cpu")])
    cached = model.eval().generate(given, max_new_tokens=24, do_sample=False, logits_processor=never)
    grown = given
    with torch.no_grad():
        for _ in range(24):
            scores = never(grown, model(grown, use_cache=False).logits[:, -1])
            grown = torch.cat([grown, scores.argmax(-1, keepdim=True)], 1)
    assert cached.shape == (3, 9 + 24)
    assert torch.equal(cached, grown)


def test_it_needs_nothing_of_paretoc(tmp_path):
    _, folder, expected = cut(tmp_path, "llama", "classification")
    found = alone(LOAD, folder, AUTO["classification"], tmp_path / "trained")
    np.testing.assert_allclose(found["outputs"], expected, atol=1e-5)
    assert found["moved"] > 0
    assert found["same"]
