"""Folders of sentence-transformers that mean something which is not supported, or are damaged: named, never read as another model."""

import json
import shutil

import pytest
import torch

from compiler.families.recipe_files import read_recipe, transformer_folder
from targets.errors import InputError
from tests.recipes import HIDDEN, dense, load, modules, pooling, save_encoder, write


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = save_encoder(tmp_path_factory.mktemp("whole") / "model")
    modules(folder, "Transformer", "Pooling")
    pooling(folder)
    return folder


def named(kind, **options):
    return lambda folder: modules(folder, "Transformer", "Pooling", kind, **options)


def transformer(**settings):
    return lambda folder: write(folder / "sentence_bert_config.json", settings)


def config(**settings):
    return lambda folder: write(folder / "config_sentence_transformers.json", settings)


def pooled(**settings):
    return lambda folder: pooling(folder, **settings)


def only(*kinds, **options):
    return lambda folder: modules(folder, *kinds, **options)


def listed(content):
    return lambda folder: write(folder / "modules.json", content)


def module(**changes):
    line = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
    return {**line, **changes}


def no_pooling_file(folder):
    (folder / "1_Pooling" / "config.json").unlink()


def no_modules(folder):
    (folder / "modules.json").unlink()


def custom_dense(folder):
    modules(folder, "Transformer", "Pooling", "Dense")
    dense(folder, "2_Dense", HIDDEN, 4, "my_code.Swish")


def dense_on_tokens(folder):
    modules(folder, "Transformer", "Pooling", "Dense")
    dense(folder, "2_Dense", HIDDEN, 4, module_input_name="token_embeddings")


def dense_of_another_size(folder):
    modules(folder, "Transformer", "Pooling", "Dense")
    dense(folder, "2_Dense", HIDDEN, 4)
    shutil.copy(folder / "2_Dense" / "config.json", folder / "kept.json")
    dense(folder, "2_Dense", HIDDEN, 5)
    shutil.move(folder / "kept.json", folder / "2_Dense" / "config.json")


def pickled_dense(folder):
    modules(folder, "Transformer", "Pooling", "Dense")
    dense(folder, "2_Dense", HIDDEN, 4)
    (folder / "2_Dense" / "model.safetensors").unlink()
    torch.save({}, folder / "2_Dense" / "pytorch_model.bin")


FORMS = {
    "words": (named("WordWeights"), "a WordWeights module"),
    "cnn": (named("CNN"), "a CNN module"),
    "lstm": (named("LSTM"), "a LSTM module"),
    "layers": (only("Transformer", "WeightedLayerPooling", "Pooling"), "a WeightedLayerPooling module"),
    "two poolings": (named("Pooling"), "exactly one Pooling"),
    "no pooling": (only("Transformer"), "exactly one Pooling"),
    "words first": (only("WordEmbeddings", "Pooling"), "begins with a WordEmbeddings"),
    "router": (only("Router"), "begins with a Router"),
    "bag of words": (only("BoW"), "begins with a BoW"),
    "oldest names": (only("BERT", "Pooling"), "begins with a BERT"),
    "custom": (only("Transformer", "Pooling", namespace="their_code"), "begins with a their_code.Transformer"),
    "sparse": (named("SpladePooling", namespace="sentence_transformers.sparse_encoder.models"), "a SpladePooling module"),
    "outside": (listed([module(path="../other")]), "leads out of the model folder"),
    "absolute": (listed([module(path="/etc")]), "leads out of the model folder"),
    "windows": (listed([module(path="..\\other")]), "leads out of the model folder"),
    "one name": (listed([module(), module(path="1_Pooling")]), "a name of its own"),
    "no list": (listed({"a": 1}), "modules.json"),
    "no type": (listed([{"name": "0", "path": ""}]), "type"),
    "odd pooling": (pooled(pooling_mode="median"), "pooling 'median' is not supported"),
    "no poolings": (pooled(pooling_mode=[]), "pooling '' is not supported"),
    "pooling key": (pooled(pooling_mode_median_tokens=True), "pooling_mode_median_tokens = True"),
    "pooling type": (pooled(include_prompt="no"), "include_prompt"),
    "pooling file": (no_pooling_file, "1_Pooling/config.json cannot be read"),
    "modules gone": (no_modules, "but no modules.json"),
    "task": (transformer(transformer_task="fill-mask"), "transformer_task = 'fill-mask'"),
    "expansion": (transformer(query_expansion={"strategy": "fixed", "length": 32}), "query_expansion"),
    "lengths": (transformer(query_length=32), "query_length = 32"),
    "tokenizer": (transformer(tokenizer_name_or_path="bert-base"), "tokenizer_name_or_path = 'bert-base'"),
    "new key": (transformer(max_seq_length=8, chunking="late"), "chunking = 'late'"),
    "layers cut": (transformer(config_args={"num_hidden_layers": 2}), "num_hidden_layers = 2"),
    "tokens": (transformer(tokenizer_kwargs={"add_prefix_space": True}), "tokenizer_kwargs"),
    "prefix": (transformer(tokenizer_args={"add_prefix_space": True}), "add_prefix_space = True"),
    "no cut": (transformer(processing_kwargs={"text": {"truncation": False}}), "does not truncate"),
    "chat": (transformer(modality_config={"message": {"method": "forward"}}), "modality_config"),
    "too short": (transformer(max_seq_length=0), "maximum length"),
    "not whole": (transformer(max_seq_length=2.5), "max_seq_length"),
    "kind": (config(model_type="SparseEncoder"), "is a SparseEncoder"),
    "no prompt": (config(default_prompt_name="query2"), "none of the prompts"),
    "prompt": (config(prompts={"a": 1}), "prompts"),
    "similarity": (config(similarity_fn_name="maxsim"), "similarity_fn_name is 'maxsim'"),
    "later key": (config(rescaling=3), "rescaling = 3"),
    "activation": (custom_dense, "the activation my_code.Swish"),
    "dense input": (dense_on_tokens, "module_input_name = 'token_embeddings'"),
    "dense size": (dense_of_another_size, "linear.bias is (5,), by config.json it is (4,)"),
    "dense pickled": (pickled_dense, "only pickled weights"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_what_is_not_supported_is_named(name, whole, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    form, said = FORMS[name]
    form(folder)
    with pytest.raises(InputError) as refused:
        read_recipe(folder)
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 3


def test_modules_that_do_not_fit_are_named(whole, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    modules(folder, "Transformer", "Pooling", "Dense")
    dense(folder, "2_Dense", 2 * HIDDEN, 4)
    with pytest.raises(InputError, match=f"takes {2 * HIDDEN} dimensions, the one before it gives {HIDDEN}"):
        load(folder)
    assert load(folder, pooling="cls,mean").model.recipe.poolings == ("cls", "mean")


def test_a_prompt_that_leaves_no_token_is_named(whole, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    pooling(folder, include_prompt=False)
    config(prompts={"p": "the film was great "}, default_prompt_name="p")(folder)
    transformer(max_seq_length=6)(folder)
    for included in (False, True):
        pooling(folder, include_prompt=included)
        with pytest.raises(InputError, match="no text would be left"):
            load(folder)
    with pytest.raises(InputError, match="not UTF-8"):
        load(folder, prompt="a\udcff")
    transformer(max_seq_length=2)(folder)
    with pytest.raises(InputError, match="leaves none for its words"):
        load(folder, prompt="")


def test_a_classifier_does_not_need_modules_that_are_supported(whole, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    modules(folder, "Transformer", "Pooling", namespace="their_code")
    assert transformer_folder(folder) == folder
    assert json.loads((folder / "modules.json").read_text(encoding="utf-8"))[0]["type"] == "their_code.Transformer"
