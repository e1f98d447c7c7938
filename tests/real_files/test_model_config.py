"""Settings of config.json as the hub has them: followed as transformers follows them, or refused by name."""

import json

import pytest
import torch

from compiler.export import declared_tasks
from targets.errors import InputError
from tests.model_folder import answers, copied, known_answers, load, set_config, tiny, transformers_answers


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("models") / "encoder")


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """A trained classifier of three classes."""
    return tiny(tmp_path_factory.mktemp("models") / "judge", labels=3)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    """A trained head with one output."""
    return tiny(tmp_path_factory.mktemp("models") / "scorer", labels=1)


def refusal(folder, task="embedding", names=None):
    with pytest.raises(InputError) as caught:
        load(folder, task, names)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


# --- what only says how a model is called


CALLING = {
    "chunk_size_feed_forward": 3,
    "return_dict": False,
    "output_hidden_states": True,
    "output_attentions": True,
    "torchscript": True,
}


@pytest.mark.parametrize("key", CALLING)
def test_settings_that_change_no_value(judge, tmp_path, key):
    folder = copied(judge, tmp_path / "model")
    set_config(folder, **{key: CALLING[key]})
    found = load(folder, "classification")
    assert torch.equal(answers(found), answers(load(judge, "classification")))
    assert any(key in note for note in found.notes)


@pytest.mark.parametrize(
    "changes",
    [
        {"tie_word_embeddings": False},
        {"classifier_dropout": 0.5},
        {"hidden_act": "relu"},
        {"use_cache": False},
        {"auto_map": {"AutoModel": "modeling_own.Model"}},
        {"layer_norm_eps": 1e-3},
        {"id2label": {"0": 1, "1": 2, "2": 3}, "label2id": {"1": 0, "2": 1, "3": 2}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_settings_that_are_followed(judge, tmp_path, changes):
    folder = copied(judge, tmp_path / "model")
    set_config(folder, **changes)
    found = load(folder, "classification")
    set_config(folder, drop=("auto_map", "id2label", "label2id"), num_labels=3)  # names that transformers 5 refuses
    assert torch.equal(answers(found), transformers_answers(folder, "classification"))


# --- what changes values and is not supported


REFUSED = {
    "is_decoder": True,
    "is_encoder_decoder": True,
    "add_cross_attention": True,
    "pruned_heads": {"0": [1]},
    "quantization_config": {"quant_method": "gptq", "bits": 4},
    "position_embedding_type": "relative_key_query",
    "per_layer_config": {"0": {"intermediate_size": 8}},
    "transformers_weights": "../other.safetensors",
    "hidden_act": "snake",
    "dtype": "float8_e4m3fn",
    "to_dict": 1,
    "attribute_map": {"hidden_size": "vocab_size"},
    "sub_configs": {},
}


@pytest.mark.parametrize("key", REFUSED)
def test_settings_that_are_refused_by_name(encoder, tmp_path, key):
    folder = copied(encoder, tmp_path / "model")
    set_config(folder, **{key: REFUSED[key]})
    message = refusal(folder)
    assert key in message or "activation 'snake'" in message


SENSELESS = [
    {"num_hidden_layers": 0},
    {"num_hidden_layers": 10**12},
    {"num_hidden_layers": 700},
    {"num_hidden_layers": "3"},
    {"hidden_size": -32},
    {"hidden_size": 33},
    {"hidden_size": 10**12},
    {"hidden_size": 32.5},
    {"num_attention_heads": 0},
    {"num_attention_heads": 5},
    {"intermediate_size": 10**15},
    {"vocab_size": 0},
    {"vocab_size": 10**30},
    {"type_vocab_size": 0},
    {"max_position_embeddings": 0},
    {"layer_norm_eps": 0},
    {"layer_norm_eps": "small"},
    {"hidden_dropout_prob": 7},
    {"pad_token_id": 10**6},
    {"pad_token_id": -1},
    {"num_labels": 10**12},
    {"architectures": "BertModel"},
    {"id2label": ["a", "b"]},
    {"id2label": {"one": "a"}},
    {"model_type": None},
    {"model_type": 3},
]


@pytest.mark.parametrize("changes", SENSELESS, ids=str)
def test_sizes_that_make_no_sense(encoder, tmp_path, changes):
    folder = copied(encoder, tmp_path / "model")
    set_config(folder, **changes)
    refusal(folder)


@pytest.mark.parametrize(
    "text", ["[]", "3", "[" * 100_000, '{"model_type": "bert", "layer_norm_eps": NaN}', "\xff", "", '{"a":"\\ud800"}']
)
def test_a_configuration_that_is_none(encoder, tmp_path, text):
    folder = copied(encoder, tmp_path / "model")
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    assert "config.json" in refusal(folder)


@pytest.mark.parametrize("pad", [None, 64, 65])
def test_roberta_counts_positions_from_the_padding_id(tmp_path, pad):
    folder = tiny(tmp_path / "model", "roberta")
    set_config(folder, pad_token_id=pad)
    assert "pad_token_id" in refusal(folder)


# --- heads


def test_a_head_of_another_task(tmp_path):
    import transformers

    folder = tiny(tmp_path / "model")
    transformers.AutoModelForMultipleChoice.from_pretrained(folder).save_pretrained(folder)
    assert "BertForMultipleChoice has a head for multiple choice" in refusal(folder, "classification", ["a", "b"])
    with pytest.raises(InputError, match="--task embedding"):
        declared_tasks(folder)
    assert declared_tasks(folder, "embedding") == ()
    assert torch.equal(answers(load(folder)), transformers_answers(folder))


def test_a_masked_language_model_is_an_encoder_and_its_new_head_is_untrained(tmp_path):
    import transformers

    folder = tiny(tmp_path / "model")
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder)
    model.save_pretrained(folder)
    assert torch.equal(answers(load(folder)), transformers_answers(folder))
    assert declared_tasks(folder) == ()
    assert not load(folder, "classification", ["a", "b"]).head_trained


def test_several_labels_at_once(judge, tmp_path):
    folder = copied(judge, tmp_path / "model")
    set_config(folder, problem_type="multi_label_classification")
    assert "asked is classification" in refusal(folder, "classification")
    assert torch.equal(answers(load(folder)), known_answers(judge))


@pytest.mark.parametrize(
    ("which", "problem", "words"),
    [
        ("judge", "regression", "regression with 3 outputs"),
        ("scorer", "single_label_classification", "needs 2 outputs or more"),
        ("judge", "ranking", "'ranking' is unknown"),
    ],
)
def test_a_problem_type_that_contradicts_the_outputs(request, tmp_path, which, problem, words):
    folder = copied(request.getfixturevalue(which), tmp_path / "model")
    set_config(folder, problem_type=problem)
    assert words in refusal(folder, "classification")
    with pytest.raises(InputError, match=words):
        declared_tasks(folder)


def test_a_classifier_asked_for_scores(judge):
    assert "has a head for classification, asked is regression" in refusal(judge, "regression")


@pytest.mark.parametrize(
    ("declared", "does"),
    [
        ({}, "puts Sigmoid on it"),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, "gives it as it is too"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, "puts Sigmoid on it"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, "gives it as it is too"),
    ],
    ids=["plain", "old identity", "sigmoid", "identity"],
)
def test_the_one_output_of_a_cross_encoder(scorer, tmp_path, declared, does):
    from sentence_transformers import CrossEncoder

    folder = copied(scorer, tmp_path / "model")
    set_config(folder, **declared)
    found = load(folder, "regression")
    assert declared_tasks(folder)[0].name == "regression"
    assert any(does in note for note in found.notes)
    pair = ("the film was great", "a good film")
    with torch.inference_mode():
        score = found.model(**found.tokenizer(*pair, return_tensors="pt"))[0].squeeze()
    expected = CrossEncoder(str(folder)).predict([pair], convert_to_tensor=True).squeeze()
    assert torch.allclose(torch.sigmoid(score) if "Sigmoid" in does else score, expected, atol=1e-5)


# --- names of outputs


def test_names_that_stand_in_label2id_alone(judge, tmp_path):
    folder = copied(judge, tmp_path / "model")
    set_config(folder, drop=("id2label",), label2id={"bad": 0, "so so": 1, "good": 2})
    assert load(folder, "classification").label_names == ("bad", "so so", "good")


def test_default_names_beside_true_ones(judge, tmp_path):
    folder = copied(judge, tmp_path / "model")
    names = {"0": "bad", "1": "so so", "2": "good"}
    default = {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}
    set_config(folder, id2label=names, label2id=default)
    assert load(folder, "classification").label_names == ("bad", "so so", "good")
    set_config(
        folder, id2label={str(i): name for name, i in default.items()}, label2id={v: int(k) for k, v in names.items()}
    )
    assert load(folder, "classification").label_names == ("bad", "so so", "good")


CONTRADICTIONS = {
    "swapped": ({"0": "a", "1": "b", "2": "c"}, {"a": 1, "b": 0, "c": 2}),
    "one name twice": ({"0": "a", "1": "a", "2": "c"}, {}),
    "one number twice": ({"0": "a", "1": "b", "2": "c"}, {"a": 0, "b": 0, "c": 2}),
    "a gap": ({"0": "a", "2": "b", "5": "c"}, {"a": 0, "b": 2, "c": 5}),
    "fewer": ({"0": "LABEL_0", "1": "LABEL_1"}, {"a": 0, "b": 1, "c": 2}),
    "no number": ({"0": "a", "1": "b", "2": "c"}, {"a": "x"}),
}


@pytest.mark.parametrize("kind", CONTRADICTIONS)
def test_names_of_outputs_that_contradict_each_other(judge, tmp_path, kind):
    folder = copied(judge, tmp_path / "model")
    by_number, by_name = CONTRADICTIONS[kind]
    set_config(folder, id2label=by_number, label2id=by_name)
    message = refusal(folder, "classification")
    assert "id2label" in message or "label2id" in message


def test_more_names_than_outputs(judge, tmp_path):
    folder = copied(judge, tmp_path / "model")
    names = [f"class {i}" for i in range(5)]
    set_config(folder, id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)})
    assert "classifier" in refusal(folder, "classification")


def test_what_is_written_is_what_was_read(judge):
    config = json.loads((judge / "config.json").read_text(encoding="utf-8"))
    found = load(judge, "classification").config.to_dict()
    assert {key: found[key] for key in config if key not in {"transformers_version", "id2label", "dtype"}} == {
        key: config[key] for key in config if key not in {"transformers_version", "id2label", "dtype"}
    }
