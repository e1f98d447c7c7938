"""Forms in which people have one small data set on disk: each read as the same examples, or refused by name."""

import bz2
import gzip
import io
import json
import pickle
import shutil
import zipfile

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from compiler.tasks import read_data
from targets.errors import InputError

TEXTS = [f"the film number {i} — seen, by {i + 3} people" for i in range(40)]
LABELS = ["good" if i % 4 else "bad" for i in range(40)]
RECORDS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]
FRAME = pd.DataFrame(RECORDS)
CSV = FRAME.to_csv(index=False)
LINES = "".join(json.dumps(record) + "\n" for record in RECORDS)
TEXT_OF = dict(zip(TEXTS, LABELS, strict=True))


def examples(data):
    return {
        text: data.label_names[label]
        for split in (data.train, data.validation, data.test)
        for (text,), label in zip(split.texts, split.labels, strict=True)
    }


def refusal(path, **options):
    with pytest.raises(InputError) as caught:
        read_data(str(path), **options)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def ipc(table, opened):
    sink = io.BytesIO()
    with opened(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def feathered(table):
    sink = io.BytesIO()
    feather.write_feather(table, sink)
    return sink.getvalue()


def parqueted(metadata):
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(RECORDS).replace_schema_metadata({"huggingface": metadata}), sink)
    return sink.getvalue()


def wrapped_rows():
    return {
        "features": [],
        "rows": [{"row_idx": i, "row": row, "truncated_cells": []} for i, row in enumerate(RECORDS)],
    }


FORMS = {
    "plain.csv": CSV.encode(),
    "windows.csv": CSV.replace("\n", "\r\n").encode(),
    "old_mac.csv": CSV.replace("\n", "\r").encode(),
    "mark.csv": b"\xef\xbb\xbf" + CSV.encode(),
    "utf16.csv": CSV.encode("utf-16"),
    "utf32.csv": CSV.encode("utf-32"),
    "excel.csv": ("sep=;\r\n" + FRAME.to_csv(index=False, sep=";", lineterminator="\r\n")).encode(),
    "semicolons.csv": FRAME.to_csv(index=False, sep=";").encode(),
    "tabs.csv": FRAME.to_csv(index=False, sep="\t").encode(),
    "pipes.csv": FRAME.to_csv(index=False, sep="|").encode(),
    "quoted.csv": FRAME.to_csv(index=False, quoting=1).encode(),
    "index.csv": FRAME.to_csv().encode(),
    "commas.tsv": CSV.encode(),
    "plain.tsv": FRAME.to_csv(index=False, sep="\t").encode(),
    "plain.tab": FRAME.to_csv(index=False, sep="\t").encode(),
    "tabs.txt": FRAME.to_csv(index=False, sep="\t").encode(),
    "fasttext.txt": "".join(f"__label__{r['label']} {r['text']}\n" for r in RECORDS).encode(),
    "plain.csv.gz": gzip.compress(CSV.encode()),
    "parts.jsonl.gz": gzip.compress(LINES[:700].encode()) + gzip.compress(LINES[700:].encode()),
    "joined.csv": (CSV[: CSV.index("\n", 900) + 1] + "\ufeff" + CSV.replace(CSV[: CSV.index("\n", 900) + 1], "text,label\n")).encode(),
    "lines.jsonl": LINES.encode(),
    "commas.jsonl": LINES.replace("}\n", "},\n").encode(),
    "array_over_lines.jsonl": ("[\n" + LINES.replace("}\n", "},\n") + "]\n").encode(),
    "array.jsonl": json.dumps(RECORDS).encode(),
    "indented.json": json.dumps(RECORDS, indent=2).encode(),
    "records.json": FRAME.to_json(orient="records").encode(),
    "index.json": FRAME.to_json(orient="index").encode(),
    "columns.json": FRAME.to_json(orient="columns").encode(),
    "split.json": FRAME.to_json(orient="split").encode(),
    "table.json": FRAME.to_json(orient="table").encode(),
    "lines.json": FRAME.to_json(orient="records", lines=True).encode(),
    "columnar.json": json.dumps(FRAME.to_dict("list")).encode(),
    "data.json": json.dumps({"data": RECORDS}).encode(),
    "version.json": json.dumps({"version": "1.0", "license": "CC", "data": RECORDS}).encode(),
    "rows.json": json.dumps(wrapped_rows()).encode(),
    "row.jsonl": "".join(json.dumps({"row": row}) + "\n" for row in RECORDS).encode(),
    "doccano.jsonl": "".join(json.dumps({**row, "label": [row["label"]]}) + "\n" for row in RECORDS).encode(),
    "stream.arrow": ipc(pa.Table.from_pylist(RECORDS), pa.ipc.new_stream),
    "file.arrow": ipc(pa.Table.from_pylist(RECORDS), pa.ipc.new_file),
    "plain.feather": feathered(pa.Table.from_pylist(RECORDS)),
    "odd_metadata.parquet": parqueted("no JSON at all"),
    "other_metadata.parquet": parqueted('{"info": [1, {"features": null}]}'),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_the_same_examples_in_every_form(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FORMS[name])
    data = read_data(str(path))
    assert (data.task, data.text_columns, data.label_column) == ("classification", ("text",), "label")
    assert data.label_names == ("bad", "good")
    assert examples(data) == TEXT_OF


def test_rows_that_name_the_columns_again_are_dropped_with_their_lines(tmp_path):
    (tmp_path / "a.csv").write_text(CSV + CSV.replace("number", "numero"))
    data = read_data(str(tmp_path / "a.csv"))
    assert len(examples(data)) == 80
    assert data.label_names == ("bad", "good")
    assert any("a.csv line 42: the header stands there again" in note for note in data.notes)


def test_a_folder_of_save_to_disk_is_what_datasets_loads(tmp_path):
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["neg", "pos"]))
    columns = {"text": TEXTS, "label": [int(label == "good") for label in LABELS]}
    whole = datasets.Dataset.from_dict(columns, features=features)
    whole.save_to_disk(str(tmp_path / "one"), num_shards=2)
    parts = whole.train_test_split(0.25, seed=0)
    datasets.DatasetDict(train=parts["train"], validation=parts["test"]).save_to_disk(str(tmp_path / "several"))
    one, several = read_data(str(tmp_path / "one")), read_data(str(tmp_path / "several"))
    assert (one.label_names, one.numbered) == (("neg", "pos"), True)
    loaded = datasets.load_from_disk(str(tmp_path / "one"))
    assert examples(one) == {row["text"]: ("neg", "pos")[row["label"]] for row in loaded}
    assert [text for (text,) in several.test.texts] == list(parts["test"]["text"])


TAGS, TOPICS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC"), ("sport", "food", "art")
WORDS = [text.split() for text in TEXTS]
WORD_TAGS = [
    [(i + place) % 5 // 2 * 2 - ((i + place) % 5 // 2 > 0) for place in range(len(words))]
    for i, words in enumerate(WORDS)
]
ROW_TOPICS = [[topic for topic in range(3) if (i >> topic) % 2] for i in range(40)]
LISTS = {
    "List": datasets.List,
    "Sequence": datasets.Sequence,
    "LargeList": datasets.LargeList,
    "list": lambda feature: [feature],
}


def with_tags(of_lists):
    """Words and numbered tags, whose names only the features say."""
    features = {
        "tokens": of_lists(datasets.Value("string")),
        "ner_tags": of_lists(datasets.ClassLabel(names=list(TAGS))),
    }
    columns = {"tokens": WORDS, "ner_tags": WORD_TAGS}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def with_topics(of_lists):
    """Texts and lists of numbered labels, whose names only the features say."""
    features = {"text": datasets.Value("string"), "topics": of_lists(datasets.ClassLabel(names=list(TOPICS)))}
    return datasets.Dataset.from_dict({"text": TEXTS, "topics": ROW_TOPICS}, features=datasets.Features(features))


def kept_as(form, whole, folder):
    """Write a data set in a form; its path."""
    path = folder / ("saved" if form in {"saved", "splits"} else f"a.{form}")
    if form == "parquet":
        whole.to_parquet(path)
    elif form == "arrow":
        path.write_bytes(ipc(whole.data.table, pa.ipc.new_file))
    elif form == "feather":
        path.write_bytes(feathered(whole.data.table))
    elif form == "saved":
        whole.save_to_disk(path, num_shards=2)
    else:
        datasets.DatasetDict(train=whole, validation=whole.select(range(10))).save_to_disk(path)
    return path


@pytest.mark.parametrize(
    ("kind", "form"),
    [*((kind, "parquet") for kind in LISTS), *(("List", form) for form in ("arrow", "feather", "saved", "splits"))],
)
def test_numbers_in_lists_have_the_names_that_the_features_give_them(tmp_path, kind, form):
    tagged = read_data(str(kept_as(form, with_tags(LISTS[kind]), tmp_path)))
    assert (tagged.task, tagged.label_names, tagged.numbered) == ("token_classification", TAGS, True)
    expected = {" ".join(words): [TAGS[tag] for tag in tags] for words, tags in zip(WORDS, WORD_TAGS, strict=True)}
    held = zip(tagged.train.texts, tagged.train.labels, strict=True)
    assert all([TAGS[tag] for tag in tags] == expected[text] for (text,), tags in held)
    shutil.rmtree(tmp_path / "saved", ignore_errors=True)
    several = read_data(str(kept_as(form, with_topics(LISTS[kind]), tmp_path)), label_column="topics")
    assert (several.task, several.label_names, several.numbered) == ("multi_label", TOPICS, True)
    expected = dict(zip(TEXTS, ROW_TOPICS, strict=True))
    held = zip(several.train.texts, several.train.labels, strict=True)
    assert all(np.flatnonzero(labels).tolist() == expected[text] for (text,), labels in held)


@pytest.mark.parametrize("kind", LISTS)
def test_lists_of_a_hub_data_set_have_the_names_of_its_features(monkeypatch, kind):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for made, names in ((with_tags, TAGS), (with_topics, TOPICS)):
        hub = datasets.DatasetDict(train=made(LISTS[kind]))
        monkeypatch.setattr(datasets, "load_dataset", lambda *_, hub=hub: hub)
        data = read_data("some/corpus", label_column=hub["train"].column_names[1])
        assert (data.label_names, data.numbered) == (names, True)


def test_a_number_without_a_name_is_refused_with_its_row(tmp_path):
    tags = [[-1 if (i, place) == (4, 1) else tag for place, tag in enumerate(own)] for i, own in enumerate(WORD_TAGS)]
    table = with_tags(datasets.List).data.table
    parquet.write_table(table.set_column(1, table.schema.field(1), pa.chunked_array([tags])), tmp_path / "a.parquet")
    assert "a.parquet row 5: '-1' in ner_tags is no tag of 0 to 4" in refusal(tmp_path / "a.parquet")


@pytest.mark.parametrize("name", ["../outside.arrow", "/etc/passwd", ""])
def test_a_saved_folder_that_names_files_elsewhere_is_refused(tmp_path, name):
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    assert "names no Arrow files beside it" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("train", "dev", "test"),
    [
        ("train.csv", "dev.csv", "test.csv"),
        ("training.csv", "devel.csv", "testing.csv"),
        ("trn.csv", "val.csv", "tst.csv"),
        ("TrainSet.csv", "ValidSet.csv", "TestSet.csv"),
        ("imdb_train_small.csv", "imdb_validation_small.csv", "imdb_test_small.csv"),
        ("train-v1.1.csv", "dev-v1.1.csv", "test-v1.1.csv"),
        ("Train Data.csv", "Eval Data.csv", "Holdout Data.csv"),
        ("data/train.csv", "data/dev.csv", "data/test.csv"),
        ("train.csv.gz", "dev.csv.gz", "test.csv.gz"),
    ],
)
def test_names_of_splits(tmp_path, train, dev, test):
    for name, frame in ((train, FRAME[:24]), (dev, FRAME[24:34]), (test, FRAME[34:])):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        frame.to_csv(tmp_path / name, index=False)
    (tmp_path / "._train.csv").write_bytes(b"\0\5\26\7")
    data = read_data(str(tmp_path))
    assert [len(data.train), len(data.validation), len(data.test)] == [24, 10, 6]


def test_a_test_file_whose_labels_are_empty_is_not_used(tmp_path):
    FRAME.to_csv(tmp_path / "train.csv", index=False)
    FRAME[:10].to_csv(tmp_path / "dev.csv", index=False)
    FRAME[:10].assign(label=None).to_csv(tmp_path / "test.csv", index=False)
    assert len(read_data(str(tmp_path)).test) == 10


def zipped():
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("train.csv", CSV)
    return sink.getvalue()


CONLL = "-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\nPeter NNP B-NP B-PER\nsleeps VBZ B-VP O\n"
SQUAD = {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": "c", "qas": []}]}]}
NAMED = {
    "sheet.xlsx": (zipped(), "spreadsheet"),
    "frame.pkl": (pickle.dumps(RECORDS), "pickle"),
    "tensors.pt": (b"PK\3\4", "pickle"),
    "all.zip": (zipped(), "archive"),
    "all.csv.bz2": (bz2.compress(CSV.encode()), "gzip"),
    "all.gz": (gzip.compress(CSV.encode()), "data.csv.gz"),
    "cut.csv.gz": (gzip.compress(CSV.encode())[:-30], "in the middle"),
    "no.csv.gz": (CSV.encode(), "no gzip file"),
    "bomb.csv.gz": (gzip.compress(b"a" * 70_000_000), "expands"),
    "ner.conllu": (CONLL.encode(), "treebank"),
    "ner.jsonl": (b'{"tokens": ["EU", "rejects"], "ner_tags": [1, 0]}\n' * 4, "token classification"),
    "squad.json": (json.dumps(SQUAD).encode(), "no rows"),
    "squad.jsonl": (
        b'{"question": "who is it", "context": "it is he", "answers": {"text": ["she"], "answer_start": [6]}}\n' * 4,
        "'she' is not at character 6",
    ),
    "splits.json": (json.dumps({"train": RECORDS, "test": RECORDS}).encode(), "several splits: train, test"),
    "values.json": (FRAME.to_json(orient="values").encode(), "without names of columns"),
    "config.json": (json.dumps({"a": 1, "b": {"c": 2}}).encode(), "no known shape"),
    "deep.json": (b"[" * 100_000, "nested"),
    "deep.jsonl": (b'{"text": ' + b"[" * 200 + b"]" * 200 + b"}\n", "nested"),
    "broken.jsonl": ((LINES + '{"text": "cut\n').encode(), "line 41 is not JSON"),
    "key.jsonl": (b'{"te\\ud800xt": "a b", "label": 1}\n' * 4, "half of a character"),
    "label.jsonl": (b'{"text": "a b", "label": "x"}\n{"text": "a c", "label": "\\udc00"}\n' * 4, "half of a character"),
    "nan.jsonl": (b'{"text": "a b", "label": 1}\n{"text": "a c", "label": NaN}\n' * 4, "line 2: the label (label) is empty"),
    "latin.csv": (CSV.replace("—", "é").encode("latin-1"), "--encoding latin-1"),
    "windows.csv": (CSV.replace("—", "\u2019").encode("cp1252"), "--encoding windows-1252"),
    "mixed.csv": (CSV.encode() + "caf\xe9,good\n".encode("latin-1"), "line 42; the rest of it is"),
    "nul.csv": (CSV.encode("utf-16-le"), "utf-16-le"),
    "twice.parquet": (parqueted("{}")[:-8] + b"PAR1PAR1", "not a Parquet file"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_what_is_not_read_is_named_in_three_lines(tmp_path, name):
    content, said = NAMED[name]
    (tmp_path / name).write_bytes(content)
    assert said in refusal(tmp_path / name)


@pytest.mark.parametrize(
    "encoding", ["punycode", "idna", "rot13", "base64", "hex", "unicode_escape", "undefined", "a\0b", "\ud800"]
)
def test_encodings_that_no_text_file_is_in(tmp_path, encoding):
    (tmp_path / "a.csv").write_text(CSV)
    assert "encoding" in refusal(tmp_path / "a.csv", encoding=encoding)


def test_a_folder_of_token_labels_is_read(tmp_path):
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.conll").write_text(f"{CONLL}\n{CONLL}")
    data = read_data(str(tmp_path))
    assert (data.task, data.label_names) == ("token_classification", ("O", "B-ORG", "B-PER"))
    assert data.train.texts == (("EU rejects",), ("Peter sleeps",)) * 2
    assert any("words are column 1, tags the last of 4" in note for note in data.notes)


def test_labels_that_stand_before_the_text_are_noted(tmp_path):
    (tmp_path / "trec.txt").write_text(
        "\n".join(f"{('LOC:city', 'NUM:date')[i % 2]} {text}" for i, text in enumerate(TEXTS))
    )
    assert any("'LOC:city'" in note for note in read_data(str(tmp_path / "trec.txt")).notes)
