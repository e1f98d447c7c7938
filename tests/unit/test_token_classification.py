"""Tags of words: files of them, entities by seqeval's definition, and what a network reads and learns."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from compiler.data import Split
from compiler.data.description import describe
from compiler.evaluation import make_yardstick
from compiler.families import load_checkpoint
from compiler.pipeline.labels import aligned
from compiler.supernet.examples import Examples
from compiler.tasks import IGNORED, read_data, task_named
from compiler.tasks.entities import Scheme
from compiler.tasks.noise import pseudo_values
from compiler.tasks.tagged import matrix
from targets.errors import InputError
from tests.tiny import save_tiny, tiny_tokenizer

CASES = json.loads((Path(__file__).parent.parent / "fixtures" / "seqeval.json").read_text(encoding="utf-8"))
TASK = task_named("token_classification")
NAMES = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
SENTENCES = [
    (["the", "teacher", "Good", "is", "in", "river", "city"], ["O", "B-PER", "I-PER", "O", "O", "B-LOC", "I-LOC"]),
    (["water", "is", "warm"], ["O", "O", "O"]),
    (["doctor", "of", "market"], ["B-PER", "O", "B-LOC"]),
] * 4


@dataclass
class Reader:
    tokenizer: object
    input_names: tuple = ("input_ids", "attention_mask")
    prompt: str = ""


@pytest.fixture(scope="module")
def reader():
    return Reader(tiny_tokenizer("distilbert"))


def ids(sentences, names):
    return matrix([[names.index(tag) for tag in tags] for tags in sentences])


def labelled(sentences=SENTENCES):
    labels = np.empty(len(sentences), dtype=object)
    labels[:] = [[NAMES.index(tag) for tag in tags] for _, tags in sentences]
    return Split(texts=tuple((" ".join(words),) for words, _ in sentences), labels=labels)


def conll(sentences=SENTENCES, *, separator="\t", between="\n"):
    return between.join(
        "".join(f"{word}{separator}{tag}\n" for word, tag in zip(*each, strict=True)) for each in sentences
    )


def refused(path, **options):
    with pytest.raises(InputError) as caught:
        read_data(str(path), **options)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


# --- metrics


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["names"][-1])
def test_entities_are_those_of_seqeval(case):
    true, predicted = (ids(case[side], case["names"]) for side in ("true", "predicted"))
    rows, _ = Scheme.of(case["names"]).entities(true)
    assert np.bincount(rows, minlength=len(true)).tolist() == case["entities"]
    for metric in TASK.metrics:
        assert TASK.bound(metric, case["names"]).score(predicted, true) == pytest.approx(case[metric.name]), metric.name


@pytest.mark.parametrize("metric", TASK.metrics, ids=lambda metric: metric.name)
def test_a_sentences_part_in_a_metric_is_its_pseudo_value(metric):
    bound, case = TASK.bound(metric, NAMES), labelled()
    true = TASK.reference(case)
    predicted = np.where(np.random.default_rng(0).random(true.shape) < 0.3, 1, true) * (true >= 0) - (true < 0)
    without = [bound.score(np.delete(predicted, i, 0), np.delete(true, i, 0)) for i in range(len(true))]
    expected = pseudo_values(bound.score(predicted, true), np.array(without))
    np.testing.assert_allclose(bound.values(predicted, true), expected)
    assert 0 < bound.score(predicted, true) < 1


def test_l_and_u_are_e_and_s_and_a_tag_without_a_mark_reads_as_i():
    bilou, bioes = ("O", "B-X", "I-X", "L-X", "U-X"), ("O", "B-X", "I-X", "E-X", "S-X")
    tags = np.random.default_rng(0).integers(0, 5, (20, 9))
    for ours, theirs in zip(Scheme.of(bilou).entities(tags), Scheme.of(bioes).entities(tags), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(Scheme.of(("O", "ORG", "PER")).entities(np.array([[1, 1, 2, 0, 2]]))[0]) == 3


def test_a_metric_without_the_names_of_tags_says_nothing():
    with pytest.raises(ValueError, match="names"):
        TASK.metrics[0].score(np.zeros((2, 2)), np.zeros((2, 2), dtype=int))


# --- reading


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.conll", conll()),
        ("a.txt", conll(separator=" ")),
        ("a.tsv", conll(between="\t\n")),
        ("a.iob", "-DOCSTART- -X- O\n\n# a comment\n" + conll(separator=" _ ", between=" \n\n# id 1\n")),
        ("a.bio", "".join(
            "".join(f"{i}\t{w}\t{t}\n" for i, (w, t) in enumerate(zip(*s, strict=True), 1)) + "\n" for s in SENTENCES
        )),
        ("a.jsonl", "".join(json.dumps({"id": 1, "tokens": w, "ner_tags": t}) + "\n" for w, t in SENTENCES)),
        ("a.json", json.dumps([{"words": w, "labels": t} for w, t in SENTENCES])),
    ],
)  # fmt: skip
def test_every_form_holds_the_same_sentences(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    data = read_data(str(tmp_path / name))
    assert (data.task, data.label_names) == ("token_classification", NAMES)
    expected = {" ".join(words): [NAMES.index(tag) for tag in tags] for words, tags in SENTENCES}
    for split in (data.train, data.validation, data.test):
        assert [expected[text] for (text,) in split.texts] == split.labels.tolist()
    counts = {each["name"]: sum(v for k, v in each.items() if k != "name") for each in describe(data)["classes"]}
    assert counts == {"O": 28, "B-LOC": 8, "I-LOC": 4, "B-PER": 8, "I-PER": 4}


def test_numbers_are_tags_by_the_names_of_a_class_label(tmp_path):
    names = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
    feature = {"feature": {"names": list(names), "_type": "ClassLabel"}, "_type": "Sequence"}
    rows = [{"tokens": words, "ner_tags": [names.index(tag) for tag in tags]} for words, tags in SENTENCES]
    table = pa.Table.from_pylist(rows).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": {"ner_tags": feature}}})}
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    data = read_data(str(tmp_path / "a.parquet"))
    assert (data.label_names, data.numbered) == (names, True)
    turned = aligned(data, NAMES)
    assert [[NAMES[i] for i in tags] for tags in turned.train.labels] == [
        [names[i] for i in t] for t in data.train.labels
    ]
    assert turned.sha256 == data.sha256
    with pytest.raises(InputError, match="do not match"):
        aligned(data, ("O", "B-ORG", "I-ORG"))
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "numbers the tags" in refused(tmp_path / "b.jsonl")


def test_tags_that_break_bio_are_repaired_and_counted(tmp_path):
    broken = [*SENTENCES, (["the", "river", "doctor"], ["O", "I-LOC", "I-PER"])]
    (tmp_path / "a.conll").write_text(conll(broken))
    data = read_data(str(tmp_path / "a.conll"))
    (note,) = [note for note in data.notes if "do not follow" in note]
    assert note.startswith("2 tags")
    assert "line 65:" in note
    held = {
        text: tags
        for s in (data.train, data.validation, data.test)
        for (text,), tags in zip(s.texts, s.labels, strict=True)
    }
    assert held["the river doctor"] == [0, NAMES.index("B-LOC"), NAMES.index("B-PER")]


def test_iob1_breaks_nothing(tmp_path):
    tags = [["O", "I-PER", "B-PER", "O"], ["I-LOC", "I-LOC", "O", "O"], ["O", "O", "O", "I-PER"]] * 3
    (tmp_path / "a.conll").write_text(conll([(["a", "b", "c", "d"], each) for each in tags]))
    data = read_data(str(tmp_path / "a.conll"))
    assert not any("do not follow" in note for note in data.notes)
    held = [tags for split in (data.train, data.validation, data.test) for tags in split.labels]
    assert held.count([0, data.label_names.index("I-PER"), data.label_names.index("B-PER"), 0]) == 3


def test_empty_sentences_and_words_are_left_out_and_spaces_in_words_stay(tmp_path):
    rows = [{"tokens": w, "tags": t} for w, t in SENTENCES]
    rows += [{"tokens": [], "tags": []}, {"tokens": ["10 000", " ", "city"], "tags": ["O", "O", "B-LOC"]}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = read_data(str(tmp_path / "a.jsonl"))
    texts = [text for split in (data.train, data.validation, data.test) for (text,) in split.texts]
    assert "10\N{NO-BREAK SPACE}000 city" in texts
    assert len(texts) == len(SENTENCES) + 1
    assert any("line 13" in note and "left out" in note for note in data.notes)
    assert any("line 14" in note and "left out" in note for note in data.notes)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.conll", conll() + "\nword\n", "line 65 has 1 fields"),
        ("a.conll", "word\nword\n", "no words with a tag"),
        ("a.conll", conll([(["a", "b"], ["O", "O"])] * 4), "nothing to learn"),
        ("a.conll", conll([(["a", "b"], ["PER-B", "O"])] * 4), "Write it first: B-PER"),
        ("a.conllu", conll(), "treebank"),
        ("a.jsonl", '{"tokens": ["a", "b"], "ner_tags": ["O"]}\n' * 4, "line 1, 2, 3 and 1 more: 2 words (tokens) and 1 tags"),
        ("a.jsonl", '{"tokens": ["a", "b"], "ner_tags": ["O", "B-X"]}\n' * 3 + '{"tokens": ["a"], "ner_tags": [null]}\n', "line 4"),
        ("a.jsonl", '{"tokens": ["a", "b"], "ner_tags": ["O", "B-X"]}\n' * 3 + '{"tokens": "ab", "ner_tags": []}\n', "line 4"),
        ("a.jsonl", '{"tokens": [], "ner_tags": []}\n' * 3 + '{"tokens": [" "], "ner_tags": ["O"]}\n', "No row"),
        ("a.jsonl", '{"text": "a b", "ner_tags": ["O", "B-X"]}\n' * 4, "token classification"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_its_line(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    assert words.replace("line 1,", "lines 1,") in refused(tmp_path / name)


def test_a_task_that_the_data_are_not_of_is_refused(tmp_path):
    (tmp_path / "a.conll").write_text(conll())
    (tmp_path / "b.csv").write_text("text,label\n" + "a b c,x\nd e f,y\n" * 9)
    assert "token classification" in refused(tmp_path / "a.conll", task="classification")
    assert "no lists of words" in refused(tmp_path / "b.csv", task="token_classification")


def test_labels_of_words_and_of_texts_are_two_tasks(tmp_path):
    rows = [
        {"text": " ".join(w), "tokens": w, "slots": 1, "tags": t, "intent": i % 2} for i, (w, t) in enumerate(SENTENCES)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "fits token_classification" in refused(tmp_path / "a.jsonl")
    assert read_data(str(tmp_path / "a.jsonl"), task="token_classification").label_column == "tags"
    assert read_data(str(tmp_path / "a.jsonl"), label_column="intent").task == "classification"


def test_texts_and_words_alone_need_a_model_that_tags(tmp_path):
    (tmp_path / "a.txt").write_text("the river is warm\n" * 9)
    (tmp_path / "b.jsonl").write_text('{"tokens": ["the", "river"]}\n' * 9)
    assert "trained to tag" in refused(tmp_path / "a.txt", task="token_classification")
    for name in ("a.txt", "b.jsonl"):
        data = read_data(str(tmp_path / name), task="token_classification", declared=["token_classification"])
        assert (data.task, data.train.labels) == ("token_classification", None)


def test_a_head_without_names_of_tags_is_refused():
    assert TASK.serves({"id2label": {"0": "O", "1": "B-X"}}, "config.json")
    for settings in ({}, {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}):
        with pytest.raises(InputError, match="have no names"):
            TASK.serves(settings, "config.json")


# --- encoding


def test_a_words_first_token_carries_its_label_and_its_answer(reader):
    split = labelled([(["good,", "bad"], ["B-PER", "O"]), *SENTENCES[:2]])
    batches = TASK.encode(reader, split, max_tokens=32, batch_size=2)
    found = {}
    for rows, (inputs, extras) in zip(batches.rows, batches.each(), strict=True):
        judged = torch.nn.functional.one_hot(torch.arange(inputs["input_ids"].shape[1]) % 5, 5).float()
        answers = TASK.answers(judged.expand(len(rows), -1, -1), inputs, extras)
        assert answers.shape == (len(rows), 7)
        found |= {int(row): (answers[i], extras["token_labels"][i].tolist()) for i, row in enumerate(rows)}
    answers, labels = found[0]
    assert labels[:6] == [IGNORED, NAMES.index("B-PER"), IGNORED, 0, IGNORED, IGNORED]  # [CLS] good , bad [SEP]
    assert answers.tolist() == [1, 3, -1, -1, -1, -1, -1]
    assert found[1][0].tolist() == [1, 2, 3, 4, 0, 1, 2]


def test_words_beyond_the_limit_are_missed_and_counted(reader):
    split = labelled(SENTENCES[:3])
    batches = TASK.encode(reader, split, max_tokens=5)
    ((inputs, extras),) = batches.each()
    answers = TASK.joined(batches.rows, [TASK.answers(torch.ones(3, 5, 5), inputs, extras)])
    assert answers[0].tolist() == [0, 0, 0, -1, -1, -1, -1]
    (note,) = TASK.encoding_notes(reader, {"validation": split, "test": labelled(SENTENCES[1:2])}, max_tokens=5)
    assert note.startswith("4 of 13 words of validation")
    perfect, recall = np.where(answers < 0, -1, TASK.reference(split)), TASK.bound(TASK.metric("entity_recall"), NAMES)
    assert recall.score(perfect, TASK.reference(split)) == 3 / 4


def test_answers_that_are_not_finite_stay_so(reader):
    ((inputs, extras),) = TASK.encode(reader, labelled(SENTENCES[:1]), max_tokens=32).each()
    logits = torch.zeros(1, inputs["input_ids"].shape[1], 5)
    logits[0, 2, 4] = torch.nan
    assert np.isnan(TASK.answers(logits, inputs, extras)).tolist() == [[False, True] + [False] * 5]


def test_a_tokenizer_without_offsets_is_refused(reader, monkeypatch):
    @dataclass
    class Blind:
        ids: list
        offsets: list

    blind = [Blind([2, 5, 3], [(0, 0)] * 3)] * len(SENTENCES)
    monkeypatch.setattr("compiler.tasks.token_classification.tokenised", lambda *_, **__: blind)
    with pytest.raises(InputError, match="offsets"):
        TASK.encode(reader, labelled(), max_tokens=32)


# --- learning


def test_the_loss_is_of_first_tokens_and_real_ones_and_the_probe_of_first_ones():
    torch.manual_seed(0)
    logits, teacher = torch.randn(2, 4, 3, requires_grad=True), torch.randn(2, 4, 3)
    mask, labels = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]), torch.full((2, 4), IGNORED)
    assert TASK.loss((logits,), mask, labels, None, 1.0).item() == 0
    labels[0, 1] = 2
    loss = TASK.loss((logits,), mask, labels, None, 1.0)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits[0, 1:2], labels[0, 1:2]))
    (gradient,) = torch.autograd.grad(TASK.loss((logits,), mask, None, (teacher,), 2.0), logits)
    assert (gradient.abs().sum(-1) > 0).tolist() == mask.bool().tolist()
    extras = {"first_tokens": (np.array([1, 3]), np.array([1, -1]))}
    probe = TASK.probe((logits,), {}, extras, torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(probe, logits)
    assert (gradient.abs().sum(-1) > 0).nonzero().tolist() == [[0, 1], [0, 3], [1, 1]]
    with pytest.raises(ValueError, match="teacher"):
        TASK.loss((logits,), mask, None, None, 1.0)


def doubt(predicted, split):
    return TASK.doubt(TASK.metric(), predicted.astype(np.float32), split, NAMES)


def test_a_model_at_chance_is_told_from_one_that_works():
    split = labelled([SENTENCES[i % 3] for i in np.random.default_rng(0).integers(0, 3, 60)])
    true = TASK.reference(split)
    rng = np.random.default_rng(1)
    assert doubt(true, split) is None
    assert doubt(np.where((rng.random(true.shape) < 0.3) & (true >= 0), 0, true), split) is None
    assert "tags each of" in doubt(np.where(true < 0, -1, 0), split)
    assert "at chance" in doubt(np.where(true < 0, -1, rng.integers(0, 5, true.shape)), split)
    swapped = np.array([0, 3, 4, 1, 2])
    told = doubt(np.where(true < 0, -1, swapped[true]), split)
    assert "1.000 if renamed" in told
    assert told.endswith("--labels B-LOC=B-PER,I-LOC=I-PER,B-PER=B-LOC,I-PER=I-LOC")


def test_without_labels_one_tag_for_all_is_doubted():
    split = replace(labelled(), labels=None)
    true = TASK.reference(labelled())
    assert doubt(true, split) is None
    assert "'O' to each of 52 words" in doubt(np.where(true < 0, -1, 0), split)


def test_a_tagger_learns_the_tags_of_a_batch(tmp_path):
    save_tiny(tmp_path / "encoder")
    checkpoint = load_checkpoint(str(tmp_path / "encoder"), task=TASK.name, label_names=NAMES)
    split = labelled(SENTENCES[:3])
    batch = Examples(checkpoint, split, max_tokens=32).batch(np.arange(3))
    labels = batch.pop("labels")
    optimizer = torch.optim.AdamW(checkpoint.model.parameters(), lr=3e-3)
    for _ in range(60):
        loss = TASK.loss(checkpoint.model(**batch), batch["attention_mask"], labels, None, 1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    test = make_yardstick(checkpoint, split, TASK.metric(), max_tokens=32, dense=lambda _: np.zeros(0))
    assert test.quality(lambda inputs: TASK.judged(checkpoint.model(**inputs))).metric > 0.9
