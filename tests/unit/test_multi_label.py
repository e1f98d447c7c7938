"""Multi-label classification: metrics against scikit-learn and by hand, every form of labels, what is refused, and losses."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score

from compiler.data import Split, describe
from compiler.data.label_sets import encode_sets
from compiler.data.table import Table
from compiler.evaluation.changes import changes
from compiler.pipeline.labels import aligned
from compiler.tasks import read_data, task_named
from compiler.tasks.multi_label import multi_label_loss
from compiler.tasks.noise import pseudo_values
from compiler.tasks.probes import bernoulli
from targets.errors import InputError

TASK = task_named("multi_label")


def drawn(seed=0, *, decimals=1, examples=50):
    """Logits with ties and labels; the fourth is on one example, the fifth on none and never given."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((examples, 5)) < 0.3).astype(np.int8)
    labels[:, 3:] = 0
    labels[4, 3] = 1
    logits = np.round(rng.normal(size=(examples, 5)) + 1.2 * labels - 0.6, decimals)
    logits[:, 4] = -1
    return logits.astype(np.float32), labels


def test_metrics_are_those_of_scikit_learn():
    logits, labels = drawn()
    predicted = logits > 0
    expected = [
        f1_score(labels, predicted, average="micro"),
        f1_score(labels, predicted, average="macro", zero_division=np.nan),
        average_precision_score(labels[:, :4], logits[:, :4], average="macro"),
    ]
    assert [metric.score(logits, labels) for metric in TASK.metrics] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("metric", TASK.metrics, ids=lambda metric: metric.name)
def test_values_are_those_of_leaving_each_example_out(metric):
    logits, labels = drawn(1)
    without = [metric.score(np.delete(logits, i, 0), np.delete(labels, i, 0)) for i in range(len(labels))]
    expected = pseudo_values(metric.score(logits, labels), np.array(without))
    np.testing.assert_allclose(metric.values(logits, labels), expected, rtol=1e-9, atol=1e-9)
    assert np.ptp(expected) > 0


def test_nothing_to_find_and_nothing_given_is_right():
    nothing, labels = np.full((3, 2), -1.0), np.zeros((3, 2), dtype=np.int8)
    assert [metric.score(nothing, labels) for metric in TASK.metrics[:2]] == [1, 1]
    assert [metric.score(-nothing, labels) for metric in TASK.metrics[:2]] == [0, 0]


def test_decisions_are_on_every_label_of_every_text():
    labels, names = np.array([[1, 0], [1, 1], [0, 0]], dtype=np.int8), ("x", "y")
    dense, network = (
        TASK.decisions(np.array(each)) for each in ([[1, -1], [1, 1], [-1, 1]], [[1, -1], [-1, 1], [-1, 1]])
    )
    found = changes(network, dense, TASK.decided(labels), names=names, tokens=np.array([3, 3, 5]))
    assert (found.decisions, found.flips) == (6, pytest.approx(1 / 6))
    assert [(group.name, group.count, group.drop) for group in found.classes] == [("x", 2, 0.5), ("y", 1, 0.0)]


# --- data

SETS = [[name for bit, name in enumerate(("warm", "cold", "late")) if i >> bit & 1] for i in range(64)]
TEXTS = [f"the train number {i} was on time" for i in range(64)]


def lines(path, sets=SETS, name="labels"):
    rows = [{"text": text, name: found} for text, found in zip(TEXTS, sets, strict=True)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def flags(path, *, header="text,warm,cold,late", values=("0", "1")):
    rows = [
        ",".join([text, *(values[name in found] for name in ("warm", "cold", "late"))])
        for text, found in zip(TEXTS, SETS, strict=True)
    ]
    path.write_text("\n".join([header, *rows]), encoding="utf-8")
    return str(path)


def sets_of(data):
    """The names of every text's labels."""
    splits = (data.train, data.validation, data.test)
    named = {}
    for split in splits:
        assert split.labels.dtype == np.int8
        for texts, row in zip(split.texts, split.labels, strict=True):
            named[texts[0]] = {name for name, there in zip(data.label_names, row, strict=True) if there}
    return [named[text] for text in TEXTS]


EXPECTED = [set(names) for names in SETS]


def test_lists_of_names(tmp_path):
    data = read_data(lines(tmp_path / "d.jsonl"))
    assert (data.task, data.label_column, data.label_names) == ("multi_label", "labels", ("cold", "late", "warm"))
    assert sets_of(data) == EXPECTED
    assert any("have no label" in note for note in data.notes)
    assert [row["name"] for row in describe(data)["classes"]] == ["cold", "late", "warm"]
    assert sum(row["train"] for row in describe(data)["classes"]) == data.train.labels.sum()


@pytest.mark.parametrize("values", [("0", "1"), ("False", "True"), ("0.0", "1.0")])
def test_columns_of_zeros_and_ones(tmp_path, values):
    data = read_data(flags(tmp_path / "d.csv", values=values))
    assert (data.task, data.text_columns, data.label_names) == ("multi_label", ("text",), ("warm", "cold", "late"))
    assert sets_of(data) == EXPECTED
    assert data.unused_columns == ()


def test_columns_that_the_user_names(tmp_path):
    source = flags(tmp_path / "d.csv", header="text,label,cold,late")
    assert read_data(source).task == "classification"
    data = read_data(source, label_column="late, cold")
    assert (data.task, data.label_names, data.unused_columns) == ("multi_label", ("late", "cold"), ("label",))
    assert read_data(source, task="multi_label").label_names == ("label", "cold", "late")
    with pytest.raises(InputError, match="no column 'hot'"):
        read_data(source, label_column="late,hot")


def test_columns_of_zeros_and_ones_beside_another_label_are_no_guess(tmp_path):
    path = tmp_path / "d.csv"
    kinds = ("news", "sport")
    rows = [f"{text},{i % 2},{i // 2 % 2},{kinds[i // 4 % 2]}" for i, text in enumerate(TEXTS)]
    path.write_text("\n".join(["text,warm,cold,kind", *rows]), encoding="utf-8")
    with pytest.raises(InputError, match="several columns that could be the label"):
        read_data(str(path))
    assert read_data(str(path), task="multi_label").label_names == ("warm", "cold")
    rows = [f"{text},{i % 2},0" for i, text in enumerate(TEXTS)]
    path.write_text("\n".join(["text,warm,deleted", *rows]), encoding="utf-8")
    assert read_data(str(path)).task == "classification"


@pytest.mark.parametrize("spelt", [json.dumps, repr])
def test_lists_that_are_spelt_as_text(tmp_path, spelt):
    path = tmp_path / "d.tsv"
    rows = ["text\tlabels", *(f"{text}\t{spelt(found)}" for text, found in zip(TEXTS, SETS, strict=True))]
    path.write_text("\n".join(rows), encoding="utf-8")
    assert sets_of(read_data(str(path))) == EXPECTED


def test_names_with_separators_need_the_task(tmp_path):
    path = tmp_path / "d.csv"
    rows = ["text,label", *(f"{text},{'|'.join(found)}" for text, found in zip(TEXTS, SETS, strict=True))]
    path.write_text("\n".join(rows), encoding="utf-8")
    data = read_data(str(path), task="multi_label")
    assert sets_of(data) == EXPECTED
    assert "labels are names separated by '|' in label" in data.notes
    assert sets_of(read_data(str(path), declared=("multi_label",))) == EXPECTED
    with pytest.raises(InputError, match="is empty"):
        read_data(str(path))


def test_numbers_of_named_classes():
    made = Table(source="d", columns={"labels": [(0, 2), (), (1,)]}, class_names={"labels": ("a", "b", "c")})
    labels, names = encode_sets({"train": made}, "labels")
    assert labels["train"].tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert names is made.class_names["labels"]


def test_lists_that_are_others(tmp_path):
    assert read_data(lines(tmp_path / "d.jsonl", name="keywords")).task == "embedding"
    assert read_data(lines(tmp_path / "one.jsonl", [[("a", "b")[i % 2]] for i in range(64)])).task == "classification"
    assert read_data(lines(tmp_path / "d.jsonl", name="keywords"), task="multi_label").label_column == "keywords"


def test_lists_beside_tokens_are_no_sets(tmp_path):
    path = tmp_path / "d.jsonl"
    rows = [{"text": t, "words": t.split(), "labels": [0] * 7} for t in TEXTS]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(InputError, match="token classification needs names"):
        read_data(str(path))


def refused(source, **options):
    with pytest.raises(InputError) as caught:
        read_data(source, **options)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def test_bad_input_is_refused_with_lines(tmp_path):
    path = tmp_path / "d.jsonl"
    assert "d.jsonl line 3: the label (labels) is empty" in refused(lines(path, [*SETS[:2], None, *SETS[3:]]))
    assert "d.jsonl line 3: the labels (labels) hold 'None'" in refused(
        lines(path, [*SETS[:2], [None, "warm"], *SETS[3:]]), task="multi_label"
    )
    assert "'Warm' (1 rows) differs from 'warm'" in refused(lines(path, [*SETS[:2], ["Warm"], *SETS[3:]]))
    assert "only 'warm'" in refused(lines(path, [["warm"][: i % 2] for i in range(64)]))
    assert "the same labels (labels): none" in refused(lines(path, [[]] * 64), task="multi_label")
    assert "the same labels (labels): 'cold', 'warm'" in refused(lines(path, [["warm", "cold"]] * 64))
    csv = flags(tmp_path / "d.csv", values=("0", "2"))
    assert "d.csv lines 3, 5, 7 and 29 more: 'warm' is '2', not 0 or 1" in refused(csv, label_column="warm,cold,late")
    assert "no label column" in refused(
        lines(path, [str(i) for i in range(64)], name="keyword"), task="multi_label", text_columns=["text"]
    )


def test_names_that_training_lacks_are_refused_by_name(tmp_path):
    lines(tmp_path / "train.jsonl")
    lines(tmp_path / "dev.jsonl", [*SETS[:5], ["warm", "new"], *SETS[6:]])
    message = refused(str(tmp_path))
    assert "dev.jsonl line 6" in message
    assert "'new'" in message


def test_a_test_file_without_columns_of_labels_is_not_used(tmp_path):
    flags(tmp_path / "train.csv")
    flags(tmp_path / "dev.csv")
    (tmp_path / "test.csv").write_text("\n".join(["text", *TEXTS]), encoding="utf-8")
    data = read_data(str(tmp_path))
    assert "test.csv has no labels and is not used" in data.notes
    (tmp_path / "dev.csv").write_text("\n".join(["text,warm", *(f"{text},1" for text in TEXTS)]), encoding="utf-8")
    assert "dev.csv lacks the column 'cold'" in refused(str(tmp_path))


def test_a_heads_names_give_the_order(tmp_path):
    data = read_data(lines(tmp_path / "d.jsonl"))
    moved = aligned(data, ("Warm", "other", "late", "cold"))
    assert moved.label_names == ("Warm", "other", "late", "cold")
    assert moved.train.labels.tolist() == [[row[2], 0, row[1], row[0]] for row in data.train.labels.tolist()]
    with pytest.raises(InputError, match="do not match"):
        aligned(data, ("warm", "late", "hot"))
    columns = read_data(flags(tmp_path / "d.csv"))
    with pytest.raises(InputError, match="do not match"):  # columns have an order, and no numbers
        aligned(columns, ("LABEL_0", "LABEL_1", "LABEL_2"))


# --- doubt, loss


def test_doubt_is_about_the_most_frequent_labels():
    rng = np.random.default_rng(0)
    labels = (rng.random((300, 3)) < [0.7, 0.2, 0.1]).astype(np.int8)
    split, names = Split(texts=(("a",),) * 300, labels=labels), ("x", "y", "z")
    good = labels - 0.5 + 0.3 * rng.normal(size=labels.shape)
    for metric in TASK.metrics:
        assert TASK.doubt(metric, good, split, names) is None
        assert "always giving 'x'" in TASK.doubt(metric, rng.normal(size=labels.shape), split, names)
    unlabelled = Split(texts=split.texts, labels=None)
    assert "gives no label to each" in TASK.doubt(TASK.metric(), np.full((300, 3), -1.0), unlabelled, names)
    assert TASK.doubt(TASK.metric(), good, unlabelled, names) is None
    reference = TASK.dense_reference(good, unlabelled)
    assert [metric.score(good, reference) for metric in TASK.metrics_of(labelled=False)] == [1, 1, 1]


def test_losses_are_least_at_their_targets():
    labels = torch.tensor([[1.0, 0.0]])
    teacher = torch.tensor([[2.0, -1.0]])
    assert multi_label_loss(torch.tensor([[3.0, -3.0]]), labels, None, 1.0) < 0.05
    for temperature in (1.0, 10.0):
        assert multi_label_loss(teacher, None, teacher, temperature) == pytest.approx(0, abs=1e-5)
        assert multi_label_loss(teacher + 0.5, None, teacher, temperature) > 0.01
    with pytest.raises(ValueError, match="neither"):
        multi_label_loss(teacher, None, None, 1.0)


def test_the_second_moment_of_a_probe_is_the_fisher_matrix():
    logits = torch.tensor([[0.5, -1.5]], requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    squares = []
    for _ in range(4000):
        (gradient,) = torch.autograd.grad(bernoulli(logits, generator), logits)
        squares.append(gradient.square())
    chances = logits.detach().sigmoid()
    torch.testing.assert_close(torch.stack(squares).mean(dim=0), chances * (1 - chances), atol=0.01, rtol=0.05)
