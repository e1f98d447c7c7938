"""Weights as training code, exporters and sharding leave them: the values of transformers, or a refusal that names them."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from targets.errors import InputError
from tests.model_folder import (
    answers,
    copied,
    known_answers,
    load,
    renamed,
    set_config,
    set_weights,
    tiny,
    transformers_answers,
    without,
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("models") / "encoder")


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """A trained classifier of three classes."""
    return tiny(tmp_path_factory.mktemp("models") / "judge", labels=3)


def refusal(folder, task="embedding", names=None):
    with pytest.raises(InputError) as caught:
        load(folder, task, names)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def same(ours, theirs):
    """Equal but for rounding: how a library sums depends on where a file's tensors begin in memory."""
    return torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)


# --- names


WRAPPED = {
    "DistributedDataParallel": lambda key: f"module.{key}",
    "torch.compile": lambda key: f"_orig_mod.{key}",
    "both": lambda key: f"module._orig_mod.{key}",
    "Lightning": lambda key: f"model.{key}",
    "a compiled encoder in a training loop": lambda key: f"model._orig_mod.{key}",
    "sentence-transformers": lambda key: f"0.auto_model.{key}",
    "FSDP": lambda key: key.replace("encoder.", "encoder._fsdp_wrapped_module."),
}


@pytest.mark.parametrize("form", WRAPPED)
def test_names_with_what_a_wrapper_put_there(encoder, tmp_path, form):
    folder = copied(encoder, tmp_path / "model")
    renamed(folder, WRAPPED[form])
    found = load(folder)
    assert same(answers(found), known_answers(encoder))
    assert "which a wrapper put there" in " ".join(found.notes)


@pytest.mark.parametrize("form", ["DistributedDataParallel", "torch.compile"])
def test_a_wrapped_classifier_keeps_its_trained_head(judge, tmp_path, form):
    folder = copied(judge, tmp_path / "model")
    renamed(folder, WRAPPED[form])
    found = load(folder, "classification")
    assert found.head_trained
    assert same(answers(found), known_answers(judge, "classification"))


def test_norms_in_the_spelling_of_tensorflow(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    renamed(
        folder, lambda k: k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    )
    assert same(answers(load(folder)), transformers_answers(folder))


def test_an_encoder_that_a_classifier_is_made_of(judge):
    found = load(judge)
    assert same(answers(found), known_answers(judge))
    assert any("classifier" in note for note in found.notes)


def test_two_weights_for_one_place(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    set_weights(folder, lambda w: w | {"module.embeddings.LayerNorm.bias": torch.zeros(32)})
    assert "two weights are for embeddings.LayerNorm.bias" in refusal(folder)


def test_names_of_another_library(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    renamed(folder, lambda key: key.replace("attention.self.query", "attn.q_proj"))
    message = refusal(folder)
    assert "attention.self.query.weight" in message
    assert "attn.q_proj" in message


# --- precision and shards


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_weights_in_another_precision(encoder, tmp_path, dtype):
    folder = copied(encoder, tmp_path / "model")
    set_weights(folder, lambda w: {key: tensor.to(getattr(torch, dtype)) for key, tensor in w.items()})
    set_config(folder, torch_dtype=f"torch.{dtype}", drop=("dtype",))
    found = load(folder)
    assert any(dtype in note for note in found.notes)
    set_config(folder, torch_dtype=dtype)
    assert same(answers(found), transformers_answers(folder))


def sharded(folder: Path, parts: int = 3) -> dict:
    """Weights in several files with the index that transformers writes."""
    weights = load_file(folder / "model.safetensors")
    places = {key: f"model-{i % parts + 1:05}-of-{parts:05}.safetensors" for i, key in enumerate(weights)}
    for name in set(places.values()):
        save_file(
            {key: weights[key] for key in weights if places[key] == name}, folder / name, metadata={"format": "pt"}
        )
    (folder / "model.safetensors").unlink()
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return index


def write_index(folder, index):
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def test_weights_in_shards(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    sharded(folder)
    found = load(folder)
    assert found.digest == load(encoder).digest
    assert same(answers(found), transformers_answers(folder))


class Canary:
    """Writes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


def test_an_index_that_names_pickled_weights_is_never_loaded(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    index, canary = sharded(folder, parts=1), tmp_path / "ran"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Canary(str(canary))))
    index["weight_map"] = dict.fromkeys(index["weight_map"], "pytorch_model.bin")
    write_index(folder, index)
    assert "'pytorch_model.bin': only plain names that end in .safetensors" in refusal(folder)
    assert not canary.exists()


@pytest.mark.parametrize(
    "name",
    [
        "{other}/model.safetensors",
        "../encoder/model.safetensors",
        "sub/model.safetensors",
        "..safetensors/x",
        "a\nb.safetensors",
    ],
)
def test_an_index_that_names_files_elsewhere(encoder, tmp_path, name):
    folder = copied(encoder, tmp_path / "model")
    index = sharded(folder, parts=1)
    index["weight_map"] = dict.fromkeys(index["weight_map"], name.format(other=encoder))
    write_index(folder, index)
    assert "only plain names" in refusal(folder)


def test_a_shard_that_is_a_link_out_of_the_folder(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    index = sharded(folder, parts=1)
    name = next(iter(index["weight_map"].values()))
    (folder / name).rename(tmp_path / "outside.safetensors")
    (folder / name).symlink_to(tmp_path / "outside.safetensors")
    assert "a link out of the folder" in refusal(folder)


def test_shards_of_the_hubs_cache_are_links_into_its_store(encoder, tmp_path):
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123abcd"
    folder = copied(encoder, snapshot)
    sharded(folder)
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir()
    for i, shard in enumerate(sorted(folder.glob("*.safetensors"))):
        shard.rename(blobs / f"blob{i}")
        shard.symlink_to(Path("../../blobs") / f"blob{i}")
    assert load(folder).digest == load(encoder).digest


@pytest.mark.parametrize("name", ["model.safetensors", "shard"])
def test_a_pipe_as_weights(encoder, tmp_path, name):
    folder = copied(encoder, tmp_path / "model")
    if name == "shard":
        name = next(iter(sharded(folder, parts=1)["weight_map"].values()))
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert "is no regular file" in refusal(folder)


def test_a_shard_that_is_missing(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    index = sharded(folder)
    (folder / index["weight_map"]["embeddings.LayerNorm.bias"]).unlink()
    assert "which is not in the folder" in refusal(folder)


def test_an_index_that_puts_a_weight_elsewhere(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    index = sharded(folder)
    index["weight_map"]["embeddings.LayerNorm.nothing"] = index["weight_map"]["embeddings.LayerNorm.bias"]
    write_index(folder, index)
    assert "which does not have it" in refusal(folder)


@pytest.mark.parametrize("index", ["[", "[]", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}', "[" * 100_000])
def test_a_damaged_index(encoder, tmp_path, index):
    folder = copied(encoder, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    assert "model.safetensors.index.json" in refusal(folder)


def test_a_folder_of_torchs_distributed_checkpoints_is_not_unpickled(encoder, tmp_path):
    folder, canary = copied(encoder, tmp_path / "model"), tmp_path / "ran"
    (folder / ".metadata").write_bytes(pickle.dumps(Canary(str(canary))))
    assert load(folder).digest == load(encoder).digest
    assert not canary.exists()


# --- what is not there


@pytest.mark.parametrize("part", ["pooler.dense.weight", "pooler.dense"])
def test_a_classifier_without_the_pooler_that_it_reads(judge, tmp_path, part):
    folder = copied(judge, tmp_path / "model")
    without(folder, part)
    message = refusal(folder, "classification")
    assert "bert.pooler.dense.weight is missing" in message
    assert "its trained head reads" in message


def test_an_embedding_model_without_a_pooler(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    without(folder, "pooler")
    assert same(answers(load(folder)), answers(load(encoder)))


def test_a_pooler_that_will_be_trained_with_its_head(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    without(folder, "pooler")
    found = load(folder, "classification", ["a", "b"])
    assert not found.head_trained
    assert any("no pooler" in note for note in found.notes)


@pytest.mark.parametrize("part", ["layer.1.output.LayerNorm.bias", "layer.2.", "word_embeddings", "query.bias"])
def test_an_encoder_with_a_hole(judge, tmp_path, part):
    folder = copied(judge, tmp_path / "model")
    without(folder, part)
    assert "missing from the checkpoint" in refusal(folder, "classification")


def test_half_a_head(judge, tmp_path):
    folder = copied(judge, tmp_path / "model")
    without(folder, "classifier.bias")
    assert "the head is incomplete: classifier.bias" in refusal(folder, "classification")


def test_a_head_of_another_form(judge, tmp_path):
    folder = copied(judge, tmp_path / "model")
    renamed(folder, lambda key: key.replace("classifier.", "classifier.0."))
    assert "classifier.0.bias belongs nowhere" in refusal(folder, "classification")


def test_a_head_that_the_configuration_does_not_declare(judge, tmp_path):
    folder = copied(judge, tmp_path / "model")
    set_config(folder, architectures=["BertModel"])
    assert '"architectures": ["BertForSequenceClassification"]' in refusal(folder, "classification", ["x", "y", "z"])


def test_a_configuration_with_fewer_layers_than_the_file(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    set_config(folder, num_hidden_layers=2)
    found = load(folder)
    assert found.architecture.layers == 2
    assert same(answers(found), transformers_answers(folder))
    assert any("the first of 3" in note for note in found.notes)


# --- what is of another kind


ODD_WEIGHTS = {
    "GPTQ": ("encoder.layer.0.output.dense.qweight", torch.int32, "quantised"),
    "bitsandbytes": ("encoder.layer.0.output.dense.SCB", torch.float32, "quantised"),
    "LoRA": ("encoder.layer.0.output.dense.lora_A.default.weight", torch.float32, "adapter that is not merged"),
    "relative positions": ("encoder.layer.0.attention.self.distance_embedding.weight", torch.float32, "no place for"),
}


@pytest.mark.parametrize("kind", ODD_WEIGHTS)
def test_weights_that_no_part_of_the_model_reads(encoder, tmp_path, kind):
    folder = copied(encoder, tmp_path / "model")
    name, dtype, words = ODD_WEIGHTS[kind]
    set_weights(folder, lambda w: w | {name: torch.zeros(2, 2, dtype=dtype)})
    assert words in refusal(folder)


def test_whole_numbers_as_weights(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    set_weights(folder, lambda w: {k: v.to(torch.int8) if "dense.weight" in k else v for k, v in w.items()})
    assert "is of type I8" in refusal(folder)


@pytest.mark.parametrize(
    "size", ["vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings", "type_vocab_size"]
)
def test_sizes_that_the_weights_do_not_have(encoder, tmp_path, size):
    folder = copied(encoder, tmp_path / "model")
    set_config(folder, **{size: 512})
    assert "config.json makes it" in refusal(folder)


FILES = {
    "model.gguf": "GGUF",
    "tf_model.h5": "TensorFlow",
    "flax_model.msgpack": "Flax",
    "model.onnx": "ONNX",
    "pytorch_model.bin": "pickled",
    "model-00001-of-00002.safetensors": "model.safetensors.index.json",
}


@pytest.mark.parametrize("name", FILES)
def test_only_weights_of_another_form(encoder, tmp_path, name):
    folder = copied(encoder, tmp_path / "model")
    (folder / "model.safetensors").rename(folder / name)
    assert FILES[name] in refusal(folder)


def test_the_folder_of_a_training_run(encoder, tmp_path):
    (tmp_path / "out").mkdir()
    copied(encoder, tmp_path / "out" / "checkpoint-500")
    assert "checkpoint-500" in refusal(tmp_path / "out")


# --- values


def test_weights_that_are_all_zero(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    set_weights(folder, lambda w: {key: torch.zeros_like(tensor) for key, tensor in w.items()})
    assert "with the same values" in refusal(folder)


def test_a_head_that_is_all_zero(judge, tmp_path):
    folder = copied(judge, tmp_path / "model")
    set_weights(folder, lambda w: w | {"classifier.weight": torch.zeros_like(w["classifier.weight"])})
    assert "with the same values" in refusal(folder, "classification")


def test_weights_that_overflow_after_one_layer(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    key = "encoder.layer.0.output.dense.weight"
    set_weights(folder, lambda w: w | {key: torch.full_like(w[key], 3e38)})
    assert "not finite" in refusal(folder)


def test_weights_that_are_not_a_number(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    key = "encoder.layer.0.output.dense.weight"
    set_weights(folder, lambda w: w | {key: w[key] * float("nan")})
    assert f"weight {key} holds NaN" in refusal(folder)
