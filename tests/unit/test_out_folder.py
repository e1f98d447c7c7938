"""The output folder: refused where it is not ours, nothing written through a link, an earlier run's files gone and no others."""

import json
import os
from pathlib import Path

import pytest
import torch

from compiler.pipeline.options import Options
from compiler.pipeline.outfolder import MARKER, check_inputs, claimed, install, is_ours, writing
from compiler.pipeline.workplace import workplace
from compiler.report.manifest import FILE, read_manifest, write_manifest
from targets.errors import InputError, TargetError


def put(root, name, text="theirs"):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def tree(root):
    return {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}


def run(out, *names, overwrite=False):
    """A run that writes these files of networks."""
    with claimed(out, overwrite=overwrite):
        for name in names:
            put(writing(out), name, "ours")
        install(out)
        put(out, "front.json", "ours")
        write_manifest(out, sorted({name.partition("/")[0] for name in names}))


@pytest.mark.parametrize(
    "name", ["best", "front.json", ".lock", "dense/serving/notes.md", "anything", MARKER, "targets.json"]
)
def test_a_folder_of_other_files_is_refused_and_left_as_it_is(tmp_path, name):
    put(tmp_path / "out", name)
    before = tree(tmp_path)
    if name != ".lock":
        with pytest.raises(InputError, match="--overwrite"):
            run(tmp_path / "out", "dense/model.onnx")
        assert tree(tmp_path) == before
    else:
        run(tmp_path / "out", "dense/model.onnx")
        assert (tmp_path / "out" / ".lock").read_text() == "theirs"


def test_with_overwrite_other_files_stay_beside_ours(tmp_path):
    out = tmp_path / "out"
    for name in ("notes.txt", "dense/notes.txt", "dense/model.onnx"):
        put(out, name)
    run(out, "dense/model.onnx", overwrite=True)
    assert tree(out).items() >= {"notes.txt": "theirs", "dense/notes.txt": "theirs", "dense/model.onnx": "ours"}.items()


@pytest.mark.parametrize("name", ["front.json", "targets.json"])
def test_runs_of_older_releases_are_recognised(tmp_path, name):
    put(tmp_path, name, json.dumps({"schema": 1, "tool": {"name": "paretoc", "version": "0.1.0"}}))
    assert is_ours(tmp_path)
    put(tmp_path, name, json.dumps({"schema": 1, "tool": {"name": "webpack"}}))
    assert not is_ours(tmp_path)


def test_a_run_that_was_killed_is_recognised(tmp_path):
    with claimed(tmp_path / "out", overwrite=False):
        put(writing(tmp_path / "out"), "dense/model.onnx")
        os.system(f"cp -r {tmp_path / 'out'} {tmp_path / 'copy'}")  # noqa: S605
    assert is_ours(tmp_path / "copy")
    run(tmp_path / "copy", "dense/other.onnx")
    assert "dense/model.onnx" not in tree(tmp_path / "copy")


def test_a_run_that_writes_nothing_leaves_nothing(tmp_path):
    with claimed(tmp_path / "out", overwrite=False):
        pass
    assert not (tmp_path / "out").exists()
    (tmp_path / "empty").mkdir()
    with claimed(tmp_path / "empty", overwrite=False):
        pass
    assert not list((tmp_path / "empty").iterdir())


@pytest.mark.parametrize("link", ["dense", "dense/serving", "dense/model.onnx", "best", "front.json", FILE, ".lock"])
def test_links_are_replaced_and_their_targets_stay(tmp_path, link):
    out, outside = tmp_path / "out", tmp_path / "outside"
    put(outside, "folder/model.onnx")
    put(outside, "file")
    run(out, "dense/model.onnx", "dense/serving/server.py")
    path = out / link
    is_folder = path.is_dir()
    os.system(f"rm -rf {path}")  # noqa: S605
    path.symlink_to(outside / ("folder" if is_folder or link == "best" else "file"))
    before = tree(outside)
    run(out, "dense/model.onnx", "dense/serving/server.py")
    assert tree(outside) == before
    assert not any(each.is_symlink() for each in (out, *out.rglob("*")))
    assert (out / "dense" / "model.onnx").read_text() == "ours"


def test_hard_links_keep_their_content(tmp_path):
    out = tmp_path / "out"
    run(out, "dense/model.onnx")
    os.link(out / "dense" / "model.onnx", tmp_path / "kept.onnx")
    with claimed(out, overwrite=False):
        put(writing(out), "dense/model.onnx", "newer")
        install(out)
    assert (tmp_path / "kept.onnx").read_text() == "ours"
    assert (out / "dense" / "model.onnx").read_text() == "newer"


def test_networks_of_an_earlier_run_go_and_other_files_stay(tmp_path):
    out = tmp_path / "out"
    run(out, "dense/model.onnx", "dense/tensorrt/status.json", "n001/model.onnx", "n002/model.onnx")
    put(out, "n002/notes.txt")
    put(out, "mine/model.onnx")
    run(out, "dense/model.onnx")
    assert {name for name in tree(out) if "/" in name} == {"dense/model.onnx", "n002/notes.txt", "mine/model.onnx"}
    assert not (out / "n001").exists()
    assert set(read_manifest(out)["files"]) == {"front.json", "dense/model.onnx"}


@pytest.mark.parametrize("names", [["../outside/file"], ["/etc/hostname"], ["link/file"], ["dense/../../outside/file"]])
def test_a_list_that_leaves_the_folder_deletes_nothing(tmp_path, names):
    out = tmp_path / "out"
    run(out, "dense/model.onnx")
    put(tmp_path, "outside/file")
    (out / "link").symlink_to(tmp_path / "outside")
    put(
        out,
        FILE,
        json.dumps(
            {
                "schema": 1,
                "tool": {"name": "paretoc", "version": "1"},
                "files": {n: {"bytes": 6} for n in names},
            }
        ),
    )
    run(out, "dense/model.onnx")
    assert (tmp_path / "outside" / "file").read_text() == "theirs"


def test_a_file_where_a_network_goes_is_refused(tmp_path):
    out = tmp_path / "out"
    run(out, "dense/model.onnx")
    put(out, "n001")
    with pytest.raises(InputError, match="n001 is a file"):
        run(out, "n001/model.onnx")
    assert (out / "n001").read_text() == "theirs"


def test_a_run_that_is_stopped_before_its_networks_are_whole_leaves_the_one_before(tmp_path):
    out = tmp_path / "out"
    run(out, "dense/model.onnx")
    before = tree(out)

    def killed():
        put(writing(out), "dense/model.onnx", "half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), claimed(out, overwrite=False):
        killed()
    assert tree(out) == before


@pytest.mark.parametrize(
    ("field", "place"),
    [
        ("model", "out"), ("model", "out/dense"), ("model", "link"), ("data", "out/front.json"), ("data", "out"),
        ("table", "out/cpu.json"), ("traffic", "out/traffic.json"), ("data", "hard"),
    ],
)  # fmt: skip
def test_what_a_run_reads_is_never_written_over(tmp_path, field, place):
    out = tmp_path / "out"
    for name in ("dense/config.json", "front.json", "cpu.json", "traffic.json"):
        put(out, name)
    (tmp_path / "link").symlink_to(out / "dense")
    (tmp_path / "hard").symlink_to(out / "front.json")
    before = tree(out)
    path = tmp_path / place
    given = {"model": str(tmp_path / "elsewhere"), field: path if field == "table" else str(path)}
    options = Options(**given, out=out, overwrite=True, cache=tmp_path / "cache")
    with pytest.raises(InputError, match="lies in"), workplace(options):
        pass
    assert tree(out) == before


def test_a_run_does_not_write_into_its_model(tmp_path):
    put(tmp_path, "model/config.json")
    for out in (tmp_path / "model", tmp_path / "model" / "out", Path(f"{tmp_path}/x/../model/out")):
        with pytest.raises(InputError, match="lies in"):
            check_inputs(Options(model=str(tmp_path / "model"), out=out))
    check_inputs(Options(model=str(tmp_path / "model"), out=tmp_path / "out", data=str(tmp_path)))
    check_inputs(Options(model="x" * 300, out=tmp_path / "out", data="x" * 3000))


def test_several_targets_are_refused_where_the_folder_of_one_is_not_ours(tmp_path):
    options = Options(model="m", out=tmp_path / "out", cache=tmp_path / "cache")
    each = [Options(model="m", out=tmp_path / "out" / name) for name in ("cpu", "a10g")]
    (tmp_path / "out").mkdir()
    put(tmp_path / "out", "targets.json", json.dumps({"tool": {"name": "paretoc"}}))
    put(tmp_path / "out", "a10g/notes.txt")
    with pytest.raises(InputError, match="a10g is no run of paretoc"), workplace(options, each):
        pass
    assert not (tmp_path / "out" / "cpu").exists()


def test_temporary_files_of_a_run_go_with_it(tmp_path, monkeypatch):
    import tempfile

    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with workplace(Options(model="m", out=tmp_path / "out", fresh=True)) as store:
        Path(tempfile.mkdtemp()).joinpath("left").write_text("")
        assert store.root.is_relative_to(tmp_path / "tmp")
        assert os.environ["TMPDIR"] == tempfile.gettempdir()
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(28, "No space left on device", "/x/y"), "when there is room"),
        (OSError(122, "Disk quota exceeded"), "when there is room"),
        (OSError(13, "Permission denied", "/x/y"), "/x/y: Permission denied"),
        (OSError(2, "No such file or directory", "/x/y"), "/x/y: No such file or directory"),
    ],
)
def test_an_error_of_a_file_is_said_as_what_it_is(tmp_path, error, says):
    options = Options(model="m", out=tmp_path / "out", cache=tmp_path / "cache")
    with pytest.raises(InputError, match=says) as raised, workplace(options):
        raise error
    assert ("room" in str(raised.value)) == ("room" in says)


def test_a_gpu_without_memory_left_is_said_with_what_to_do(tmp_path):
    options = Options(model="m", out=tmp_path / "out", cache=tmp_path / "cache")
    torchs = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 139.81 GiB of which 1 GiB is free."
    with pytest.raises(TargetError, match="Tried to allocate") as raised, workplace(options):
        raise torch.OutOfMemoryError(torchs)
    assert raised.value.exit_code == 3
    assert "--device cpu" in str(raised.value).splitlines()[-1]


def test_an_error_that_is_none_of_a_file_stays(tmp_path):
    for error in (ConnectionRefusedError(111, "Connection refused"), RuntimeError("PytorchStreamWriter failed")):
        with pytest.raises(type(error)), workplace(Options(model="m", out=tmp_path / "out", cache=tmp_path / "cache")):
            raise error
