import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from compiler.data.texts import MAX_CHARACTERS
from compiler.tasks import read_data
from targets.errors import InputError

TEXTS = [f"the film number {i} was seen by {i + 3} people" for i in range(40)]
LABELS = ["good" if i % 4 else "bad" for i in range(40)]


def _csv(path, rows, header=("text", "label"), separator=","):
    lines = [separator.join(map(str, row)) for row in ([header] if header else []) + list(rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def _pairs(count=40, start=0):
    return [(f"example {i} of the set", LABELS[i % 40]) for i in range(start, start + count)]


def _refused(source, **options):
    with pytest.raises(InputError) as caught:
        read_data(str(source), **options)
    message = str(caught.value)
    assert len(message.splitlines()) <= 2
    return message


def _write(path, suffix):
    records = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]
    if suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(records), path)
    elif suffix == ".json":
        path.write_text(json.dumps(records))
    elif suffix in {".jsonl", ".ndjson"}:
        path.write_text("\n".join(map(json.dumps, records)))
    else:
        _csv(path, zip(TEXTS, LABELS, strict=True), separator="\t" if suffix == ".tsv" else ",")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet"])
def test_every_format_holds_the_same_data(tmp_path, suffix):
    path = tmp_path / f"reviews{suffix}"
    reference = tmp_path / "reviews.csv"
    _write(path, suffix)
    _write(reference, ".csv")
    data = read_data(str(path))
    assert data.source == path.name
    assert (data.task, data.text_columns, data.label_column) == ("classification", ("text",), "label")
    assert data.label_names == ("bad", "good")
    assert [len(data.train), len(data.validation), len(data.test)] == [28, 6, 6]
    assert data.train.labels.dtype == np.int64
    assert data.sha256 == read_data(str(reference)).sha256
    by_text = dict(zip(TEXTS, LABELS, strict=True))
    for split in (data.train, data.validation, data.test):
        names = [data.label_names[i] for i in split.labels]
        assert names == [by_text[text] for (text,) in split.texts]


def test_plain_text_is_one_unlabelled_text_a_line(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("\n\n".join(TEXTS))
    data = read_data(str(path))
    assert (data.task, data.label_column, data.train.labels) == ("embedding", None, None)
    assert sorted(text for split in (data.train, data.validation, data.test) for (text,) in split.texts) == sorted(
        TEXTS
    )
    assert any("embedding" in note for note in data.notes)


def test_source_is_a_base_name_even_for_the_working_directory(tmp_path, monkeypatch):
    _csv(tmp_path / "train.csv", _pairs())
    monkeypatch.chdir(tmp_path)
    assert read_data(".").source == tmp_path.name


# --- splits ---------------------------------------------------------------------------------------------------------


def test_three_files_are_taken_as_they_are(tmp_path):
    _csv(tmp_path / "train.csv", _pairs(20))
    _csv(tmp_path / "val.csv", _pairs(8, 20))
    _csv(tmp_path / "test.csv", _pairs(4, 28))
    (tmp_path / "LICENSE.txt").write_text("all rights reserved")
    data = read_data(str(tmp_path))
    assert [len(data.train), len(data.validation), len(data.test)] == [20, 8, 4]
    assert data.train.texts[3] == ("example 3 of the set",)


def test_without_dev_validation_comes_from_train(tmp_path):
    _csv(tmp_path / "train.csv", _pairs(40))
    _csv(tmp_path / "test.csv", _pairs(4))
    data = read_data(str(tmp_path), validation_fraction=0.25)
    assert [len(data.train), len(data.validation), len(data.test)] == [30, 10, 4]
    assert any("validation is 25%" in note for note in data.notes)
    assert any("test examples also occur in train" in note for note in data.notes)


def test_without_test_dev_is_the_test_set(tmp_path):
    _csv(tmp_path / "train.csv", _pairs(40))
    _csv(tmp_path / "dev.csv", _pairs(6))
    data = read_data(str(tmp_path))
    assert [len(data.train), len(data.validation), len(data.test)] == [28, 12, 6]
    assert any("dev is the test set" in note for note in data.notes)


def test_unlabelled_test_file_is_not_used(tmp_path):
    _csv(tmp_path / "train.csv", _pairs(40))
    _csv(tmp_path / "dev.csv", _pairs(6))
    _csv(tmp_path / "test.csv", [(text,) for text in TEXTS], header=("text",))
    data = read_data(str(tmp_path))
    assert len(data.test) == 6
    assert "test.csv has no labels and is not used" in data.notes


def test_split_is_stratified_seeded_and_keeps_classes_of_one(tmp_path):
    labels = ["a"] * 60 + ["b"] * 39 + ["c"]
    path = _csv(tmp_path / "all.csv", [(f"text number {i}", label) for i, label in enumerate(labels)])
    data = read_data(path)
    counts = [np.bincount(split.labels, minlength=3).tolist() for split in (data.train, data.validation, data.test)]
    assert counts[0][2] == 1
    assert abs(counts[0][0] - 42) <= 1
    assert abs(counts[1][0] - 9) <= 1
    assert read_data(path).sha256 == data.sha256
    assert read_data(path, seed=1).sha256 != data.sha256


def test_shards_of_one_split_are_joined(tmp_path):
    for i in range(2):
        table = pa.table({"text": TEXTS[20 * i : 20 * i + 20], "label": LABELS[20 * i : 20 * i + 20]})
        parquet.write_table(table, tmp_path / f"train-0000{i}-of-00002.parquet")
    parquet.write_table(pa.table({"text": TEXTS[:8], "label": LABELS[:8]}), tmp_path / "test.parquet")
    data = read_data(str(tmp_path))
    assert len(data.train) + len(data.validation) == 40


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (("equivalent", "not_equivalent"), ("not_equivalent", "equivalent")),
        (("Toxic", "Non-toxic"), ("Non-toxic", "Toxic")),
        (("entailment", "not entailment"), ("not entailment", "entailment")),
        (("no", "yes"), ("no", "yes")),
        (("able", "notable", "zero"), ("notable", "able", "zero")),
    ],
)
def test_a_class_that_negates_another_comes_before_it(tmp_path, names, ordered):
    """F1 is that of class 1: on MRPC of "equivalent", as everybody reports it."""
    rows = [f"{text},{names[i % len(names)]}" for i, text in enumerate(TEXTS)]
    (tmp_path / "all.csv").write_text("\n".join(["text,label", *rows]))
    assert read_data(str(tmp_path / "all.csv")).label_names == ordered


def test_class_names_inside_parquet_are_used(tmp_path):
    feature = {"_type": "ClassLabel", "names": ["negative", "neutral", "positive"]}
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": feature, "text": {"_type": "Value"}}}})}
    table = pa.table({"text": TEXTS, "label": [2 * (i % 2) for i in range(40)]}).replace_schema_metadata(metadata)
    parquet.write_table(table, tmp_path / "all.parquet")
    data = read_data(str(tmp_path / "all.parquet"))
    assert data.label_names == ("negative", "neutral", "positive")
    assert set(data.train.labels) == {0, 2}


# --- columns and task -----------------------------------------------------------------------------------------------


def test_pairs_scores_and_identifiers_are_inferred(tmp_path):
    rows = [(i, f"first text {i}", f"second text {i}", f"{i % 21 / 4:.2f}") for i in range(60)]
    data = read_data(_csv(tmp_path / "pairs.csv", rows, header=("idx", "premise", "hypothesis", "similarity_score")))
    assert (data.task, data.text_columns) == ("regression", ("premise", "hypothesis"))
    assert data.train.labels.dtype == np.float64
    assert data.label_names is None
    assert "columns not used: idx" in data.notes


def test_few_distinct_numbers_are_classes_in_numeric_order(tmp_path):
    rows = [(f"some text {i}", (10, 9.0, 2)[i % 3]) for i in range(60)]
    data = read_data(_csv(tmp_path / "stars.csv", rows, header=("review", "stars")))
    assert (data.task, data.label_names) == ("classification", ("2", "9", "10"))


def test_label_is_found_by_content_when_its_name_says_nothing(tmp_path):
    data = read_data(_csv(tmp_path / "a.csv", _pairs(), header=("was sagt er", "wie ist es")))
    assert (data.text_columns, data.label_column) == (("was sagt er",), "wie ist es")


def test_class_names_with_spaces_are_not_texts(tmp_path):
    rows = [(f"where is my card number {i}", ("card arrival", "lost card")[i % 2]) for i in range(60)]
    data = read_data(_csv(tmp_path / "a.csv", rows, header=("frage", "antwort")))
    assert (data.text_columns, data.label_names) == (("frage",), ("card arrival", "lost card"))


def test_task_can_be_chosen(tmp_path):
    rows = [(f"some text {i}", i % 3) for i in range(60)]
    path = _csv(tmp_path / "a.csv", rows)
    assert read_data(path, task="regression").train.labels.dtype == np.float64
    assert read_data(path, task="embedding").train.labels is None


def test_embedding_keeps_scores_of_pairs(tmp_path):
    rows = [(f"first text {i}", f"second text {i}", i / 7) for i in range(60)]
    path = _csv(tmp_path / "a.csv", rows, header=("sentence1", "sentence2", "score"))
    data = read_data(path, task="embedding")
    assert (data.label_column, data.train.labels.dtype) == ("score", np.float64)


def test_unnamed_index_column_of_pandas_is_ignored(tmp_path):
    rows = [(i, *row) for i, row in enumerate(_pairs())]
    data = read_data(_csv(tmp_path / "a.csv", rows, header=("", "text", "label")))
    assert data.text_columns == ("text",)
    assert "columns not used: (unnamed)" in data.notes


def test_semicolons_are_recognised(tmp_path):
    assert len(read_data(_csv(tmp_path / "a.csv", _pairs(), separator=";")).train) == 28


def test_no_column_of_texts(tmp_path):
    path = _csv(tmp_path / "a.csv", [(i, 0.5 * i) for i in range(20)], header=("text", "label"))
    message = _refused(path)
    assert "no column of texts" in message
    assert "--text-columns" in message


def test_a_column_of_numbers_is_no_text(tmp_path):
    path = _csv(tmp_path / "a.csv", [(f"a text {i}", i, i % 2) for i in range(20)], header=("text", "price", "label"))
    message = _refused(path, text_columns=["price"])
    assert "'price'" in message
    assert "does not hold texts" in message


@pytest.mark.parametrize("option", [{"text_columns": ["txet"]}, {"label_column": "txet"}])
def test_unknown_columns_are_named_with_those_there_are(tmp_path, option):
    message = _refused(_csv(tmp_path / "a.csv", _pairs()), **option)
    assert "no column 'txet'" in message
    assert "text (e.g. 'example 0 of the set')" in message


def test_column_options_that_contradict_each_other(tmp_path):
    path = _csv(tmp_path / "a.csv", _pairs())
    assert "both" in _refused(path, text_columns=["text"], label_column="text")
    assert "one column or two" in _refused(path, text_columns=["text", "text"])


def test_several_possible_labels_are_listed(tmp_path):
    rows = [(f"a text {i}", "xy"[i % 2], "uvw"[i % 3]) for i in range(30)]
    message = _refused(_csv(tmp_path / "a.csv", rows, header=("text", "kind", "origin")))
    assert "kind (e.g. 'x')" in message
    assert "--label-column" in message


def test_classification_without_labels(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n".join(TEXTS))
    assert "no label column" in _refused(path, task="classification")


@pytest.mark.parametrize("task", ["clasification", ""])
def test_unknown_task(tmp_path, task):
    assert "no task" in _refused(tmp_path, task=task)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_impossible_validation_fraction(tmp_path, fraction):
    assert "between 0 and 1" in _refused(tmp_path, validation_fraction=fraction)


# --- labels ---------------------------------------------------------------------------------------------------------


def test_unseen_labels_are_named_and_counted(tmp_path):
    _csv(tmp_path / "train.csv", _pairs())
    _csv(tmp_path / "test.csv", [(f"a text {i}", f"new{i % 7}") for i in range(14)])
    message = _refused(tmp_path)
    assert "'new0', 'new1', 'new2', 'new3', 'new4' and 2 more" in message
    assert "14 of 14 rows" in message


def test_one_class(tmp_path):
    message = _refused(_csv(tmp_path / "a.csv", [(f"a text {i}", "x") for i in range(9)]))
    assert "All 9 labels" in message
    assert "'x'" in message


@pytest.mark.parametrize("label", ["", "nan", "NaN", "  "])
def test_empty_label_is_refused_with_its_line(tmp_path, label):
    rows = _pairs()
    rows[6] = ("a text", label)
    message = _refused(_csv(tmp_path / "a.csv", rows))
    said = f"'{label}', which is no label" if label.strip() else "empty"
    assert f"a.csv line 8: the label (label) is {said}; 1 of 40" in message


def test_null_label_in_parquet_is_refused_with_its_row(tmp_path):
    parquet.write_table(pa.table({"text": TEXTS, "label": [*range(38), None, None]}), tmp_path / "a.parquet")
    assert "a.parquet row 39" in _refused(tmp_path / "a.parquet")


def test_regression_on_strings(tmp_path):
    message = _refused(_csv(tmp_path / "a.csv", _pairs()), task="regression")
    assert "'bad', not a number" in message
    assert "--task classification" in message


def test_constant_scores(tmp_path):
    path = _csv(tmp_path / "a.csv", [(f"a text {i}", 1.5) for i in range(9)])
    assert "nothing to learn" in _refused(path, task="regression")


def test_labels_that_name_rows_are_not_classes(tmp_path):
    message = _refused(_csv(tmp_path / "a.csv", [(f"a text {i}", f"k{i}") for i in range(40)]))
    assert "40 different values in 40 rows" in message


def test_the_same_list_in_every_row_labels_nothing(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"text": text, "label": [1, 2]}) for text in TEXTS))
    assert "have the same labels (label): '1', '2'" in _refused(path)


def test_booleans_are_classes(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"text": text, "label": i % 2 == 0}) for i, text in enumerate(TEXTS)))
    assert read_data(str(path)).label_names == ("False", "True")


# --- texts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "nan", "   "])
def test_empty_text_is_refused_with_its_line(tmp_path, text):
    rows = _pairs()
    rows[3] = (text, "good")
    assert "a.csv line 5: the text (text) is empty" in _refused(_csv(tmp_path / "a.csv", rows))


def test_number_among_texts_is_refused_with_its_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in [*TEXTS, 17]))
    assert "does not hold texts: it has '17'" in _refused(path, text_columns=["text"])


@pytest.mark.timeout(20)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".txt"])
def test_three_megabytes_in_one_text_are_cut(tmp_path, suffix):
    texts = ["word " * 600_000, *TEXTS]
    path = tmp_path / f"a{suffix}"
    lines = [json.dumps({"text": text}) for text in texts] if suffix == ".jsonl" else texts
    path.write_text("\n".join(lines if suffix in {".jsonl", ".txt"} else ["text", *lines]))
    data = read_data(str(path))
    longest = max(len(text) for split in (data.train, data.validation, data.test) for (text,) in split.texts)
    assert longest == MAX_CHARACTERS
    assert any("1 text(s) cut to 100,000 characters" in note for note in data.notes)


def test_half_a_surrogate_pair_is_replaced(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([json.dumps({"text": text}) for text in TEXTS] + ['{"text": "half \\ud83d of one"}']))
    data = read_data(str(path))
    assert ("half ? of one",) in {*data.train.texts, *data.validation.texts, *data.test.texts}


def test_too_few_examples(tmp_path):
    assert "only 2 examples" in _refused(_csv(tmp_path / "a.csv", [("a text", "x"), ("b text", "y")]))


# --- files as people have them --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nothing.csv", "./nothing", "/nothing/there", "a b", "~nobody/x", ""])
def test_missing_source(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name:
        assert "no file or folder" in _refused(name)
    else:
        assert "no train file" in _refused(name)


@pytest.mark.parametrize("content", [b"", b"\n\n  \n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".txt", ".tsv"])
def test_empty_file(tmp_path, suffix, content):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    message = _refused(path)
    assert "is empty" in message or "holds no rows" in message


def test_name_longer_than_the_file_system_allows():
    assert "cannot be read" in _refused("x" * 5000)


def test_header_without_rows(tmp_path):
    assert "holds no rows" in _refused(_csv(tmp_path / "a.csv", []))


def test_unknown_format(tmp_path):
    path = tmp_path / "a.xlsx"
    path.write_bytes(b"PK")
    assert ".parquet" in _refused(path)


def test_latin_1_is_refused_and_loads_with_the_flag(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\n".join([*TEXTS, "un café très fort"]).encode("latin-1"))
    message = _refused(path)
    assert "byte 0xe9 at line 41" in message
    assert "--encoding latin-1" in message
    data = read_data(str(path), encoding="latin-1")
    assert ("un café très fort",) in {*data.train.texts, *data.validation.texts, *data.test.texts}


def test_utf_16_is_read_by_its_byte_order_mark_and_named_without(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\n".join(TEXTS).encode("utf-16"))
    data = read_data(str(path))
    assert data.sha256 == read_data(str(path), encoding="utf-16").sha256
    assert any("UTF-16" in note for note in data.notes)
    path.write_bytes("\n".join(TEXTS).encode("utf-16-le"))
    assert "--encoding utf-16-le" in _refused(path)


def test_unknown_encoding(tmp_path):
    assert "no encoding 'latin-77'" in _refused(_csv(tmp_path / "a.csv", _pairs()), encoding="latin-77")


def test_binary_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\n\0\0\0\0,1\n")
    assert "not a text file" in _refused(path)


def test_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("\ufeff" + "text,label\n" + "\n".join(f"{t},{label}" for t, label in _pairs()), encoding="utf-8")
    assert read_data(str(path)).text_columns == ("text",)


def test_tsv_with_unbalanced_quotes_keeps_its_lines(tmp_path):
    rows = _pairs()
    rows[4] = ('"an opening quote only', "good")
    rows[9] = ('he said "no" twice', "bad")
    data = read_data(_csv(tmp_path / "a.tsv", rows, separator="\t"))
    assert len(data.train) + len(data.validation) + len(data.test) == 40
    assert any("read without quoting" in note for note in data.notes)


def test_tsv_with_proper_quotes_is_read_with_quoting(tmp_path):
    rows = _pairs()
    rows[4] = ('"two\nlines"', "good")
    data = read_data(_csv(tmp_path / "a.tsv", rows, separator="\t"))
    assert ("two\nlines",) in {*data.train.texts, *data.validation.texts, *data.test.texts}


def test_csv_with_an_open_quote_is_refused_with_its_line(tmp_path):
    rows = _pairs()
    rows[4] = ('"an opening, quote only', "good")
    assert "the record that starts at line 6" in _refused(_csv(tmp_path / "a.csv", rows))


def test_ragged_csv_is_refused_with_its_line(tmp_path):
    rows = _pairs()
    rows[4] = ("one, two, three", "good")
    assert "a.csv line 6 has 4 fields, but the first row has 2" in _refused(_csv(tmp_path / "a.csv", rows))


def test_missing_header_is_noticed(tmp_path):
    path = _csv(tmp_path / "a.tsv", _pairs(), header=None, separator="\t")
    data = read_data(path)
    assert (data.text_columns, data.label_column) == (("column_1",), "column_2")
    assert len(data.train) + len(data.validation) + len(data.test) == 40
    assert any("no header was found" in note for note in data.notes)
    assert len(read_data(path, header=True, label_column="bad").test) == 6


def test_header_flag_wins(tmp_path):
    data = read_data(_csv(tmp_path / "a.csv", [(t,) for t in TEXTS], header=("Greetings",)), header=False)
    assert len(data.train) + len(data.validation) + len(data.test) == 41


def test_duplicate_column_names(tmp_path):
    path = _csv(tmp_path / "a.csv", [("a b", "c d", 1)], header=("text", "text", "label"))
    assert "--no-header" in _refused(path)


def test_broken_json_line_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a b"}\n{"text": \n')
    assert "a.jsonl line 2 is not JSON" in _refused(path)
    path.write_text('{"text": "a b"}\n7\n')
    assert "line 2 is '7', not an object" in _refused(path)


def test_not_a_parquet_file(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"text,label\n" * 20)
    assert "not a Parquet file" in _refused(path)


def test_folder_without_train(tmp_path):
    _csv(tmp_path / "one.csv", _pairs())
    _csv(tmp_path / "two.csv", _pairs())
    assert "found one.csv, two.csv" in _refused(tmp_path)


def test_folder_with_two_train_files(tmp_path):
    _csv(tmp_path / "train.csv", _pairs())
    _csv(tmp_path / "train.tsv", _pairs(), separator="\t")
    assert "train.csv and train.tsv" in _refused(tmp_path)


def test_folder_with_one_file_of_any_name(tmp_path):
    _csv(tmp_path / "reviews.csv", _pairs())
    assert len(read_data(str(tmp_path)).test) == 6


def test_test_file_without_the_text_column(tmp_path):
    _csv(tmp_path / "train.csv", _pairs())
    _csv(tmp_path / "test.csv", _pairs(), header=("Text", "label"))
    assert "test.csv lacks the column 'text'" in _refused(tmp_path)


# --- the hub --------------------------------------------------------------------------------------------------------


def test_hub_without_network_is_two_lines(monkeypatch):
    import huggingface_hub

    def unreachable(*_args, **_kwargs):
        raise ConnectionError("[Errno -2] Name or service not known")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    message = _refused("glue:mrpc")
    assert "'glue'" in message
    assert "cannot be reached" in message


def test_hub_splits_and_class_names(monkeypatch):
    import datasets

    features = datasets.Features(
        sentence=datasets.Value("string"),
        label=datasets.ClassLabel(names=["unacceptable", "acceptable"]),
        idx=datasets.Value("int32"),
    )

    def split(labels):
        columns = {"sentence": TEXTS[: len(labels)], "label": labels, "idx": list(range(len(labels)))}
        return datasets.Dataset.from_dict(columns, features=features)

    hub = datasets.DatasetDict(train=split([1, 0] * 20), validation=split([0, 1]), test=split([-1] * 5))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_args: hub)
    data = read_data("glue:cola")
    assert (data.source, data.label_names) == ("glue:cola", ("unacceptable", "acceptable"))
    assert [len(data.train), len(data.validation), len(data.test)] == [28, 12, 2]


def test_import_is_light():
    code = (
        "import sys, compiler.data; "
        "print([m for m in ('torch', 'datasets', 'pyarrow', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"
