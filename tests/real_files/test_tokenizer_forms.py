"""Tokenizers as people have them beside a model: the tokens of transformers, healed by a stated rule, or refused."""

import json
import os

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from targets.errors import InputError
from tests.model_folder import (
    TEXTS,
    answers,
    copied,
    load,
    set_config,
    set_json,
    set_tokenizer,
    tiny,
    transformers_answers,
)
from tests.tiny import VOCABULARY, WORDS


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("models") / "encoder")


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("models") / "roberta", "roberta")


def refusal(folder, task="embedding", names=None):
    with pytest.raises(InputError) as caught:
        load(folder, task, names)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def rewrite(folder, change):
    """Change tokenizer.json as a tree of JSON."""
    path = folder / "tokenizer.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    change(tree)
    path.write_text(json.dumps(tree), encoding="utf-8")


# --- padding


def test_no_pad_token_where_the_configuration_names_its_id(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    set_tokenizer(folder, drop=("pad_token",))
    found = load(folder)
    assert (found.tokenizer.pad_token, found.tokenizer.pad_token_id) == ("[PAD]", 0)
    assert any("no pad token: [PAD]" in note for note in found.notes)
    assert torch.equal(answers(found), answers(load(encoder)))


def test_no_pad_token_anywhere(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    set_tokenizer(folder, drop=("pad_token",))
    set_config(folder, pad_token_id=None)
    found = load(folder)
    assert found.tokenizer.pad_token_id == found.tokenizer.sep_token_id
    batch = found.tokenizer(TEXTS[:2], padding=True, return_tensors="pt")
    with torch.inference_mode():
        together = found.model(**batch)[-1][1]
        alone = found.model(**found.tokenizer(TEXTS[1], return_tensors="pt"))[-1][0]
    assert torch.allclose(together, alone, atol=1e-5)


def test_no_token_that_could_fill_a_batch(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    set_tokenizer(folder, drop=("pad_token", "sep_token", "unk_token", "cls_token"))
    set_config(folder, pad_token_id=None)
    assert "no pad token" in refusal(folder)


def test_another_pad_token_than_the_configurations(encoder, roberta, tmp_path):
    folder = copied(encoder, tmp_path / "bert")
    set_config(folder, pad_token_id=3)
    assert any("config.json says 3" in note for note in load(folder).notes)
    folder = copied(roberta, tmp_path / "roberta")
    set_json(folder / "tokenizer_config.json", pad_token=WORDS[0])
    assert "counts positions" in refusal(folder)


def test_padding_on_the_left_does_not_move_positions(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    set_tokenizer(folder, padding_side="left")
    found = load(folder)
    batch = found.tokenizer(TEXTS[:2], padding=True, return_tensors="pt")
    with torch.inference_mode():
        together = found.model(**batch)[-1][1]
        alone = found.model(**found.tokenizer(TEXTS[1], return_tensors="pt"))[-1][0]
    assert torch.allclose(together, alone, atol=1e-5)
    assert any("pads on the left" in note for note in found.notes)


def test_truncation_on_the_left_is_followed(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    set_tokenizer(folder, truncation_side="left")
    text = " ".join(WORDS[:30])
    ids = load(folder).tokenizer(text, truncation=True, max_length=8)["input_ids"]
    assert ids == AutoTokenizer.from_pretrained(folder)(text, truncation=True, max_length=8)["input_ids"]
    assert ids != load(encoder).tokenizer(text, truncation=True, max_length=8)["input_ids"]


# --- forms


def test_a_vocabulary_alone(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    (folder / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]), encoding="utf-8"
    )
    found = load(folder)
    assert found.tokenizer("the film")["input_ids"] == AutoTokenizer.from_pretrained(folder)("the film")["input_ids"]
    assert torch.equal(answers(found), transformers_answers(folder))


def test_bytes_without_an_unknown_token(roberta, tmp_path):
    folder = copied(roberta, tmp_path / "model")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(["<s>", "<pad>", "</s>", *alphabet[:190]])}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    named = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "eos_token": "</s>"}
    names = ["input_ids", "attention_mask"]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=names, model_max_length=64, **named)
    tokenizer.save_pretrained(folder)
    assert torch.equal(answers(load(folder)), transformers_answers(folder))


def test_words_without_an_unknown_token(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    rewrite(folder, lambda tree: tree["model"].update({"unk_token": "[NONE]"}))
    set_tokenizer(folder, drop=("unk_token",))
    assert "tokenizer" in refusal(folder)


def test_the_tokenizer_of_another_model(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    rewrite(
        folder, lambda tree: tree["model"]["vocab"].update({f"w{i}": len(WORDS) + 4 + i for i in range(VOCABULARY)})
    )
    assert f"the model embeds {VOCABULARY}" in refusal(folder)


def test_a_vocabulary_with_a_gap(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    rewrite(folder, lambda tree: tree["model"]["vocab"].update(film=VOCABULARY))
    assert f"'film' the id {VOCABULARY}" in refusal(folder)


def test_fewer_tokens_than_rows_are_fine(encoder):
    found = load(encoder)
    assert len(found.tokenizer) < found.architecture.vocabulary


def test_token_types_that_the_model_has_not(encoder, tmp_path):
    distilbert = tiny(tmp_path / "distilbert", "distilbert")
    expected = answers(load(distilbert))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (distilbert / name).write_bytes((encoder / name).read_bytes())
    found = load(distilbert)
    assert found.input_names == ("input_ids", "attention_mask")
    assert torch.equal(answers(found), expected)
    assert any("token types are left out" in note for note in found.notes)


@pytest.mark.parametrize("names", [[], ["input_ids"], ["token_type_ids", "attention_mask"]], ids=str)
def test_a_tokenizer_that_does_not_give_what_the_model_reads(encoder, tmp_path, names):
    folder = copied(encoder, tmp_path / "model")
    set_tokenizer(folder, model_input_names=names)
    found = load(folder)
    assert {"input_ids", "attention_mask"} <= set(found.tokenizer("the film"))
    assert torch.equal(answers(found), answers(load(encoder)))


def test_more_token_types_than_the_model_has(tmp_path):
    folder = tiny(tmp_path / "model", labels=2, type_vocab_size=1)
    assert "the token type 1, config.json says type_vocab_size 1" in refusal(folder, "classification", ["a", "b"])


def test_no_special_tokens_around_a_text(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    rewrite(folder, lambda tree: tree.update(post_processor=None))
    found = load(folder)
    assert torch.equal(answers(found), transformers_answers(folder))
    assert any("does not put its [CLS] before texts" in note for note in found.notes)


def test_a_chat_template_plays_no_part(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.", encoding="utf-8")
    set_tokenizer(folder, chat_template="{{ boom() }}")
    assert torch.equal(answers(load(folder)), answers(load(encoder)))


@pytest.mark.parametrize("limit", [None, 1e30, 10**30, 512])
def test_a_limit_beyond_the_positions(encoder, tmp_path, limit):
    folder = copied(encoder, tmp_path / "model")
    set_tokenizer(folder, model_max_length=limit)
    assert load(folder).max_tokens == 66


@pytest.mark.parametrize("limit", [0, -5, 1, "64", "many"])
def test_a_limit_that_makes_no_sense(encoder, tmp_path, limit):
    folder = copied(encoder, tmp_path / "model")
    set_tokenizer(folder, model_max_length=limit)
    assert "model_max_length" in refusal(folder)


def test_padding_and_truncation_that_stand_in_tokenizer_json_stay_there(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.enable_truncation(16)
    backend.enable_padding(length=16)
    backend.save(str(folder / "tokenizer.json"))
    found = load(folder).tokenizer.backend_tokenizer
    assert (found.truncation, found.padding) == (backend.truncation, backend.padding)


# --- damage


DAMAGED = [
    ("tokenizer.json", "{"),
    ("tokenizer.json", "[]"),
    ("tokenizer.json", '{"version": "1.0", "model": {"type": "WordLevel", "vocab": {}}}'),
    ("tokenizer.json", "[" * 100_000),
    ("tokenizer_config.json", "[" * 100_000),
    ("tokenizer_config.json", "[]"),
    ("tokenizer_config.json", '{"padding_side": "middle"}'),
    ("tokenizer_config.json", '{"padding_side": 3}'),
    ("special_tokens_map.json", "3"),
    ("added_tokens.json", "[1]"),
]


@pytest.mark.parametrize("case", range(len(DAMAGED)))
def test_a_damaged_file(encoder, tmp_path, case):
    name, text = DAMAGED[case]
    folder = copied(encoder, tmp_path / "model")
    (folder / name).write_text(text, encoding="utf-8")
    assert "token" in refusal(folder)


@pytest.mark.parametrize("key", ["init_inputs", "vocab", "merges", "tokenizer_object"])
def test_a_setting_that_would_open_any_file(encoder, tmp_path, key):
    folder = copied(encoder, tmp_path / "model")
    set_json(folder / "tokenizer_config.json", **{key: ["/etc/passwd"]})
    assert f"{key} is no setting" in refusal(folder)


def test_a_pipe_as_tokenizer(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    os.mkfifo(folder / "tokenizer.json")
    assert "no regular file" in refusal(folder)


def test_an_enormous_tokenizer(encoder, tmp_path):
    folder = copied(encoder, tmp_path / "model")
    with (folder / "tokenizer.json").open("r+b") as file:
        file.truncate(2**30)
    assert "at most" in refusal(folder)
