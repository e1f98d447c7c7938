"""Extractive question answering: SQuAD's metrics against its own script, the best span, windows, and data that it reads or refuses."""

import collections
import json
import re
import string

import numpy as np
import pytest
import torch

from compiler.data.splits import split_off
from compiler.data.text_data import Split
from compiler.tasks import read_data, task_named
from compiler.tasks.question_answering import stride_of
from compiler.tasks.spans import LONGEST, NULL, SCORE, best_spans, best_windows
from compiler.tasks.tokenising import unchanged
from targets.errors import InputError
from tests.tiny import WORDS, tiny_checkpoint

TASK = task_named("question_answering")
F1, EXACT = TASK.metrics


# --- metrics, against the official script of SQuAD 2.0 (evaluate-v2.0.py), transcribed


def official_normalise(s):
    def remove_articles(text):
        return re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", text)

    return " ".join(remove_articles("".join(ch for ch in s.lower() if ch not in set(string.punctuation))).split())


def official_tokens(s):
    return official_normalise(s).split() if s else []


def official_f1(gold, predicted):
    gold_tokens, tokens = official_tokens(gold), official_tokens(predicted)
    num_same = sum((collections.Counter(gold_tokens) & collections.Counter(tokens)).values())
    if len(gold_tokens) == 0 or len(tokens) == 0:
        return int(gold_tokens == tokens)
    if num_same == 0:
        return 0
    precision, recall = num_same / len(tokens), num_same / len(gold_tokens)
    return (2 * precision * recall) / (precision + recall)


def official_scores(golds, predicted):
    answers = [gold for gold in golds if official_normalise(gold)] or [""]
    exact = max(int(official_normalise(gold) == official_normalise(predicted)) for gold in answers)
    return exact, max(official_f1(gold, predicted) for gold in answers)


CONTEXT = "The Café-bar, an old one; it's in the U.S.A. (near A to Z)!  The the  end — 3,000 years."


def spans_and_golds(count, *, unanswerable):
    rng = np.random.default_rng(0)

    def cut():
        a, b = sorted(rng.integers(0, len(CONTEXT), 2))
        return int(a), int(b) + 1

    answers, reference = np.zeros((count, 4), dtype=np.float32), np.empty(count, dtype=object)
    for row in range(count):
        answers[row] = (*cut(), *rng.normal(size=2))
        texts = [] if unanswerable and row % 3 == 0 else [CONTEXT[slice(*cut())] for _ in range(1 + row % 3)]
        reference[row] = {"context": CONTEXT, "answers": [*texts, *(["The"] if row % 5 == 0 else [])]}
    return answers, reference


@pytest.mark.parametrize("unanswerable", [False, True])
def test_metrics_are_those_of_the_official_script(unanswerable):
    answers, reference = spans_and_golds(400, unanswerable=unanswerable)
    expected = []
    for row, each in zip(answers, reference, strict=True):
        nothing = unanswerable and row[NULL] > row[SCORE]
        expected.append(official_scores(each["answers"], "" if nothing else CONTEXT[int(row[0]) : int(row[1])]))
    exact, f1 = np.array(expected, dtype=np.float64).T
    assert 0.05 < f1.mean() < 0.95
    assert 0 < exact.mean() < 0.9
    np.testing.assert_allclose(F1.values(answers, reference), f1, rtol=1e-12)
    np.testing.assert_array_equal(EXACT.values(answers, reference), exact)
    assert F1.score(answers, reference) == pytest.approx(f1.mean())
    assert EXACT.score(answers, reference) == pytest.approx(exact.mean())


# --- spans


def test_the_best_span_is_that_of_all_that_are_allowed():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(20, 50, 2)).astype(np.float32)
    offsets = np.full((20, 50, 2), -1)
    for line in range(20):
        known = np.arange(6, 50 - line % 7)
        offsets[line, known] = np.stack([10 * known, 10 * known + 8], axis=1)
    logits[:, :6] += 50  # a question or padding never wins
    logits[:, 49] += 50 * (np.arange(20) % 7 > 0)[:, None]
    found = best_spans(logits, offsets)
    for line in range(20):
        known = np.flatnonzero(offsets[line, :, 0] >= 0)
        pairs = [(i, j) for i in known for j in known if i <= j < i + LONGEST]
        i, j = max(pairs, key=lambda pair: logits[line, pair[0], 0] + logits[line, pair[1], 1])
        np.testing.assert_array_equal(found[line, :2], [10 * i, 10 * j + 8])
        np.testing.assert_allclose(found[line, 2:], [logits[line, i, 0] + logits[line, j, 1], logits[line, 0].sum()])


def test_a_span_has_thirty_tokens_at_most():
    logits = np.zeros((1, 60, 2), dtype=np.float32)
    logits[0, 5, 0] = logits[0, 5 + LONGEST, 1] = 9
    logits[0, 4 + LONGEST, 1] = 3
    offsets = np.repeat(np.arange(60)[None, :, None], 2, axis=2)
    assert best_spans(logits, offsets)[0, :3].tolist() == [5, 4 + LONGEST, 12]


def test_logits_that_are_not_finite_are_no_answer():
    logits = np.zeros((3, 5, 2), dtype=np.float32)
    logits[1, 3, 0] = np.nan
    spans = best_spans(logits, np.ones((3, 5, 2), dtype=np.int64))
    assert np.isnan(spans[:, SCORE]).tolist() == [False, True, False]
    assert np.isnan(best_windows(np.array([0, 0, 1]), spans)[:, SCORE]).tolist() == [True, False]


def test_windows_without_context_answer_nothing():
    (row,) = best_spans(np.ones((1, 4, 2), dtype=np.float32), np.full((1, 4, 2), -1))
    assert row[:2].tolist() == [0, 0]
    assert row[SCORE] < row[NULL]


def test_the_best_window_answers_and_no_answer_is_the_lowest():
    found = np.array([[1, 2, 3, 9], [3, 4, 5, 7], [5, 6, 1, 2], [7, 8, 4, 8]], dtype=np.float32)
    rows = np.array([1, 0, 0, 1])
    assert best_windows(rows, found).tolist() == [[3, 4, 5, 2], [7, 8, 4, 8]]
    parts = TASK.joined([rows[:1], rows[1:]], [found[:1], found[1:]])
    np.testing.assert_array_equal(parts, best_windows(rows, found))


# --- windows


@pytest.fixture(scope="module", params=["bert", "roberta"])
def checkpoint(request, tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("qa"), request.param, task="question_answering")


def words(count, seed=0):
    return [str(word) for word in np.random.default_rng(seed).choice(WORDS, count)]


def labelled(*pairs):
    """Questions, contexts and the words of answers, as a split."""
    texts, labels = [], np.empty(len(pairs), dtype=object)
    for row, (question, context, answer) in enumerate(pairs):
        texts.append((question, context))
        labels[row] = {"text": [answer] if answer else [], "answer_start": [context.find(answer)] if answer else []}
    return Split(texts=tuple(texts), labels=labels)


def lines_of(batches):
    """(example, ids, offsets, label) of every line."""
    for rows, (batch, extras) in zip(batches.rows, batches.each(), strict=True):
        for line, row in enumerate(rows):
            ids = batch["input_ids"][line][batch["attention_mask"][line].bool()].tolist()
            yield int(row), ids, extras["offsets"][line], extras["labels"][line].tolist()


def test_labels_are_where_the_answer_stands_in_a_window_and_the_first_token_elsewhere(checkpoint):
    long = words(150)
    answer = " ".join(long[70:73])
    context = " ".join(long)
    assert context.count(answer) == 1
    split = labelled(
        ("the film is", context, answer), ("it was", "a great city by the river", "city by"), ("is it", "a b", "")
    )
    batches = TASK.encode(checkpoint, split, max_tokens=32, batch_size=4)
    tokenizer, hits, shared = checkpoint.tokenizer, 0, []
    covered = {row: set() for row in range(3)}
    for row, ids, offsets, (start, end) in lines_of(batches):
        assert len(ids) <= 32
        assert len(offsets) == len(ids)
        of_context = offsets[offsets[:, 0] >= 0]
        covered[row] |= {tuple(each) for each in of_context.tolist()}
        shared += [tuple(each) for each in of_context.tolist()] if row == 0 else []
        if start:
            text = split.texts[row][1][offsets[start, 0] : offsets[end, 1]]
            assert text == split.labels[row]["text"][0] == tokenizer.decode(ids[start : end + 1])
            hits += row == 0
        else:
            assert end == 0
            inside = split.labels[row]["answer_start"]
            assert not inside or not (
                of_context[0, 0] <= inside[0] and of_context[-1, 1] >= inside[0] + len(split.labels[row]["text"][0])
            )
    assert hits >= 1
    assert len(batches) == 3
    assert len(covered[0]) == 150
    assert len(shared) > 150 + stride_of(32)


def test_answers_come_back_to_their_examples_whatever_the_window(checkpoint):
    """A network that marks the words of the answer answers every question right, through batches of any order."""
    contexts = [" ".join(words(20 * (i + 1), seed=i)) for i in range(6)]
    marks = ["film", "north", "river", "stone", "glass", "buy"]
    split = labelled(
        *[(mark, f"{context} {mark}ed {context}", f"{mark}ed") for mark, context in zip(marks, contexts, strict=True)]
    )
    batches = TASK.encode(checkpoint, split, max_tokens=32, batch_size=3)
    parts = []
    for inputs, extras in batches.each():
        logits = torch.zeros(*inputs["input_ids"].shape, 2)
        for line, (start, end) in enumerate(extras["labels"].tolist()):
            logits[line, start, 0] = logits[line, end, 1] = 5
        parts.append(TASK.answers(logits, inputs, extras))
    found = TASK.joined(batches.rows, parts)
    assert F1.score(found, TASK.reference(split)) == EXACT.score(found, TASK.reference(split)) == 1
    assert F1.values(found[::-1], TASK.reference(split)).mean() < 0.2


def test_likeness_is_to_the_dense_models_spans():
    split = Split(texts=(("q", "one two three"), ("q", "four five")), labels=None)
    dense = np.array([[0, 7, 2, 1], [0, 4, 1, 2]], dtype=np.float32)
    reference = TASK.dense_reference(dense, split)
    assert [each["answers"] for each in reference] == [["one two"], []]
    assert F1.score(dense, reference) == 1
    other = np.array([[4, 13, 2, 1], [0, 4, 3, 2]], dtype=np.float32)
    np.testing.assert_allclose(F1.values(other, reference), [0.5, 0])
    assert TASK.metric(labelled=False).name == "f1_with_dense"


# --- learning


def test_loss_is_the_mean_of_both_sides_and_padding_takes_no_part():
    generator = torch.Generator().manual_seed(0)
    outputs = tuple(torch.randn(3, 7, generator=generator, requires_grad=True) for _ in range(2))
    teacher = tuple(torch.randn(3, 7, generator=generator) for _ in range(2))
    mask = torch.ones(3, 7, dtype=torch.int64)
    mask[1, 4:] = 0
    labels = torch.tensor([[1, 2], [0, 3], [5, 6]])
    loss = TASK.loss(outputs, mask, labels, None, 1.0)
    sides = [
        torch.stack([-logits[i, : mask[i].sum()].log_softmax(0)[labels[i, side]] for i in range(3)]).mean()
        for side, logits in enumerate(outputs)
    ]
    assert loss.item() == pytest.approx((sum(sides) / 2).item(), rel=1e-5)
    both = TASK.loss(outputs, mask, labels, teacher, 2.0)
    assert both.item() > loss.item()
    both.backward()
    assert all(output.grad[1, 4:].abs().max() == 0 and output.grad[0].abs().min() > 0 for output in outputs)
    assert TASK.loss(teacher, mask, None, teacher, 2.0).item() == pytest.approx(0, abs=1e-6)


def test_the_probes_second_moment_is_the_fisher_matrix_of_both_sides():
    logits = torch.tensor([[0.5, -1.0, 0.3, 2.0]])
    mask = torch.tensor([[1, 1, 1, 0]])
    generator, moment = torch.Generator().manual_seed(0), torch.zeros(8, 8)
    for _ in range(4000):
        sides = tuple(logits.clone().requires_grad_() for _ in range(2))
        probe = TASK.probe(sides, {"attention_mask": mask}, {}, generator)
        covector = torch.cat([*torch.autograd.grad(probe, sides)], dim=1)
        moment += covector.T @ covector / 4000
    p = torch.cat([logits[0, :3].softmax(0), torch.zeros(1)])
    fisher = torch.diag(p) - p[:, None] * p
    torch.testing.assert_close(moment, torch.block_diag(fisher, fisher), atol=0.03, rtol=0)


def test_doubt_of_a_model_that_reads_nothing():
    rng = np.random.default_rng(0)
    starts = rng.integers(3, 20, 60)
    split = labelled(
        *[(f"q{i}", " ".join(words(30, seed=i)), " ".join(words(30, seed=i)[s : s + 2])) for i, s in enumerate(starts)]
    )
    right = np.array([[a["answer_start"][0], a["answer_start"][0] + len(a["text"][0]), 1, 0] for a in split.labels])
    first = np.array([[0, len(" ".join(context.split()[:2])), 1, 0] for _, context in split.texts])
    assert TASK.doubt(F1, right, split, ()) is None
    assert "at chance" in TASK.doubt(F1, first, split, ())
    none = np.tile([0.0, 1.0, 0.0, 5.0], (60, 1))
    unlabelled = Split(texts=split.texts, labels=None)
    assert "'no answer' to each of 60" in TASK.doubt(F1, none, unlabelled, ())
    assert TASK.doubt(F1, first, unlabelled, ()) is None


# --- data


def article(i, *, context="the film was great and the food was warm", answers=None):
    answers = [{"text": "great", "answer_start": 13}] if answers is None else answers
    asked = {"id": str(i), "question": f"how was film {i}", "answers": answers}
    return {
        "title": f"t{i}",
        "paragraphs": [{"context": f"{context} {i}", "qas": [asked, {**asked, "question": f"is it {i}"}]}],
    }


def squad(articles):
    return json.dumps({"version": "1.1", "data": articles})


def rows(**changed):
    return [
        {
            "question": f"how was film {i}",
            "context": f"the film was great and the food was warm {i}",
            "answers": {"text": ["great"], "answer_start": [13]},
        }
        | changed
        for i in range(12)
    ]


def read(tmp_path, name, content, **options):
    (tmp_path / name).write_text(content, encoding="utf-8")
    return read_data(str(tmp_path / name), **options)


def refusal(tmp_path, name, content, **options):
    with pytest.raises(InputError) as error:
        read(tmp_path, name, content, **options)
    assert len(str(error.value).splitlines()) <= 3
    return str(error.value)


def test_every_form_of_answers_is_read_alike(tmp_path):
    lists = [row | {"answers": [{"text": "great", "answer_start": 13}]} for row in rows()]
    flat = [{**row, "answers": "great", "answer_start": 13} for row in rows()]
    table = "question,context,answer_text,answer_start\n" + "".join(
        f"{r['question']},{r['context']},great,13\n" for r in rows()
    )
    found = [
        read(tmp_path, "nested.jsonl", "\n".join(map(json.dumps, rows()))),
        read(tmp_path, "lists.json", json.dumps(lists)),
        read(tmp_path, "flat.jsonl", "\n".join(map(json.dumps, flat))),
        read(tmp_path, "table.csv", table),
    ]
    assert {data.task for data in found} == {"question_answering"}
    assert len({data.sha256 for data in found}) == 1
    assert found[0].train.labels[0] == {"text": ["great"], "answer_start": [13]}
    assert found[0].text_columns == ("question", "context")


def test_squad_json_is_split_between_articles(tmp_path):
    data = read(tmp_path, "squad.json", squad([article(i) for i in range(10)]))
    assert data.task == "question_answering"
    assert len(data.train) + len(data.validation) + len(data.test) == 20
    contexts = [{context for _, context in split.texts} for split in (data.train, data.validation, data.test)]
    assert not contexts[0] & contexts[1]
    assert not contexts[0] & contexts[2]
    assert not contexts[1] & contexts[2]
    assert all(len(split) % 2 == 0 for split in (data.train, data.validation, data.test))
    lines = read(tmp_path, "lines.jsonl", "\n".join(json.dumps(article(i)) for i in range(10)))
    assert lines.sha256 == data.sha256


def test_one_article_is_split_between_its_contexts(tmp_path):
    one = [{"title": "t", "paragraphs": [each for i in range(10) for each in article(i)["paragraphs"]]}]
    data = read(tmp_path, "squad.json", squad(one))
    assert any("contexts are kept whole" in note for note in data.notes)
    _, held = split_off(data.train, fraction=0.3, seed=0)
    assert len(held) % 2 == 0


def test_questions_without_answers(tmp_path):
    impossible = article(3, answers=[])
    impossible["paragraphs"][0]["qas"][0] |= {
        "is_impossible": True,
        "plausible_answers": [{"text": "film", "answer_start": 4}],
    }
    data = read(
        tmp_path, "squad.json", squad([*(article(i) for i in range(3)), impossible, *(article(i) for i in range(4, 7))])
    )
    assert any("2 of 14 questions have no answer" in note for note in data.notes)
    assert sum(not each["text"] for split in (data.train, data.validation, data.test) for each in split.labels) == 2


def test_an_answer_off_its_place_is_moved_where_it_occurs_once(tmp_path):
    articles = [article(i, answers=[{"text": "great", "answer_start": 12 if i == 4 else 13}]) for i in range(8)]
    data = read(tmp_path, "squad.json", squad(articles))
    assert any("2 answer(s) were not at their character" in note for note in data.notes)
    assert all(each["answer_start"] == [13] for each in data.train.labels)


def test_one_split_without_answers(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.json").write_text(squad([article(i) for i in range(8)]))
    (folder / "test.json").write_text(squad([article(i, answers=[]) for i in range(3)]))
    data = read_data(str(folder))
    assert any("test.json has no answers and is not used" in note for note in data.notes)
    (folder / "dev.json").write_text(squad([article(i, answers=[]) for i in range(3)]))
    with pytest.raises(InputError, match=r"dev\.json has no answers"):
        read_data(str(folder))


REFUSED = {
    "nowhere": (
        "a.jsonl",
        "\n".join(json.dumps(row) for row in [*rows(), *rows(answers={"text": ["awful"], "answer_start": [13]})[:2]]),
        ["lines 13, 14", "'awful' is not at character 13", "nowhere", "2 of 14 rows"],
    ),
    "twice": (
        "a.json",
        json.dumps(rows(answers={"text": ["was"], "answer_start": [0]})),
        ["several times", "'the' is"],
    ),
    "no form": (
        "a.json",
        json.dumps([*rows(), *rows(answers="great")[:1]]),
        ["row 13", "not a text and its first character"],
    ),
    "uneven": ("a.json", json.dumps([*rows(), *rows(answers={"text": ["great"], "answer_start": []})[:1]]), ["row 13"]),
    "no context": ("a.json", json.dumps(rows(context="")), ["the text (context) is empty"]),
    "no context in SQuAD": (
        "a.json",
        squad([article(0), {"paragraphs": [{"qas": []}]}]),
        ["article 2, paragraph 1 has no context"],
    ),
    "other shape": (
        "a.json",
        squad([article(0), {"paragraphs": {"context": "c"}}]),
        ["article 2: paragraphs is", "not a list"],
    ),
    "no column": (
        "a.json",
        json.dumps([{"q": "who", "answers": {"text": ["b"], "answer_start": [0]}}] * 4),
        ["--text-columns"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path, case):
    name, content, words_of_it = REFUSED[case]
    said = refusal(tmp_path, name, content)
    assert all(each in said for each in words_of_it), said


def test_columns_that_the_user_names(tmp_path):
    renamed = "\n".join(json.dumps({"q": r["question"], "para": r["context"], "span": r["answers"]}) for r in rows())
    data = read(tmp_path, "a.jsonl", renamed, text_columns=["q", "para"])
    assert data.text_columns == ("q", "para")
    assert data.label_column == "span"
    assert "no column 'nope'" in refusal(tmp_path, "a.jsonl", renamed, text_columns=["q", "nope"])


def test_answers_are_no_labels_of_another_task(tmp_path):
    assert "--task question_answering" in refusal(tmp_path, "a.json", json.dumps(rows()), task="classification")


def test_a_models_head_says_what_unlabelled_columns_are(tmp_path):
    content = "question,context\n" + "".join(f"{r['question']},{r['context']}\n" for r in rows())
    data = read(tmp_path, "a.csv", content, declared=["question_answering"])
    assert data.task == "question_answering"
    assert data.train.labels is None
    assert data.train.groups is not None
    said = refusal(tmp_path, "b.csv", "text\n" + "a b c\nb c d\n" * 9, declared=["question_answering"])
    assert "contexts" in said


def test_questions_that_leave_no_room_are_refused(checkpoint):
    long = " ".join(words(30))
    with pytest.raises(InputError, match=r"2 question\(s\) leave no room for a context: .* has 30 tokens"):
        TASK.check(checkpoint, labelled((long, "a b", ""), (long, "a", ""), ("is it", "a", "a")), max_tokens=32)
    most = 32 - stride_of(32) - checkpoint.tokenizer.num_special_tokens_to_add(pair=True) - 1
    longest = labelled((" ".join(words(most)), " ".join(words(90)), ""))
    with unchanged(checkpoint.tokenizer) as backend:
        backend.enable_padding(length=64)  # as tokenizer.json of many sentence encoders says
        TASK.check(checkpoint, longest, max_tokens=32)
    assert TASK.encode(checkpoint, longest, max_tokens=32).tokens > 90
    with pytest.raises(InputError, match="single texts"):
        TASK.check(checkpoint, Split(texts=(("alone",),), labels=None), max_tokens=32)
