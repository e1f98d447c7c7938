"""Checkpoints of newer families that mean what is not supported: each is refused by name, before anything is computed."""

import pytest
from safetensors.torch import load_file

from targets.errors import InputError
from tests.model_folder import load, renamed, set_config, set_weights, without
from tests.tiny import save_tiny


def refused(folder, match, task="embedding"):
    with pytest.raises(InputError, match=match) as caught:
        load(folder, task)
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("model_type", "changes", "match"),
    [
        ("llama", {"num_key_value_heads": 2}, "9 attention heads are no multiple of num_key_value_heads 2"),
        ("llama", {"head_dim": 16}, "head_dim 16 in config.json, q_proj makes it 4"),
        ("qwen3", {"head_dim": 8}, "head_dim 8 in config.json, q_proj makes it 16"),
        ("modernbert", {"head_dim": 16}, "head_dim 16 in config.json, modernbert makes it 8"),
        ("gte", {"num_key_value_heads": 2}, "_proj of gte holds 32 values of its heads or FFN units, by the settings"),
        ("modernbert", {"hidden_size": 34}, "34 is no multiple of 4 attention heads"),
        ("llama", {"num_key_value_heads": 0}, "num_key_value_heads"),
        ("llama", {"rms_norm_eps": 0}, "rms_norm_eps"),
        ("modernbert", {"global_attn_every_n_layers": 0}, "global_attn_every_n_layers"),
        ("modernbert", {"local_attention": 1}, "local_attention"),
        ("gemma3_text", {"sliding_window": 0}, "sliding_window"),
        ("gemma3_text", {"layer_types": ["linear_attention"] * 3}, "layer_types has 'linear_attention'"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping makes it .* soft-capped"),
        ("gemma3_text", {"hidden_activation": "prelu"}, "activation 'prelu' is not supported"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "type 'dynamic' are not supported"),
        ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2.0}, "rope_parameters": None}, "type 'dynamic'"),
        ("llama", {"rope_theta": 0.0}, "rope_theta"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": -2.0}}, "factor"),
        ("eurobert", {"is_decoder": True}, "is_decoder makes it a decoder"),
        ("llama", {"is_encoder_decoder": True}, "is_encoder_decoder"),
        ("nomic_bert", {"num_experts": 8, "moe_every_n_layers": 2}, "a mixture of 8 experts"),
        ("llama", {"num_local_experts": 4}, "a mixture of 4 experts"),
        ("llama", {"quantization_config": {"quant_method": "awq"}}, "its method is 'awq'"),
        ("nomic_bert", {"n_head": 8}, "n_head 8 is not read by transformers, whose num_attention_heads is 4"),
        ("nomic_bert", {"rotary_emb_base": 10000}, "say rope_theta 10000 too"),
        ("nomic_bert", {"prenorm": True}, "prenorm True is not supported; transformers computes with False"),
        ("jina_embeddings_v3", {"lora_adaptations": ["classification"]}, "an adapter for each task"),
        ("gte", {"model_type": "new"}, "transformers has them as 'gte'"),
        ("bert", {"position_embedding_type": "alibi"}, "position_embedding_type 'alibi' is not supported"),
        ("bert", {"alibi_starting_size": 512}, "ALiBi"),
        ("xlm-roberta", {"position_embedding_type": "rotary"}, "with rotary positions: nomic_bert, gte, jina_emb"),
        ("bert", {"model_type": "albert"}, "models of type 'albert' are not supported\nsupported types: bert, .*qwen3"),
        ("bert", {"model_type": "qwen3_moe"}, "models of type 'qwen3_moe' are not supported"),
    ],
)
def test_a_configuration_that_means_something_else(tmp_path, model_type, changes, match):
    folder = save_tiny(tmp_path, model_type)
    load(folder)
    set_config(folder, **changes)
    refused(folder, match)


def test_positions_that_depend_on_the_text_are_refused_with_what_can_be_done(tmp_path):
    folder = save_tiny(tmp_path, "llama")
    set_config(folder, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0})
    refused(folder, "take it out where no text is longer than the model was trained on")
    long = {"rope_type": "longrope", "long_factor": [1.0] * 4, "short_factor": [1.0] * 4, "factor": 2.0}
    set_config(folder, rope_parameters={**long, "rope_theta": 1e4, "original_max_position_embeddings": 32})
    refused(folder, "type 'longrope' are not supported")


@pytest.mark.parametrize(
    ("model_type", "part"),
    [("nomic_bert", "layers.1.attn.Wqkv"), ("gte", "layer.1.mlp.up_gate_proj"), ("jina_embeddings_v3", "1.mixer.Wqkv")],
)
def test_a_fused_weight_must_be_there_and_of_its_shape(tmp_path, model_type, part):
    folder = save_tiny(tmp_path / "whole", model_type)
    set_weights(folder, lambda all_: {k: v[:-2] if part in k and v.ndim == 2 else v for k, v in all_.items()})
    refused(folder, rf"{part}.weight gives layers.1.[\w.]+ the shape")
    folder = save_tiny(tmp_path / "cut", model_type)
    without(folder, part)
    refused(folder, "weights are missing from the checkpoint, layers.1")


@pytest.mark.parametrize("model_type", ["nomic_bert", "gte", "jina_embeddings_v3"])
def test_a_weight_of_the_encoder_that_nothing_takes(tmp_path, model_type):
    folder = save_tiny(tmp_path, model_type)
    layer = next(key for key in load_file(folder / "model.safetensors") if ".1." in key).partition(".1.")[0]
    set_weights(folder, lambda weights: {**weights, f"{layer}.1.extra.weight": next(iter(weights.values())).clone()})
    refused(folder, "the model has no place for .*extra.weight")


def test_fused_and_split_weights_at_once(tmp_path):
    folder = save_tiny(tmp_path, "nomic_bert")
    key = "encoder.layers.0.attn.Wqkv.weight"
    set_weights(folder, lambda all_: {**all_, "layers.0.self_attn.k_proj.weight": all_[key][:32].clone()})
    refused(folder, "two weights are for layers.0.self_attn.k_proj.weight")


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("layers.0.mlp.experts.1.up_proj.weight", "mixture of experts"),
        ("encoder.layers.0.mlp.router.layer.weight", "mixture of experts"),
        ("layers.0.self_attn.q_proj.lora_A.weight", "an adapter that is not merged"),
        ("encoder.layers.0.mixer.Wqkv.parametrizations.weight.0.lora_A", "an adapter that is not merged"),
        ("layers.0.self_attn.q_proj.qweight", "quantised"),
        ("layers.0.self_attn.q_proj.weight_scale_inv", "quantised"),
        ("layers.0.self_attn.q_proj.weight_packed", "quantised"),
    ],
)
def test_weights_of_another_kind_are_named(tmp_path, name, match):
    folder = save_tiny(tmp_path, "llama")
    set_weights(folder, lambda weights: {**weights, name: next(iter(weights.values())).clone()})
    refused(folder, match)


def test_a_language_model_with_a_head_alone_that_is_not_tied(tmp_path):
    folder = save_tiny(tmp_path, "llama", tie_word_embeddings=False)
    renamed(folder, lambda key: "lm_head.weight" if "embed_tokens" in key else key)
    refused(folder, "embed_tokens.weight")


def test_a_classifier_that_is_declared_and_not_stored(tmp_path):
    folder = save_tiny(tmp_path, "qwen3", labels=3)
    renamed(folder, lambda key: key.replace("score", "scorer"))
    refused(folder, "its head is not the one of Qwen3ForSequenceClassification", task="classification")
