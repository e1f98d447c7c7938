"""Masked and causal language models: blocks, targets, figures against their definitions, memory, losses."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from compiler.data import Split
from compiler.evaluation import Quality, make_yardstick
from compiler.families import load_checkpoint
from compiler.pipeline.calibration_texts import deal
from compiler.slicing import SubnetRunner, build_skeleton
from compiler.spaces import make_space
from compiler.supernet import TrainingOptions, polish
from compiler.supernet.examples import Examples
from compiler.tasks import IGNORED, SCALES, read_data, task_named
from compiler.tasks.blocks import documents, in_blocks
from compiler.tasks.metric import DIVERGENCE, PERPLEXITY, SHARE
from compiler.tasks.words import fisher_of_words, likeliest, loss, sums
from targets.errors import InputError
from tests.tiny import WORDS, cut, save_tiny, tiny_checkpoint, tiny_tokenizer

CAUSAL, MASKED = task_named("causal_lm"), task_named("masked_lm")


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def llama(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    save_tiny(folder, "llama", task="causal_lm", tie_word_embeddings=request.param)
    return load_checkpoint(str(folder), task="causal_lm")


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("bert"), task="masked_lm")


def long_texts(count=12, words=70, seed=0):
    rng = np.random.default_rng(seed)
    return Split(texts=tuple((" ".join(rng.choice(WORDS, words)),) for _ in range(count)), labels=None)


def first_half(checkpoint):
    a = checkpoint.architecture
    heads, units = (range(max(1, a.heads // 2)), range(a.ffn_units // 2))
    return cut(a, [heads] * a.layers, [units] * a.layers)


# Texts


def test_articles_begin_at_their_titles_and_sections_do_not():
    lines = [f"{mark}{i}" for i in range(3) for mark in (" = Title = ", " = = Part = = ", "words of ")]
    lines = [" = A = ", "one", " = = B = = ", "two", " = C = ", "three", " = D of E = "]
    assert documents(lines)[0] == (" = A = \none\n = = B = = \ntwo", " = C = \nthree", " = D of E = ")


def test_text_without_titles_is_read_as_passages_of_whole_lines():
    lines = [f"line {i} of a text" for i in range(100)]
    found, note = documents(lines)
    assert "\n".join(found).split("\n") == lines
    assert 10 <= len(found) <= 25
    assert f"100 lines are read as {len(found)} passages" in note


def test_blocks_are_full_end_between_words_and_lose_nothing():
    tokenizer, split = tiny_tokenizer("bert"), long_texts(3, words=50)
    blocks = in_blocks(tokenizer, split, max_tokens=22)
    assert np.bincount(blocks.groups).tolist() == [3, 3, 3]
    assert [len(tokenizer(text)["input_ids"]) for (text,) in blocks.texts] == [22, 22, 12] * 3
    for document, (text,) in enumerate(split.texts):
        assert " ".join(t for (t,), group in zip(blocks.texts, blocks.groups, strict=True) if group == document) == text
    assert tokenizer.backend_tokenizer.truncation is None


def test_lines_of_a_file_are_running_text_and_rows_of_a_table_are_texts(tmp_path):
    lines = [
        line for i in range(40) for line in (f" = {WORDS[i]} train = ", "", "the film was great", "and so on it was")
    ]
    (tmp_path / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    data = read_data(str(tmp_path / "a.txt"), task="causal_lm")
    assert len(data.train) + len(data.validation) + len(data.test) == 40
    assert all(text.startswith(" = ") and text.count("\n") == 2 for (text,) in data.train.texts)
    assert any("40 articles, told by their titles" in note for note in data.notes)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines), encoding="utf-8")
    again = read_data(str(tmp_path / "a.jsonl"), task="causal_lm")
    assert again.train.texts == data.train.texts
    (tmp_path / "a.csv").write_text("text,label\n" + "\n".join(f"a b {i},{i % 2}" for i in range(30)), encoding="utf-8")
    data = read_data(str(tmp_path / "a.csv"), task="masked_lm")
    assert len(data.train) + len(data.validation) + len(data.test) == 30
    assert data.train.labels is None
    assert "columns not used: label" in data.notes
    with pytest.raises(InputError, match="needs no labels"):
        read_data(str(tmp_path / "a.csv"), task="masked_lm", label_column="label")


def test_pairs_are_refused_by_name(tmp_path):
    (tmp_path / "a.csv").write_text("question,answer\n" + "who is it,it is me\n" * 9, encoding="utf-8")
    with pytest.raises(InputError, match="reads one text at a time, and question and answer are two"):
        read_data(str(tmp_path / "a.csv"), task="causal_lm")


def test_texts_without_a_word_to_predict_are_left_out_and_nothing_else_is_refused(llama):
    split = Split(texts=(("film",), ("the film was",)), labels=None)
    llama.tokenizer.backend_tokenizer.post_processor = None
    assert CAUSAL.prepared(split, llama, max_tokens=16).texts == (("the film was",),)
    with pytest.raises(InputError, match="no text has a word to predict"):
        CAUSAL.prepared(split.take(np.array([0])), llama, max_tokens=16)


def test_texts_that_calibrate_and_texts_that_judge_are_of_different_documents(llama, tmp_path):
    lines = [line for i, (text,) in enumerate(long_texts(60).texts) for line in (f" = {WORDS[i]} train = ", text)]
    (tmp_path / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    data = read_data(str(tmp_path / "a.txt"), task="causal_lm")
    splits = {
        role: CAUSAL.prepared(getattr(data, role), llama, max_tokens=24) for role in ("train", "validation", "test")
    }
    found, (note,) = deal(replace(data, **splits), llama, max_tokens=24, seed=0)
    moved = set(splits["train"].texts) - set(found.train.texts)
    assert moved < set(found.validation.texts)
    documents_of = dict(zip(splits["train"].texts, splits["train"].groups, strict=True))
    assert {documents_of[text] for text in moved}.isdisjoint({documents_of[text] for text in found.train.texts})
    assert f"{len(found.train):,} texts calibrate" in note


# Targets


def test_the_next_token_is_the_target_but_for_those_the_tokenizer_adds():
    tokenizer = tiny_tokenizer("bert")
    encoding = tokenizer("the film was great")._encodings[0]
    labels = CAUSAL.targets(encoding, "the film was great")
    assert labels.tolist() == [*encoding.ids[1:-1], IGNORED, IGNORED]


def test_hidden_tokens_depend_on_the_text_alone(bert):
    split = long_texts(6, words=25)
    one = MASKED.encode(bert, split, max_tokens=32, batch_size=2)
    other = MASKED.encode(bert, split.take(np.array([3, 1])), max_tokens=32)
    row = next((b, list(rows).index(3)) for b, rows in enumerate(one.rows) if 3 in rows)
    there = list(other.rows[0]).index(0)
    theirs = other.extras[0]["token_labels"][there]
    assert torch.equal(one.extras[row[0]]["token_labels"][row[1]], theirs)
    hidden = theirs != IGNORED
    assert hidden.sum() == round(0.15 * 25)
    assert (other.batches[0]["input_ids"][there][hidden] == bert.tokenizer.mask_token_id).all()
    assert (bert.tokenizer.mask_token_id == other.batches[0]["input_ids"]).sum() == (
        other.extras[0]["token_labels"] != IGNORED
    ).sum()


def test_every_epoch_of_a_training_hides_other_words_and_the_seed_says_which(bert):
    texts = long_texts(6, words=25)
    plain = bert.tokenizer([text for (text,) in texts.texts], padding="max_length", max_length=28, return_tensors="pt")
    rows = np.arange(6)

    def ids_and_labels(seed, epoch, which=rows):
        batch = Examples(bert, texts, max_tokens=32, seed=seed).batch(which, epoch)
        assert set(batch) == {*bert.input_names, "labels"}
        return batch["input_ids"], batch["labels"]

    drawn = [ids_and_labels(0, 0), ids_and_labels(0, 1), ids_and_labels(1, 1)]
    for ids, labels in drawn:
        hidden = labels != IGNORED
        assert (hidden.sum(dim=1) == round(0.15 * 25)).all()
        assert (ids[hidden] == bert.tokenizer.mask_token_id).all()
        assert torch.equal(torch.where(hidden, labels, ids), plain["input_ids"])
        assert not (hidden & (plain["input_ids"] == bert.tokenizer.cls_token_id)).any()
    for (_, one), (_, other) in itertools.combinations(drawn, 2):
        assert ((one != IGNORED) != (other != IGNORED)).any(dim=1).sum() >= 5
    for again, first in zip(ids_and_labels(0, 1), drawn[1], strict=True):
        assert torch.equal(again, first)
    for alone, first in zip(ids_and_labels(0, 1, rows[4:]), drawn[1], strict=True):
        assert torch.equal(alone, first[4:]), "a line's words are hidden whatever is beside it"


def test_causal_models_have_nothing_to_draw(llama):
    examples = Examples(llama, long_texts(3, words=20), max_tokens=32)
    one, other = (examples.batch(np.arange(3), epoch) for epoch in (0, 1))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_tokenizer_without_a_mask_token_is_refused(bert):
    with pytest.raises(InputError, match="hides words behind a mask token, and the tokenizer has none"):
        MASKED.prepared(long_texts(2), replace(bert, tokenizer=tiny_tokenizer("bert")), max_tokens=32)


# Figures


def drawn(seed=0, lines=3, tokens=7, words=200):
    generator = torch.Generator().manual_seed(seed)
    ours, dense = torch.randn(2, lines, tokens, words, generator=generator) * 2
    labels = torch.randint(0, words, (lines, tokens), generator=generator)
    labels[0, 3:] = IGNORED
    return ours, dense, labels


def test_sums_are_those_of_the_definitions(monkeypatch):
    ours, dense, labels = drawn()
    monkeypatch.setattr("compiler.tasks.words.VALUES_AT_ONCE", 400)
    found = sums(ours, labels, likeliest(dense, labels))
    for line in range(3):
        places = labels[line] != IGNORED
        mine, theirs, right = ours[line][places].double(), dense[line][places].double(), labels[line][places]
        assert found.loss[line] == pytest.approx(
            float(functional.cross_entropy(mine, right, reduction="sum")), rel=1e-5
        )
        assert found.tokens[line] == len(right)
        assert found.hits[line] == (mine.argmax(1) == right).sum()
        assert found.agreements[line] == (mine.argmax(1) == theirs.argmax(1)).sum()
        whole = functional.kl_div(mine.log_softmax(1), theirs.log_softmax(1), reduction="sum", log_target=True)
        assert 0.5 * whole < found.divergence[line] < whole, "a lower bound"


def test_the_divergence_is_exact_where_all_words_are_kept():
    ours, dense, labels = drawn(words=60)
    found = sums(ours, labels, likeliest(dense, labels))
    places = labels != IGNORED
    whole = functional.kl_div(
        ours[places].log_softmax(1), dense[places].log_softmax(1), reduction="sum", log_target=True
    )
    assert float(found.divergence.sum()) == pytest.approx(float(whole), rel=1e-4)
    assert float(sums(dense, labels, likeliest(dense, labels)).divergence.abs().max()) < 1e-5


@pytest.mark.parametrize("name", ["perplexity", "accuracy", "agreement", "kl"])
def test_values_give_the_jackknifes_standard_error(name):
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 60, 300)
    answers = np.stack([tokens * (3 + rng.normal(size=300)), tokens, *(tokens * rng.random((3, 300)))], axis=1)
    metric = CAUSAL.metric(name)
    score, none = metric.score(answers, np.zeros(300)), np.zeros(300)
    without = [metric.scale.error(metric.score(np.delete(answers, i, axis=0), none)) for i in range(300)]
    jackknife = math.sqrt(299 / 300 * np.square(without - np.mean(without)).sum())
    values = metric.values(answers, none)
    assert values.std(ddof=1) / math.sqrt(300) == pytest.approx(jackknife, rel=0.02)
    sign = -1 if not metric.scale.higher_is_better else 1
    wanted = score if metric.scale.higher_is_better else metric.scale.error(score)
    assert sign * values.mean() == pytest.approx(wanted)


def test_what_a_perplexity_keeps_is_the_other_ones_share_of_it():
    assert PERPLEXITY.kept(25.0, 20.0) == pytest.approx(0.8)
    assert PERPLEXITY.keeps(25.0, 0.8, 20.0)
    assert not PERPLEXITY.keeps(25.1, 0.8, 20.0)
    assert PERPLEXITY.least(0.8, 20.0) == pytest.approx(25.0)
    assert PERPLEXITY.deviation(20.0, 0.01) == pytest.approx(0.2, rel=1e-3)
    assert DIVERGENCE.kept(0.1, 0.0) == pytest.approx(math.exp(-0.1))
    assert DIVERGENCE.keeps(0.1, 0.9, 0.0)
    assert not DIVERGENCE.keeps(0.11, 0.9, 0.0)
    assert SHARE.kept(0.8, 1.0) == 0.8
    assert SHARE.kept(0.8, 0.0) is None
    assert PERPLEXITY.kept(0.5, 20.0) is None
    for scale in SCALES.values():
        assert scale.figure(scale.error(1.5)) == pytest.approx(1.5)


def test_a_yardstick_scores_a_network_as_the_textbook_does(llama):
    split = CAUSAL.prepared(long_texts(), llama, max_tokens=24)
    stick = make_yardstick(llama, split, CAUSAL.metric(), max_tokens=24, dense=lambda b: np.zeros((len(b), 5)))
    run, subnet = SubnetRunner(llama.model, llama.architecture), first_half(llama)
    dense = stick.quality(lambda inputs: llama.model(**inputs)[-1])
    ours = stick.quality(lambda inputs: run(subnet, inputs)[-1])
    losses = []
    for (text,) in split.texts:
        ids = torch.tensor([llama.tokenizer(text, truncation=True, max_length=24)["input_ids"]])
        with torch.inference_mode():
            chances = run(subnet, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})[-1][0].log_softmax(-1)
        special = llama.tokenizer(text, truncation=True, max_length=24, return_special_tokens_mask=True)
        losses += [
            -float(chances[i, ids[0, i + 1]])
            for i in range(ids.shape[1] - 1)
            if not special["special_tokens_mask"][i + 1]
        ]
    assert ours.metric == pytest.approx(math.exp(np.mean(losses)), rel=1e-4)
    assert (dense.others["agreement"], dense.others["kl"]) == (1.0, pytest.approx(0.0, abs=1e-5))
    assert ours.others["kl"] > 0.01
    assert not ours.scale.higher_is_better
    assert Quality.from_json(ours.to_json()) == ours
    first, second = list(stick.looks(lambda inputs: run(subnet, inputs)[-1]))
    assert second == ours
    assert first.metric != ours.metric


# Memory


def test_a_batch_holds_as_many_lines_as_logits_fit(llama, monkeypatch):
    monkeypatch.setattr("compiler.tasks.language.VALUES_OF_BATCH", 3 * 24 * len(llama.tokenizer))
    split = CAUSAL.prepared(long_texts(), llama, max_tokens=24)
    batches = CAUSAL.encode(llama, split, max_tokens=24)
    assert max(len(rows) for rows in batches.rows) == 3
    assert CAUSAL.at_most(1000, max_tokens=128) == 125


# Learning


def test_the_loss_is_that_of_the_definitions_and_so_is_its_gradient():
    ours, teacher, labels = drawn(seed=1)
    mask = torch.ones_like(labels)
    mask[0, 5:] = 0
    places = mask.bool()

    def plain(logits):
        softened = [functional.log_softmax(each[places] / 2.0, dim=-1) for each in (logits, teacher)]
        return functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED
        ) + 4.0 * functional.kl_div(*softened, reduction="batchmean", log_target=True)

    gradients = []
    for function in (plain, lambda logits: loss(logits, mask, labels, teacher, 2.0)):
        logits = ours.clone().requires_grad_()
        value = function(logits)
        gradients.append((float(value.detach()), torch.autograd.grad(value, logits)[0]))
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-5)
    torch.testing.assert_close(gradients[0][1], gradients[1][1], rtol=1e-4, atol=1e-7)
    with pytest.raises(ValueError, match="neither"):
        loss(ours, mask, None, None, 2.0)


def test_covectors_of_words_have_the_fisher_matrix_as_their_second_moment():
    logits = torch.tensor([[[0.3, -1.0, 0.8]]]).repeat(2, 4000, 1).requires_grad_()
    labels = torch.zeros(2, 4000, dtype=torch.int64)
    labels[1] = IGNORED
    probe = fisher_of_words(logits, labels, torch.Generator().manual_seed(0))
    covectors, nothing = torch.autograd.grad(probe, logits)[0]
    chances = logits.detach()[0, 0].softmax(-1)
    moment = covectors.T @ covectors / len(covectors)
    assert not nothing.any()
    torch.testing.assert_close(moment, torch.diag(chances) - chances[:, None] * chances, atol=0.02, rtol=0.1)


def test_a_polish_brings_a_network_nearer_and_keeps_tied_weights_one(llama, tmp_path):
    split, subnet = CAUSAL.prepared(long_texts(8), llama, max_tokens=24), first_half(llama)
    dense = {name: p.detach() for name, p in llama.model.backbone.named_parameters()}
    run = SubnetRunner(llama.model, llama.architecture)
    start = {name: p.detach() for name, p in run.parameters(subnet).items()}
    (found,) = polish(
        llama, dense, [subnet], [start], split=split, max_tokens=24, work_dir=tmp_path, progress=lambda *_: None,
        options=TrainingOptions(epochs=2, batch_size=8, bf16=False, learning_rate=1e-2, temperature=1.0, dropout=0.0),
    )  # fmt: skip
    assert set(found) == set(start)
    assert ("lm_head.weight" in found) is not llama.config.tie_word_embeddings
    stick = make_yardstick(llama, split, CAUSAL.metric("kl"), max_tokens=24, dense=lambda b: np.zeros((len(b), 5)))
    before, after = (stick.quality(lambda inputs, p=p: run(subnet, inputs, p)[-1]) for p in (start, found))
    assert after.metric < 0.9 * before.metric
    assert not torch.equal(found["model.embed_tokens.weight"], start["model.embed_tokens.weight"])


# Loading


def test_tied_tables_are_counted_once_and_skeletons_stay_tied(llama):
    backbone = llama.model.backbone
    counted = sum(parameter.numel() for parameter in backbone.parameters())
    assert llama.architecture.parameters(llama.architecture.shape) == counted
    skeleton = build_skeleton(llama.model, llama.architecture, llama.architecture.shape).backbone
    assert (skeleton.lm_head.weight is skeleton.model.embed_tokens.weight) is llama.config.tie_word_embeddings


@pytest.mark.parametrize("model_type", ["roberta", "xlm-roberta", "distilbert", "mpnet", "modernbert", "electra"])
def test_heads_of_masked_models_are_those_of_transformers(model_type, tmp_path):
    from transformers import AutoModelForMaskedLM

    save_tiny(tmp_path, model_type, task="masked_lm")
    ours = load_checkpoint(str(tmp_path), task="masked_lm")
    theirs = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    ids = torch.randint(5, 60, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    with torch.inference_mode():
        torch.testing.assert_close(ours.model(ids, mask)[0], theirs(input_ids=ids, attention_mask=mask).logits)


def test_heads_that_are_not_there_are_refused(tmp_path, llama):
    save_tiny(tmp_path / "encoder", "bert")
    with pytest.raises(InputError, match="BertModel has no head for masked language modelling"):
        load_checkpoint(str(tmp_path / "encoder"), task="masked_lm")
    with pytest.raises(InputError, match="LlamaForCausalLM has no head for masked"):
        load_checkpoint(str(llama.folder), task="masked_lm")
    save_tiny(tmp_path / "masked", "bert", task="masked_lm")
    with pytest.raises(InputError, match="BertForMaskedLM has no head for causal"):
        load_checkpoint(str(tmp_path / "masked"), task="causal_lm")


def test_an_encoder_is_no_causal_model_whatever_its_class_says(tmp_path):
    save_tiny(tmp_path, "roberta", task="causal_lm")
    with pytest.raises(InputError, match="tokens of a roberta see those after them"):
        load_checkpoint(str(tmp_path), task="causal_lm")


def test_width_is_refused_for_a_head_that_reads_the_stream_elsewhere(bert):
    with pytest.raises(InputError, match="space 'width' is not there for models with this head"):
        make_space("width", bert.architecture)
