"""Labels of data held against the names of a trained head: matched, mapped by the user, or refused with both sets."""

import json

import pandas as pd
import pytest

from compiler.pipeline import Options
from compiler.pipeline.labels import aligned, head_names
from compiler.pipeline.subject import load_subject
from compiler.tasks import encode, read_data, task_named
from targets.errors import InputError
from tests.cli import call, texts
from tests.tiny import save_tiny

CLASSES = task_named("classification")
SENTIMENT = ("positive", "negative", "neutral")
NLI = ("entailment", "neutral", "contradiction")
LINES = texts(60)


def data_of(tmp_path, labels):
    """A data set in which text i has labels[i % n]; names by text, too."""
    names = [labels[i % len(labels)] for i in range(60)]
    pd.DataFrame({"text": [f"{i} {text}" for i, text in enumerate(LINES)], "label": names}).to_csv(
        tmp_path / "a.csv", index=False
    )
    return read_data(str(tmp_path / "a.csv"))


def outputs_by_label(tmp_path, labels, head, mapping=None):
    """The output of the head that each label of the data is taken for."""
    data = aligned(data_of(tmp_path, labels), head, mapping)
    assert data.label_names == head
    found = {}
    for split in (data.train, data.validation, data.test):
        for (text,), label in zip(split.texts, split.labels, strict=True):
            found.setdefault(str(labels[int(text.split()[0]) % len(labels)]), set()).add(int(label))
    assert all(len(outputs) == 1 for outputs in found.values())
    return {name: outputs.pop() for name, outputs in found.items()}


def refusal(tmp_path, labels, head, mapping=None):
    with pytest.raises(InputError) as caught:
        aligned(data_of(tmp_path, labels), head, mapping)
    message = str(caught.value)
    assert len(message.splitlines()) <= 3
    return message


@pytest.mark.parametrize(
    ("labels", "head", "expected"),
    [
        (SENTIMENT, SENTIMENT, (0, 1, 2)),
        (("Positive", "Negative", "Neutral"), SENTIMENT, (0, 1, 2)),
        (("NEG", "POS"), ("neg", "pos"), (0, 1)),
        (NLI, ("contradiction", "neutral", "entailment"), (2, 1, 0)),
        (("ENTAILMENT", "not_entailment"), ("entailment", "not entailment"), (0, 1)),
        (("card arrival", "lost-card"), ("Card_Arrival", "Lost_Card", "Other"), (0, 1)),
        (("negative", "positive"), SENTIMENT, (1, 0)),
        ((0, 1, 2), ("LABEL_0", "LABEL_1", "LABEL_2"), (0, 1, 2)),
        ((2, 0), ("LABEL_0", "LABEL_1", "LABEL_2"), (2, 0)),
        (("LABEL_1", "LABEL_0"), ("LABEL_0", "LABEL_1"), (1, 0)),
        (("1", "0"), ("1", "0"), (0, 1)),
        (("a b", "ab"), ("ab", "a b"), (1, 0)),
    ],
)
def test_names_that_are_the_same(tmp_path, labels, head, expected):
    assert outputs_by_label(tmp_path, labels, head) == dict(zip(map(str, labels), expected, strict=True))


@pytest.mark.parametrize(
    ("labels", "head"),
    [
        ((0, 1, 2), SENTIMENT),
        (("pos", "neg", "neu"), SENTIMENT),
        (("good", "bad"), ("LABEL_0", "LABEL_1")),
        ((1, 2), ("LABEL_0", "LABEL_1", "LABEL_2")),
        ((1, 2, 3), ("LABEL_0", "LABEL_1", "LABEL_2")),
        ((0, 1), ("LABEL_1", "LABEL_0")),
        (("positive", "negative", "mixed"), SENTIMENT),
        ((1, 2, 3, 4, 5), tuple(f"{i} star{'s' * (i > 1)}" for i in range(1, 6))),
        (("x-y", "z"), ("xy", "x y", "z")),
    ],
)
def test_names_that_are_not_the_same_are_refused_with_both_sets_and_the_flag(tmp_path, labels, head):
    message = refusal(tmp_path, labels, head)
    assert all(repr(str(name)) in message for name in (*labels, *head))
    assert f"{len(head)} outputs" in message
    assert "--labels '" in message


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        (("0=negative", "1=positive"), (1, 0)),
        (("0=Negative ", " 1 = positive"), (1, 0)),
        (("1=neutral", "0=positive"), (0, 2)),
    ],
)
def test_the_user_maps_names(tmp_path, mapping, expected):
    assert outputs_by_label(tmp_path, (0, 1), SENTIMENT, mapping) == dict(zip("01", expected, strict=True))


def test_what_is_not_mapped_is_matched(tmp_path):
    found = outputs_by_label(tmp_path, ("pos", "Negative", "neutral"), SENTIMENT, ("pos=positive",))
    assert found == {"pos": 0, "Negative": 1, "neutral": 2}


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        (("0=positive", "1=positive"), "a second time"),
        (("0=positive", "0=negative"), "a second time"),
        (("0=good",), "no DATA=MODEL"),
        (("7=positive",), "no DATA=MODEL"),
        (("positive",), "no DATA=MODEL"),
        (("0=positive",), "do not match"),
    ],
)
def test_mappings_that_are_not_one_to_one_onto_known_names(tmp_path, mapping, said):
    assert said in refusal(tmp_path, (0, 1), SENTIMENT, mapping)


def test_two_mappings_of_one_data_set_are_two_keys(tmp_path):
    data = data_of(tmp_path, (0, 1))
    keys = {
        aligned(data, SENTIMENT, entry).sha256 for entry in (("0=positive", "1=negative"), ("0=negative", "1=positive"))
    }
    assert len(keys) == 2
    assert data.sha256 not in keys


def test_a_mapping_without_a_trained_head_or_without_classes(tmp_path):
    with pytest.raises(InputError, match="the model has no trained classes"):
        aligned(data_of(tmp_path, (0, 1)), None, ("0=a",))
    (tmp_path / "a.txt").write_text("\n".join(LINES))
    with pytest.raises(InputError, match="the data have no classes"):
        aligned(read_data(str(tmp_path / "a.txt")), SENTIMENT, ("0=a",))


# --- configurations


def renamed(folder, names, **changes):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}} | changes
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_names_of_a_head(tmp_path):
    three = save_tiny(tmp_path / "three", labels=3)
    assert head_names(three, CLASSES) == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert head_names(renamed(three, NLI), CLASSES) == NLI
    assert head_names(renamed(three, NLI, architectures=None), CLASSES) == NLI
    assert head_names(save_tiny(tmp_path / "encoder"), CLASSES) is None
    with pytest.raises(InputError, match="has a head for regression"):
        head_names(save_tiny(tmp_path / "one", labels=1), CLASSES)
    with pytest.raises(InputError, match="names two outputs 'a'"):
        head_names(renamed(three, ("a", "a", "b")), CLASSES)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A classifier, and what transformers takes each text for."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = renamed(save_tiny(tmp_path_factory.mktemp("head") / "model", labels=3), SENTIMENT)
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        outputs = model(**tokenizer(LINES, padding=True, truncation=True, return_tensors="pt")).logits.argmax(1)
    return folder, [model.config.id2label[output] for output in outputs.tolist()]


def written(tmp_path, labels):
    pd.DataFrame({"text": LINES, "label": labels}).to_csv(tmp_path / "a.csv", index=False)
    return tmp_path / "a.csv"


def dense_is_right(source, folder, mapping=None):
    """By text, whether the dense model's answer is the label that the run holds for it."""
    subject = load_subject(Options(model=str(folder), data=str(source), labels=mapping, target="null", seq_len=32))
    found = {}
    for split in (subject.data.train, subject.data.validation, subject.data.test):
        outputs = subject.dense_outputs(encode(subject.checkpoint, split.texts, max_tokens=64))
        found |= dict(zip((text for (text,) in split.texts), outputs.argmax(1) == split.labels, strict=True))
    return found


@pytest.mark.parametrize("write", [str, str.title, lambda name: f" {name.upper()}"], ids=["same", "title", "spaced"])
def test_the_dense_model_is_right_on_its_own_answers_however_they_are_written(tmp_path, classifier, write):
    folder, answers = classifier
    assert len(set(answers)) > 1
    assert all(dense_is_right(written(tmp_path, list(map(write, answers))), folder).values())


def test_a_mapping_decides_what_is_right(tmp_path, classifier):
    folder, answers = classifier
    first, second = sorted(set(answers))[:2]
    source = written(tmp_path, [{first: "x", second: "y"}.get(answer, "neutral") for answer in answers])
    assert all(dense_is_right(source, folder, (f"x={first}", f"y={second}")).values())
    swapped = dense_is_right(source, folder, (f"x={second}", f"y={first}"))
    assert swapped == {text: answer not in {first, second} for text, answer in zip(LINES, answers, strict=True)}


def test_a_head_of_one_output_takes_zeros_and_ones_for_scores(tmp_path):
    folder = save_tiny(tmp_path / "reranker", labels=1)
    subject = load_subject(
        Options(model=str(folder), data=str(written(tmp_path, [i % 2 for i in range(60)])), target="null", seq_len=32)
    )
    assert (subject.task.name, subject.checkpoint.head_trained) == ("regression", True)
    assert set(subject.data.train.labels) == {0.0, 1.0}


def test_other_names_are_refused_by_the_command_with_the_flag_to_write(tmp_path, classifier):
    folder, answers = classifier
    source = written(tmp_path, [f"c{SENTIMENT.index(answer)}" for answer in answers])
    arguments = (
        "--data",
        source,
        "--cache",
        tmp_path / "cache",
        "--out",
        tmp_path / "out",
        "--target",
        "null",
        "--quiet",
    )
    done = call(folder, *arguments)
    assert done.code == 2
    assert "'positive', 'negative', 'neutral'" in done.err
    assert "--labels 'c" in done.err
    mapped = call(folder, *arguments, "--labels", "c1=sad")
    assert "--labels 'c1=sad' is no DATA=MODEL" in mapped.err
    assert not (tmp_path / "out" / "front.json").exists()
