"""Everything that was inferred, as one value: printed by `compile data`, and first by a run."""

import json

import pytest

from compiler.data import demo_data, describe, description_lines
from compiler.tasks import read_data
from targets.errors import InputError
from tests.cli import call, texts, write_rows, write_texts
from tests.tiny import save_tiny

LABELS = ["good" if i % 4 else "bad" for i in range(40)]


@pytest.fixture
def reviews(tmp_path):
    rows = [f"{i},{text},{label}" for i, (text, label) in enumerate(zip(texts(40), LABELS, strict=True))]
    path = tmp_path / "reviews.csv"
    path.write_text("\n".join(["idx,review,sentiment", *rows]) + "\n", encoding="utf-8")
    return path


def test_a_description_holds_all_that_was_inferred(reviews):
    found = describe(read_data(str(reviews)))
    assert found["files"] == [
        {
            "split": "",
            "name": "reviews.csv",
            "rows": 40,
            "format": "CSV",
            "encoding": "UTF-8",
            "separator": ",",
            "header": True,
        }
    ]
    assert (found["task"], found["text_columns"], found["label_column"]) == ("classification", ["review"], "sentiment")
    assert found["unused_columns"] == ["idx"]
    assert [(each["name"], sum(each[split] for split in found["splits"])) for each in found["classes"]] == [
        ("bad", 10),
        ("good", 30),
    ]
    assert found["splits"] == {"train": 28, "validation": 6, "test": 6}
    lengths = sorted(map(len, texts(40)))
    assert found["characters"]["most"] == lengths[-1]
    assert found["characters"]["median"] == (lengths[19] + lengths[20]) / 2
    assert found["scores"] is None


def test_scores_and_files_of_several_splits(tmp_path):
    write_rows(tmp_path / "train.csv", [i / 8 for i in range(40)])
    write_rows(tmp_path / "test.csv", [5.5, 0.25, 1.5, 7.125], header="text,label")
    found = describe(read_data(str(tmp_path)))
    assert [(file["name"], file["split"], file["rows"]) for file in found["files"]] == [
        ("train.csv", "train", 40),
        ("test.csv", "test", 4),
    ]
    assert (found["classes"], found["scores"]["least"], found["scores"]["most"]) == (None, 0.0, 7.125)
    assert found["scores"]["mean"] == pytest.approx((sum(i / 8 for i in range(40)) + 14.375) / 44)


def test_lines_are_printable_and_say_each_note_once(tmp_path):
    labels = ["\x1b[31mred" if i % 2 else "blue\u202e" for i in range(40)]
    write_rows(tmp_path / "a.csv", labels, header="text,la\x1bbel")
    lines = description_lines(read_data(str(tmp_path / "a.csv"), label_column="la\x1bbel"))
    assert all(line.isprintable() for line in lines)
    assert any("\\x1b[31mred" in line for line in lines)
    assert len(lines) == len(set(lines))


def test_the_demo_has_a_description_too():
    assert describe(demo_data())["splits"] == {"train": 320, "validation": 140, "test": 140}


def test_the_verb_prints_a_block_or_one_object(reviews):
    shown = call("data", reviews)
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.splitlines() == description_lines(read_data(str(reviews)))
    assert shown.out.startswith(
        "data        reviews.csv\nfile        reviews.csv: CSV, UTF-8, separator ',', header, 40 rows\n"
    )
    as_json = call("data", reviews, "--json", "--seed", 1)
    assert json.loads(as_json.out) == describe(read_data(str(reviews), seed=1))


def test_the_verb_takes_what_a_run_takes(reviews):
    shown = call(
        "data", reviews, "--task", "embedding", "--text-columns", "review", "--encoding", "latin-1", "--header"
    )
    assert "task        embedding" in shown.out
    assert "latin-1" in shown.out
    refused = call("data", reviews, "--label-column", "label")
    assert (refused.code, refused.out) == (2, "")
    assert "no column 'label'" in refused.err


@pytest.mark.parametrize("quiet", [False, True])
def test_a_run_prints_the_block_first_and_not_on_stdout(tmp_path, monkeypatch, quiet):
    def stop(*_):
        raise InputError("stopped here")

    monkeypatch.setattr("compiler.pipeline.run.find_demand", stop)
    data = write_texts(tmp_path / "texts[red].txt")
    done = call(
        save_tiny(tmp_path / "encoder"), "--data", data, "--target", "null", "--seq-len", 32, "--out", tmp_path / "out",
        "--cache", tmp_path / "cache", *(["--quiet"] if quiet else []),
    )  # fmt: skip
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith("error: stopped here\n")
    first, *others = description_lines(read_data(str(data)), notes=False)
    assert done.err.startswith(f"{first}\n") != quiet
    assert all((line in done.err) != quiet for line in others if not line.startswith("splits"))
