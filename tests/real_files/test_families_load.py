"""Checkpoints of the newer families as they are stored: every one loads, and answers as transformers alone does."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import processors

from compiler.export import save_checkpoint
from compiler.export.dense import export_dense
from compiler.export.files import write_graph
from compiler.export.rebuild import load_sliced
from compiler.export.template import make_template
from compiler.families import load_checkpoint
from compiler.families.loading.conversions import Conversions
from compiler.slicing import SubnetRunner
from compiler.spaces import Subnet
from compiler.tasks import ScoreScale, encode
from profilers.runtimes.onnx_runtime import open_session
from tests.model_folder import (
    answers,
    load,
    renamed,
    set_config,
    set_tokenizer,
    set_weights,
    transformers_answers,
)
from tests.recipes import modules, pooling, write
from tests.tiny import HEADS, HIDDEN, NEWER, UNITS, cut, randomise, save_tiny, some_batches, tiny_config, tiny_tokenizer

FUSED = ("nomic_bert", "gte", "jina_embeddings_v3")
CAUSAL = ("llama", "qwen3", "gemma3_text")
TEXTS = ["the film was great", "food", "a small red stone of the river is not for sale"]


def decoder_tokenizer(folder, *, ends="", pad=None, side="left"):
    """A decoder's tokenizer, which puts `ends` behind a text and nothing before it."""
    from transformers import PreTrainedTokenizerFast

    backend = tiny_tokenizer("bert").backend_tokenizer
    special = [(ends, backend.token_to_id(ends))] if ends else []
    names = {"eos_token": "[SEP]", "unk_token": "[UNK]", "pad_token": pad, "padding_side": side}
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {ends}".strip(), pair=f"$A $B {ends}".strip(), special_tokens=special
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, **names,
        model_max_length=64, model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    return tokenizer


@pytest.mark.parametrize("model_type", NEWER)
@pytest.mark.parametrize(("task", "labels"), [("embedding", None), ("classification", 3), ("regression", 1)])
def test_a_stored_model_answers_as_in_transformers(tmp_path, model_type, task, labels):
    folder = save_tiny(tmp_path, model_type, labels=labels)
    found = load(folder, task, [f"LABEL_{i}" for i in range(3)] if labels == 3 else None)
    rounding = 1e-5 if found.architecture.family.adapt else 0  # attention of its own rounds otherwise
    torch.testing.assert_close(answers(found), transformers_answers(folder, task), rtol=rounding, atol=rounding)
    assert found.head_trained


@pytest.mark.parametrize("model_type", FUSED)
def test_fused_and_split_weights_are_one_model(tmp_path, model_type):
    folder = save_tiny(tmp_path, model_type, labels=3)
    fused = load(folder, "classification")
    own = dict(fused.model.backbone.named_parameters())
    assert own.keys() != load_file(folder / "model.safetensors").keys()
    save_file({name: p.detach().contiguous() for name, p in own.items()}, folder / "model.safetensors")
    assert load(folder, "classification").digest == fused.digest


@pytest.mark.parametrize("model_type", FUSED)
def test_a_wrapper_around_fused_weights_is_read_through(tmp_path, model_type):
    folder = save_tiny(tmp_path, model_type)
    plain = load(folder)
    renamed(folder, lambda key: f"module.{key}")
    wrapped = load(folder)
    assert wrapped.digest == plain.digest
    assert "names of the weights were read without module, which a wrapper put there" in wrapped.notes


@pytest.mark.parametrize("model_type", NEWER)
def test_names_of_parameters_themselves_are_left_alone(model_type):
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_config(tiny_config(model_type))
    conversions, names = Conversions(model), dict(model.named_parameters())
    for name, parameter in names.items():
        found = set(conversions.parts(name, tuple(parameter.shape)))
        assert found == {name} or not found <= names.keys()


@pytest.mark.parametrize("model_type", NEWER)
@pytest.mark.parametrize("task", ["embedding", "classification"])
def test_a_cut_network_loads_again(tmp_path, model_type, task):
    dense = load(save_tiny(tmp_path / "dense", model_type, labels=None if task == "embedding" else 3), task)
    groups = dense.architecture.heads
    net = cut(dense.architecture, [range(groups), [groups - 1], []], [range(UNITS), [], [0, 7, 40]])
    run = SubnetRunner(dense.model, dense.architecture)
    parameters = run.parameters(net)
    save_checkpoint(tmp_path / "cut", dense, net, parameters)
    again = load_sliced(tmp_path / "cut")
    for batch in some_batches(dense).batches:
        with torch.inference_mode():
            assert torch.allclose(again.model(**batch)[-1], run(net, batch, parameters)[-1], atol=1e-6)
    assert not again.model.training


def save_language_model(folder, model_type, *, tied):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(tiny_config(model_type, tie_word_embeddings=tied))
    randomise(model)
    model.save_pretrained(folder)
    tiny_tokenizer(model_type).save_pretrained(folder)
    return model


@pytest.mark.parametrize("model_type", CAUSAL)
@pytest.mark.parametrize("stored", ["untied", "tied", "head"])
def test_a_language_model_is_an_embedder_or_gets_a_new_head(tmp_path, model_type, stored):
    model = save_language_model(tmp_path, model_type, tied=stored != "untied")
    if stored == "head":
        renamed(tmp_path, lambda key: "lm_head.weight" if "embed_tokens" in key else key)
    found = load(tmp_path)
    with torch.inference_mode():
        inputs = found.tokenizer(TEXTS[0], return_tensors="pt")
        assert torch.equal(
            found.model.backbone(**inputs).last_hidden_state, model.eval().model(**inputs).last_hidden_state
        )
    assert found.notes == ()
    classifier = load(tmp_path, "classification", ["bad", "good"])
    assert not classifier.head_trained
    assert torch.equal(classifier.model.backbone.model.embed_tokens.weight, model.model.embed_tokens.weight)


@pytest.mark.parametrize("model_type", CAUSAL)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_gives_what_transformers_gives(tmp_path, model_type, side):
    import transformers

    folder = save_tiny(tmp_path, model_type, labels=3)
    tokenizer = decoder_tokenizer(folder, side=side)
    set_config(folder, pad_token_id=None)
    found = load(folder, "classification")
    assert found.config.pad_token_id == found.tokenizer.pad_token_id == tokenizer.eos_token_id
    assert ("the tokenizer has no pad token: [SEP] fills batches, and the mask hides it") in found.notes
    assert any("pads on the left" in note for note in found.notes) == (side == "left")
    tokenizer.pad_token = tokenizer.eos_token
    stock = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, pad_token_id=tokenizer.pad_token_id, dtype=torch.float32
    ).eval()
    with torch.inference_mode():
        wanted = stock(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits
    batches = encode(found, [(text,) for text in TEXTS], max_tokens=32)
    assert batches.outputs(lambda inputs: found.model(**inputs)[-1]) == pytest.approx(wanted.numpy(), abs=1e-5)


def _graph(checkpoint):
    proto, twin = export_dense(checkpoint, 20)
    weights = {name: p.detach().numpy() for name, p in twin.backbone.named_parameters()}
    template = make_template(proto, weights, checkpoint.architecture)
    own = {name: p.detach().numpy() for name, p in checkpoint.model.backbone.named_parameters()}
    return template.fill(own, checkpoint.architecture.shape)


@pytest.mark.parametrize("model_type", CAUSAL)
def test_an_end_of_text_that_also_fills_batches_is_not_the_last_token_to_a_head(tmp_path, model_type):
    folder = save_tiny(tmp_path, model_type, labels=3)
    decoder_tokenizer(folder, ends="[SEP]", pad="[SEP]", side="right")
    set_config(folder, pad_token_id=3)
    found = load(folder, "classification")
    assert any("texts end with [SEP], which also fills batches" in note for note in found.notes)
    expected = transformers_answers(folder, "classification")
    assert torch.allclose(answers(found), expected, atol=1e-6)
    batches = encode(found, [(text,) for text in TEXTS], max_tokens=32)
    given = batches.outputs(lambda inputs: found.model(**inputs)[-1])
    assert given.flatten() == pytest.approx(expected.numpy(), abs=1e-5)
    write_graph(_graph(found), tmp_path / "model.onnx")
    session = open_session(tmp_path / "model.onnx", 1)
    graph = batches.outputs(
        lambda inputs: torch.from_numpy(session.run(None, {name: t.numpy() for name, t in inputs.items()})[0])
    )
    assert graph == pytest.approx(given, abs=1e-4)


def test_an_end_of_text_that_is_no_padding_is_read(tmp_path):
    folder = save_tiny(tmp_path, "llama", labels=3)
    decoder_tokenizer(folder, ends="[SEP]", pad="[PAD]", side="right")
    found = load(folder, "classification")
    assert not any("also fills batches" in note for note in found.notes)
    assert torch.equal(answers(found), transformers_answers(folder, "classification"))


def test_the_tokenizers_padding_is_the_configurations(tmp_path):
    folder = save_tiny(tmp_path, "llama", labels=3, pad_token_id=5)
    found = load(folder, "classification")
    assert found.config.pad_token_id == 0
    assert any("pads with id 0, config.json says 5" in note for note in found.notes)
    batches = encode(found, [(text,) for text in TEXTS], max_tokens=32)
    alone = [encode(found, [(text,)], max_tokens=32).outputs(lambda i: found.model(**i)[-1])[0] for text in TEXTS]
    assert batches.outputs(lambda inputs: found.model(**inputs)[-1]) == pytest.approx(np.stack(alone), abs=1e-5)


@pytest.mark.parametrize("model_type", CAUSAL)
def test_a_new_head_without_a_bias_answers_on_the_scale_of_the_labels(tmp_path, model_type):
    labels = np.array([290.0, 310.0, 300.0])
    scale = ScoreScale.of(labels)
    folder = save_tiny(tmp_path, model_type)
    plain, scaled = load(folder, "regression"), load_checkpoint(str(folder), task="regression", labels=labels)
    given = scale.of_head(scaled.model.backbone)
    assert given == ScoreScale(0.0, pytest.approx(np.sqrt(np.mean(labels**2))))
    assert given.standard(labels) * given.deviation == pytest.approx(labels)
    assert answers(scaled).numpy() == pytest.approx(given.deviation * answers(plain).numpy(), abs=300e-6)
    with given.taken([scaled.model.backbone]):
        assert answers(scaled).numpy() == pytest.approx(answers(plain).numpy(), abs=1e-5)
    with pytest.raises(ValueError, match="moves none"):
        scale.give(scaled.model.backbone)


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_embedder_of_the_last_token_is_read_as_by_sentence_transformers(tmp_path, side):
    from sentence_transformers import SentenceTransformer

    folder = save_tiny(tmp_path, "qwen3")
    decoder_tokenizer(folder, ends="[PAD]", pad="[PAD]", side=side)
    modules(folder, "Transformer", "Pooling", "Normalize")
    pooling(folder, word_embedding_dimension=HIDDEN, pooling_mode_lasttoken=True, pooling_mode_mean_tokens=False)
    prompts = {"prompts": {"query": "a film of the city : ", "document": ""}, "default_prompt_name": "query"}
    write(folder / "config_sentence_transformers.json", {**prompts, "similarity_fn_name": "cosine"})
    wanted = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, show_progress_bar=False)
    found = load(folder)
    batches = encode(found, [(text,) for text in TEXTS], max_tokens=found.max_tokens)
    assert batches.outputs(lambda inputs: found.model(**inputs)[-1]) == pytest.approx(wanted, abs=1e-5)
    net = Subnet.of([range(found.architecture.heads)] * 3, [range(UNITS)] * 3)
    parameters = {name: p.detach() for name, p in found.model.backbone.named_parameters()}
    save_checkpoint(tmp_path / "saved", found, net, parameters)
    assert json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())["padding_side"] == "right"
    again = SentenceTransformer(str(tmp_path / "saved"), device="cpu", trust_remote_code=True)
    assert again.encode(TEXTS, show_progress_bar=False) == pytest.approx(wanted, abs=1e-5)


def test_windows_of_both_directions_stay_as_wide_when_they_are_saved(tmp_path):
    folder = save_tiny(tmp_path / "dense", "gemma3_text", use_bidirectional_attention=True, sliding_window=8)
    dense = load(folder)
    assert torch.equal(answers(dense), transformers_answers(folder))
    net = cut(dense.architecture, [range(dense.architecture.heads)] * 3, [range(UNITS)] * 3)
    save_checkpoint(tmp_path / "cut", dense, net, dict(dense.model.backbone.named_parameters()))
    assert load_sliced(tmp_path / "cut").config.sliding_window == dense.config.sliding_window
    assert torch.equal(answers(load_sliced(tmp_path / "cut")), answers(dense))


def test_a_long_context_is_not_tried_in_full(tmp_path):
    from compiler.export.parity import odd_inputs

    found = load(save_tiny(tmp_path, "llama", max_position_embeddings=131072))
    assert found.architecture.max_tokens == 131072
    longest = max(inputs["input_ids"].shape[1] for inputs in odd_inputs(found.input_names, found.architecture, 0))
    assert longest == 1024


def test_heads_may_be_of_another_size_than_the_stream_is_divided_into(tmp_path):
    found = load(save_tiny(tmp_path, "qwen3", head_dim=10, hidden_size=30))
    assert (found.architecture.head_size, found.architecture.heads, found.architecture.queries) == (10, 6, 2)


def test_layers_of_qwen3_with_a_window_answer_as_in_transformers(tmp_path):
    folder = save_tiny(tmp_path, "qwen3", use_sliding_window=True, sliding_window=2, max_window_layers=1)
    found = load(folder)
    assert found.config.layer_types == ["full_attention", "sliding_attention", "sliding_attention"]
    assert torch.equal(answers(found), transformers_answers(folder))
    set_config(folder, use_sliding_window=False, layer_types=None)
    assert not torch.allclose(answers(load(folder)), answers(found), atol=1e-3)


def test_settings_of_code_in_a_folder_that_transformers_follows_by_default_are_fine(tmp_path):
    folder = save_tiny(tmp_path, "nomic_bert")
    plain = load(folder)
    set_config(
        folder, n_embd=HIDDEN, n_head=HEADS, n_layer=3, n_inner=UNITS, prenorm=False, activation_function="swiglu",
        rotary_emb_base=1000, rotary_emb_fraction=1.0, position_embedding_type="rotary",
        auto_map={"AutoModel": "modeling_hf_nomic_bert.NomicBertModel"},
    )  # fmt: skip
    set_tokenizer(folder, model_max_length=8192)
    found = load(folder)
    assert torch.equal(answers(found), answers(plain))
    assert any("code in the model folder is not run" in note for note in found.notes)


def test_frequencies_that_older_files_store_are_computed(tmp_path):
    folder = save_tiny(tmp_path, "llama")
    plain = load(folder)
    set_weights(folder, lambda all_: {**all_, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})
    found = load(folder)
    assert (found.digest, found.notes) == (plain.digest, plain.notes)
