"""What is inferred from columns and labels as people write them: the right value, or a refusal that names the row."""

import datetime as dt
import json
import unicodedata

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from compiler.tasks import read_data
from compiler.tasks.guessing import infer_task
from targets.errors import InputError

SCORES = [f"{i % 41 / 8:.2f}" for i in range(600)]
CLASSES = ["good" if i % 4 else "bad" for i in range(600)]
TEXT = [f"the film number {i} was long" for i in range(600)]
BODY = [f"{i} people saw it and left again" for i in range(600)]


def write(path, columns, **options):
    count = min(len(values) for values in columns.values())
    frame = pd.DataFrame({name: values[:count] for name, values in columns.items()})
    frame.to_csv(path / "a.csv", index=False, **options)
    return str(path / "a.csv")


def labelled(path, labels, name="label", **options):
    return write(path, {"text": TEXT, name: labels}, **options)


def refusal(source, **options):
    with pytest.raises(InputError) as caught:
        read_data(source, **options)
    message = str(caught.value)
    assert len(message.splitlines()) <= 3
    return message


def put(labels, at):
    changed = list(labels)
    for row, value in at.items():
        changed[row] = value
    return changed


# --- the task


@pytest.mark.parametrize("odd", ["N/A", "n/a", "null", "-", "?", "#N/A", "none", "NA", "see note", "3,5 or so"])
def test_two_odd_values_do_not_make_classes_of_scores(tmp_path, odd):
    """600 scores with two words among them were a classification of 42 classes."""
    labels = put(SCORES, {17: odd, 401: odd})
    assert infer_task(labels, "label") == "classification"
    message = refusal(labelled(tmp_path, labels))
    assert "a.csv lines 19, 403" in message
    assert repr(odd) in message


def test_more_odd_values_than_are_shown_are_counted(tmp_path):
    message = refusal(labelled(tmp_path, put(SCORES, dict.fromkeys(range(0, 60, 2), "pending"))))
    assert "lines 2, 4, 6 and 27 more" in message
    assert "570 others are scores" in message


@pytest.mark.parametrize("mark", ["N/A", "null", "None", "-", "?", "#N/A", "<NA>", "\\N"])
@pytest.mark.parametrize("labels", [CLASSES, [str(i % 2) for i in range(600)]], ids=["words", "numbers"])
def test_a_mark_for_no_label_is_no_class(tmp_path, mark, labels):
    source = labelled(tmp_path, put(labels, {8: mark}))
    message = refusal(source)
    assert "a.csv line 10" in message
    assert "--task classification" in message
    assert mark in read_data(source, task="classification").label_names


def test_a_class_that_is_called_none_is_one_where_many_are(tmp_path):
    labels = [("favor", "against", "none")[i % 3] for i in range(600)]
    assert read_data(labelled(tmp_path, labels)).label_names == ("against", "favor", "none")


def test_one_typing_error_does_not_make_scores_of_classes(tmp_path):
    labels = put([i % 20 for i in range(300)], {4: 2000})
    message = refusal(labelled(tmp_path, labels))
    assert "a.csv line 6" in message
    assert "'2000'" in message
    assert "20 classes" in message
    assert read_data(labelled(tmp_path, labels), task="classification").label_names[-1] == "2000"


def test_numbers_of_many_classes_are_not_taken_for_scores(tmp_path):
    labels = [i % 77 for i in range(600)]
    assert "all numbers from 0 to 76: classes or scores?" in refusal(labelled(tmp_path, labels))
    assert len(read_data(labelled(tmp_path, labels), task="classification").label_names) == 77
    assert read_data(labelled(tmp_path, labels, name="score")).task == "regression"


@pytest.mark.parametrize(
    ("labels", "name", "task", "classes"),
    [
        (SCORES, "label", "regression", None),
        ([f"{i % 41 / 8:.1f}".replace(".", ",") for i in range(600)], "label", "regression", None),
        ([i % 5 + 1 for i in range(600)], "stars", "classification", ("1", "2", "3", "4", "5")),
        ([float(i % 2) for i in range(600)], "label", "classification", ("0", "1")),
        ([i % 2 == 0 for i in range(600)], "label", "classification", ("False", "True")),
        ([("0", "1", "2+")[i % 3] for i in range(600)], "label", "classification", ("0", "1", "2+")),
        (
            [f"{i % 5 + 1} stars" for i in range(600)],
            "label",
            "classification",
            tuple(f"{i} stars" for i in range(1, 6)),
        ),
        ([i * i for i in range(600)], "label", "regression", None),
    ],
    ids=["scores", "commas", "stars", "floats", "booleans", "open end", "units", "counts"],
)
def test_the_task_of_plain_labels(tmp_path, labels, name, task, classes):
    data = read_data(labelled(tmp_path, labels, name=name))
    assert (data.task, data.label_names) == (task, classes)


def test_decimal_commas_are_what_pandas_reads(tmp_path):
    source = labelled(tmp_path, [f"{i % 41 / 8:.1f}".replace(".", ",") for i in range(600)], sep=";")
    data = read_data(source)
    expected = pd.read_csv(source, sep=";", decimal=",").set_index("text")["label"]
    assert all(expected[text] == score for (text,), score in zip(data.test.texts, data.test.labels, strict=True))
    assert any("decimal commas" in note for note in data.notes)


@pytest.mark.parametrize(
    "labels",
    [
        [f"{i},{i % 10}00" for i in range(1, 301)],
        [f"1,{i:03d}.5" for i in range(300)],
        [f"{i % 40}%" for i in range(300)],
        [f"${i % 40}" for i in range(300)],
        [f"{i % 9 + 1} 000" for i in range(300)],
    ],
    ids=["ambiguous", "thousands", "percent", "money", "spaces"],
)
def test_numbers_with_other_marks_are_refused(tmp_path, labels):
    assert "a number with a comma, space or sign" in refusal(labelled(tmp_path, labels))


# --- labels


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("good", "Good"),
        ("very good", "very  good"),
        ("very good", "very\u00a0good"),
        ("é", unicodedata.normalize("NFD", "é")),
        ("good", "go\u200bod"),
        ("good", "\uff47ood"),
    ],
)
def test_two_spellings_of_one_label_are_refused_with_counts(tmp_path, one, other):
    message = refusal(labelled(tmp_path, put([(one, "bad")[i % 2] for i in range(100)], {6: other})))
    assert "a.csv line 8" in message
    assert "(1 rows) differs from" in message
    assert "(49 rows)" in message


def test_spaces_around_a_label_mean_nothing(tmp_path):
    assert read_data(labelled(tmp_path, put(CLASSES, {3: " good "}))).label_names == ("bad", "good")


@pytest.mark.parametrize("words", [("True", "False"), ("yes", "no")])
def test_numbers_and_words_for_yes_and_no_are_refused(tmp_path, words):
    assert "mix numbers and words" in refusal(
        labelled(tmp_path, put([i % 2 for i in range(100)], {2: words[0], 5: words[1]}))
    )


def test_a_class_of_one_example_is_the_first_note(tmp_path):
    data = read_data(labelled(tmp_path, put(CLASSES, {70: "ugly"})))
    assert "'ugly' (one example: a.csv line 72)" in data.notes[0]
    ugly = data.label_names.index("ugly")
    assert [int(np.sum(split.labels == ugly)) for split in (data.train, data.validation, data.test)] == [1, 0, 0]


def test_many_classes_of_one_example_are_three_names(tmp_path):
    data = read_data(labelled(tmp_path, put(CLASSES, {i: f"rare {i}" for i in range(30)})))
    assert data.notes[0].startswith("30 classes have no example in validation")
    assert data.notes[0].endswith("and 27 more")


def test_a_total_below_the_rows_is_refused(tmp_path):
    source = write(tmp_path, {"text": [*TEXT[:50], "Total"], "score": [*range(1, 51), 1275]})
    assert "a.csv line 52: the last row seems to add up the others" in refusal(source)


@pytest.mark.parametrize("day", ["2024-01-{:02d}", "{:02d}.01.2024", "2024-01-{:02d} 10:00:00", "1/{:02d}/24"])
def test_dates_are_no_labels(tmp_path, day):
    days = [day.format(i % 28 + 1) for i in range(300)]
    assert "holds dates" in refusal(labelled(tmp_path, days))
    assert read_data(write(tmp_path, {"text": TEXT, "when": days})).label_column is None


def test_dates_of_parquet_are_no_labels(tmp_path):
    days = [dt.date(2024, 1, i % 28 + 1) for i in range(300)]
    parquet.write_table(pa.table({"text": TEXT[:300], "label": days}), tmp_path / "a.parquet")
    assert "holds dates" in refusal(str(tmp_path / "a.parquet"))


@pytest.mark.parametrize("start", [0, 1, 1000])
def test_row_numbers_are_no_labels(tmp_path, start):
    assert "numbers the rows" in refusal(labelled(tmp_path, list(range(start, start + 300))))


def test_the_hub_minus_one_is_a_missing_label(tmp_path):
    feature = {"_type": "ClassLabel", "names": ["a", "b", "c"]}
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}
    table = pa.table({"text": TEXT[:60], "label": put([i % 3 for i in range(60)], {9: -1})})
    parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    assert "a.parquet row 10: the label (label) is empty; 1 of 60" in refusal(str(tmp_path / "a.parquet"))


# --- columns


@pytest.mark.parametrize(
    ("names", "texts"),
    [
        (("name", "review"), ("review",)),
        (("date", "comment"), ("comment",)),
        (("title", "body"), ("body",)),
        (("summary", "text"), ("text",)),
        (("anchor", "positive"), ("anchor", "positive")),
        (("query", "answer"), ("query", "answer")),
        (("Sentence 1", "Sentence 2"), ("Sentence 1", "Sentence 2")),
        (("#1 String", "#2 String"), ("#1 String", "#2 String")),
        (("s1", "s2"), ("s1", "s2")),
        (("frage_a", "frage_b"), ("frage_a", "frage_b")),
        (("question", "context"), ("question", "context")),
    ],
)
@pytest.mark.parametrize("labels", [True, False])
def test_texts_by_known_names(tmp_path, names, texts, labels):
    columns = {names[0]: TEXT, names[1]: BODY} | ({"label": CLASSES} if labels else {})
    data = read_data(write(tmp_path, columns))
    assert data.text_columns == texts
    assert data.task == ("classification" if labels else "embedding")
    assert data.unused_columns == tuple(name for name in names if name not in texts)


@pytest.mark.parametrize(
    "names", [("name", "opinion"), ("subject", "reply text"), ("vorname", "meinung"), ("x1", "y2")]
)
def test_two_texts_of_unknown_names_are_no_pair(tmp_path, names):
    source = write(tmp_path, {names[0]: TEXT, names[1]: BODY, "label": CLASSES})
    message = refusal(source)
    assert f"{names[0]} (e.g. 'the film number 0 was long')" in message
    assert "--text-columns A,B" in message
    assert read_data(source, text_columns=names).text_columns == names


def test_columns_without_a_header_are_no_pair(tmp_path):
    source = write(tmp_path, {"a": TEXT, "b": BODY, "c": CLASSES}, header=False)
    assert "several columns of texts" in refusal(source)
    assert read_data(source, text_columns=["column_1", "column_2"]).label_names == ("bad", "good")


def test_three_texts_of_a_triplet_are_the_pair_and_the_rest_is_named(tmp_path):
    negatives = [f"another thing {i}" for i in range(600)]
    data = read_data(write(tmp_path, {"anchor": TEXT, "positive": BODY, "negative": negatives}))
    assert data.text_columns == ("anchor", "positive")
    assert "columns not used: negative" in data.notes


@pytest.mark.parametrize("name", ["source", "Language", "user", "split"])
def test_what_may_describe_the_rows_is_a_label_if_the_user_says_so(tmp_path, name):
    source = write(tmp_path, {"text": TEXT, name: [f"v{i % 3}" for i in range(600)]})
    assert f"Does {name} label the texts of a.csv" in refusal(source)
    assert read_data(source, label_column=name).label_names == ("v0", "v1", "v2")
    assert read_data(source, task="embedding").unused_columns == (name,)


@pytest.mark.parametrize("name", ["source", "Language", "user", "split"])
def test_what_describes_the_rows_is_no_label_beside_one(tmp_path, name):
    source = write(tmp_path, {"text": TEXT, name: [f"v{i % 3}" for i in range(600)], "kind": CLASSES})
    assert read_data(source).label_column == "kind"


def test_a_spreadsheet_with_cells_behind_the_last_name(tmp_path):
    """The SMS spam collection as Kaggle gives it: v1,v2,,, and texts that ran over into the cells without a name."""
    rows = [f"{('ham', 'spam')[i % 3 == 0]},{text}," + (",," if i else "and more,,") for i, text in enumerate(TEXT)]
    (tmp_path / "spam.csv").write_text("\n".join(["v1,v2,,,", *rows]))
    data = read_data(str(tmp_path / "spam.csv"))
    assert (data.text_columns, data.label_column, data.label_names) == (("v2",), "v1", ("ham", "spam"))
    assert sum(map(len, (data.train, data.validation, data.test))) == 600


def test_a_first_row_with_a_label_of_a_pair_is_no_header(tmp_path):
    labels = [("positive", "negative")[i % 2] for i in range(100)]
    data = read_data(write(tmp_path, {"text": TEXT, "label": labels}, header=False))
    assert sum(map(len, (data.train, data.validation, data.test))) == 100


def test_pairs_that_belong_to_queries_are_ranked(tmp_path):
    grades = [int(i % 5 == 0) for i in range(600)]
    columns = {"query_id": [f"Q{i // 5}" for i in range(600)], "question": TEXT, "sentence": BODY, "label": grades}
    with pytest.raises(InputError, match="stands for two queries"):  # every row has texts of its own
        read_data(write(tmp_path, columns))
    columns["question"] = [TEXT[i // 5] for i in range(600)]
    assert read_data(write(tmp_path, columns)).task == "reranking"
    columns["label"] = CLASSES
    assert read_data(write(tmp_path, columns)).task == "classification"


# --- what a trained head declares


@pytest.mark.parametrize("labels", [[i % 2 for i in range(100)], [float(i % 2) for i in range(100)]])
def test_zeros_and_ones_are_scores_for_a_head_of_one_output(tmp_path, labels):
    data = read_data(labelled(tmp_path, labels), declared=("regression",))
    assert (data.task, data.label_names, set(data.train.labels)) == ("regression", None, {0.0, 1.0})
    assert read_data(labelled(tmp_path, labels), declared=("classification",)).label_names == ("0", "1")


def test_words_are_no_scores_for_a_head_of_one_output(tmp_path):
    source = labelled(tmp_path, CLASSES)
    with pytest.raises(InputError, match=r"labels \(label\) of a.csv are words: 'bad', 'good'"):
        read_data(source, declared=("regression",))


def test_many_numbered_classes_are_classes_for_a_head_of_classes(tmp_path):
    labels = [i % 77 for i in range(600)]
    assert len(read_data(labelled(tmp_path, labels), declared=("classification",)).label_names) == 77


def test_a_named_task_is_stronger_than_what_a_head_declares(tmp_path):
    source = labelled(tmp_path, [i % 2 for i in range(100)])
    assert read_data(source, task="classification", declared=("regression",)).label_names == ("0", "1")


def test_truths_of_json_beside_numbers_are_refused(tmp_path):
    labels = [(True, False, 1, 0)[i % 4] for i in range(40)]
    rows = [json.dumps({"text": text, "label": label}) for text, label in zip(TEXT[:40], labels, strict=True)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    assert "mix numbers and words" in refusal(str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".txt"])
def test_more_rows_than_fit_are_refused(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr("compiler.data.table.MAX_ROWS", 500)
    frame = pd.DataFrame({"text": TEXT, "label": CLASSES})
    path = tmp_path / f"a{suffix}"
    {
        ".csv": lambda: frame.to_csv(path, index=False),
        ".jsonl": lambda: frame.to_json(path, orient="records", lines=True),
        ".parquet": lambda: frame.to_parquet(path),
        ".txt": lambda: path.write_text("\n".join(TEXT)),
    }[suffix]()
    assert "has 600 rows; at most 500 are read" in refusal(str(path))
