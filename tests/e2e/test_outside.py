"""Nothing of the user's is written over: what a command would write, held against what it reads and what is there."""

import json
import os

import pytest

from compiler.cli.outputs import check_benchmark, check_table
from targets.errors import InputError
from tests.cli import call, write_texts
from tests.tiny import save_tiny


def tree(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() if p.is_file() else str(p.readlink()) if p.is_symlink() else None
            for p in root.rglob("*")}  # fmt: skip


@pytest.fixture
def home(tmp_path):
    """A model in a folder of models, texts, and a folder of somebody's own."""
    save_tiny(tmp_path / "zoo" / "dense")
    write_texts(tmp_path / "texts.txt")
    for name in ("own/best", "own/front.json", "own/.lock", "own/dense/serving/notes.md", "own/table.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine", encoding="utf-8")
    (tmp_path / "short").symlink_to(tmp_path / "zoo")
    return tmp_path


REFUSED = {
    "a folder of other files": ("zoo/dense", "--out", "own"),
    "one of them as a target's": ("zoo/dense", "--target", "null", "--target", "cpu", "--out", "own"),
    "the folder of the model's folder": ("zoo/dense", "--out", "zoo", "--overwrite"),
    "by another name": ("zoo/dense", "--out", "short", "--overwrite"),
    "the model": ("zoo/dense", "--out", "zoo/dense", "--overwrite"),
    "below the model": ("zoo/dense", "--out", "zoo/dense/out"),
    "a folder with the data": ("zoo/dense", "--data", "own/best", "--out", "own", "--overwrite"),
    "a folder with the table": ("zoo/dense", "--table", "own/table.json", "--out", "own", "--overwrite"),
    "a folder with the traffic": ("zoo/dense", "--traffic", "own/table.json", "--out", "own", "--overwrite"),
    "a cache of other files": ("zoo/dense", "--cache", "own", "--out", "out"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_run_that_would_write_over_the_users_files_is_refused(home, monkeypatch, case):
    monkeypatch.chdir(home)
    before = tree(home)
    done = call(*REFUSED[case], "--quiet", *(() if "--data" in REFUSED[case] else ("--data", "texts.txt")))
    assert done.code == 2, done.err
    assert 1 <= len(done.message) <= 3
    assert "Traceback" not in done.err
    assert tree(home) == before


def test_a_table_takes_the_place_of_a_table_only(home):
    table = home / "cpu.json"
    check_table(table, None, None)
    table.write_text(json.dumps({"kind": "paretoc cost table", "target": "cpu", "entries": [], "fingerprint": {}}))
    check_table(table, None, "a-name/of-the-hub")
    for path, base in (
        (home / "own" / "table.json", None), (home / "zoo" / "dense" / "config.json", None), (home / "texts.txt", None),
        (table, table), (home / "zoo" / "dense" / "new.json", None), (home / "own", None), (home / "none" / "x", None),
    ):  # fmt: skip
        with pytest.raises(InputError, match="-o"):
            check_table(path, base, str(home / "zoo" / "dense"))
    os.mkfifo(home / "pipe")
    with pytest.raises(InputError, match="no cost table"):
        check_table(home / "pipe", None, None)


def test_a_benchmark_takes_the_place_of_a_benchmark_only(home):
    (home / "own" / "bench.md").write_text("mine")
    with pytest.raises(InputError, match=r"bench\.md"):
        check_benchmark(home / "own", [])
    (home / "own" / "bench.json").write_text(json.dumps({"tool": {"name": "paretoc"}}))
    check_benchmark(home / "own", [])
    with pytest.raises(InputError, match="a file to time"):
        check_benchmark(home / "own", [home / "own" / "bench.md"])


def test_a_profile_is_refused_before_anything_is_measured(home, monkeypatch):
    monkeypatch.chdir(home)
    before = tree(home)
    for path in ("own/table.json", "zoo/dense/model.safetensors", "zoo/dense/table.json"):
        done = call("profile", "--target", "null", "--model", "zoo/dense", "-o", path)
        assert done.code == 2, done.err
        assert len(done.message) <= 3
    assert tree(home) == before
