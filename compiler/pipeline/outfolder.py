"""The output folder of a run: refused where it is not ours, claimed, written beside itself, and then put into place.

Networks are written into a folder of the run's own and moved from there name by name: a link in the way is replaced, never
followed, and a run that is killed leaves the one before it as it was.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from compiler.pipeline.options import Options
from compiler.report.comparison import FILE as COMPARISON
from compiler.report.manifest import FILE as MANIFEST
from compiler.report.manifest import read_manifest, write_manifest
from compiler.report.schema import read_front
from compiler.store.disk import check_writable, write_atomically
from compiler.store.leftovers import delete, temporary
from targets.errors import InputError, printable
from targets.json_file import read_json

MARKER = ".paretoc-run"
LOCK = ".lock"
WRITING = ".paretoc-writing"

_TAG = "This folder is written by paretoc: what it wrote before is replaced by the next run.\n"
_OLDER_FILES = re.compile(
    r"model(\.\w+)?\.onnx(\.data)?|model\.safetensors|subnet\.json|modeling_subnet\.py|README\.md|(sentence_bert_)?config\.json"
    r"|config_sentence_transformers\.json|modules\.json|tokenizer(_config)?\.json|special_tokens_map\.json|vocab\.(txt|json)"
    r"|merges\.txt|added_tokens\.json"
)
"""Files of a network in runs of releases that kept no list."""


def check_inputs(options: Options) -> None:
    """InputError where model, data, table or traffic lie in the output folder, or that lies in the model's."""
    given = {"MODEL": options.model, "--data": options.data, "--table": options.table, "--traffic": options.traffic}
    for flag, value in given.items():
        path = Path(value).expanduser() if value else None
        if path is None or not _exists(path):
            continue
        if _is_within(path, options.out):
            raise InputError(
                f"{flag} {printable(str(value), 200)} lies in {printable(str(options.out), 200)}, which this run would write "
                "over\nchoose another folder with --out"
            )
        if flag == "MODEL" and _is_within(options.out, path):
            raise InputError(
                f"{printable(str(options.out), 200)} lies in the folder of the model\nchoose another folder with --out"
            )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _is_within(path: Path, folder: Path) -> bool:
    """Whether a path is a folder or lies in it, whatever names and links lead there."""
    if not folder.exists():
        return False
    found = path.resolve()
    return any(each.exists() and each.samefile(folder) for each in (found, *found.parents))


@contextlib.contextmanager
def claimed(out: Path, *, overwrite: bool) -> Iterator[None]:
    """The output folder, ours alone while the run lasts; a folder that the run leaves empty goes with it.

    InputError where it cannot be written, another run has it, or it holds files of no run of ours and `overwrite` is not
    asked for.
    """
    from filelock import FileLock, Timeout

    is_new = not out.exists()
    if not overwrite and not is_ours(out):
        raise InputError(
            f"{printable(str(out), 200)} is no run of paretoc, and not empty\n"
            "choose another folder with --out, or write into this one with --overwrite"
        )
    check_writable(out, "--out")
    for name in (MARKER, LOCK):  # never through a link
        if (out / name).is_symlink():
            (out / name).unlink()
    write_atomically(out / MARKER, _TAG.encode())
    lock = FileLock(out / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another run is writing to {out}\nwait for it, or choose another folder with --out") from None
    with temporary(out / LOCK), temporary(out / WRITING):
        try:
            delete(out / WRITING)
            yield
        finally:
            delete(out / WRITING)
            lock.release()
            if (out / LOCK).lstat().st_size == 0:  # or somebody else's file has that name
                delete(out / LOCK)
            _remove_if_unused(out, is_new=is_new)


def _remove_if_unused(out: Path, *, is_new: bool) -> None:
    """Take the marker out of a folder that holds nothing else, and the folder away if the run made it."""
    with contextlib.suppress(OSError):
        if os.listdir(out) == [MARKER]:  # noqa: PTH208  names are all that is asked for
            (out / MARKER).unlink()
            if is_new:
                out.rmdir()


def is_ours(out: Path) -> bool:
    """Whether a folder is missing, empty, or one that a run of ours has begun to write."""
    if not out.is_dir() or {path.name for path in out.iterdir()} <= {LOCK}:
        return True
    marker = out / MARKER
    if not marker.is_symlink() and marker.is_file() and marker.read_bytes()[: len(_TAG)] == _TAG.encode():
        return True
    return any(_says_ours(out / name) for name in ("front.json", COMPARISON))


def _says_ours(path: Path) -> bool:
    """Whether a file says that paretoc wrote it, as releases without a marker left it."""
    try:
        return not path.is_symlink() and bool(read_json(path)["tool"]["name"] == "paretoc")
    except (InputError, KeyError, TypeError):
        return False


def writing(out: Path) -> Path:
    """Where networks of a run are written before they are put into place."""
    return out / WRITING


def install(out: Path) -> None:
    """Remove the run that was there, and put what was written into its place. InputError where a file of another is in the way."""
    _remove_run(out)
    staged = writing(out)
    networks = sorted(path.name for path in staged.iterdir())
    write_manifest(staged, networks)
    (staged / MANIFEST).replace(out / MANIFEST)  # from here on all that follows is known to be ours
    for network in networks:
        _move(staged / network, out / network)
    delete(staged)


def _move(source: Path, target: Path) -> None:
    """Move a file or all that is in a folder, over links and files of the same names."""
    if not source.is_dir():
        if target.is_dir() and not target.is_symlink():
            raise InputError(f"{target} is a folder, where this run writes a file\nmove it, or choose another --out")
        source.replace(target)
        return
    if target.is_symlink():
        target.unlink()
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file, where this run writes a folder\nmove it, or choose another --out")
    target.mkdir(exist_ok=True)
    for each in sorted(source.iterdir()):
        _move(each, target / each.name)


def _remove_run(out: Path) -> None:
    """Delete the files that an earlier run listed, and folders that are empty then; whatever else lies there stays."""
    try:
        manifest = read_manifest(out)
        files = list(manifest["files"]) if manifest else []
    except InputError:  # a list that was damaged says nothing
        files = []
    _remove_older(out)
    for name in files:
        path = out / name
        if not any(parent.is_symlink() for parent in path.parents if parent.is_relative_to(out) and parent != out):
            _unlink(path)
    for folder in sorted({parent for name in files for parent in Path(name).parents if parent != Path()}, reverse=True):
        if not (out / folder).is_symlink():
            with contextlib.suppress(OSError):
                (out / folder).rmdir()
    if (out / "best").is_symlink():
        (out / "best").unlink()
    _unlink(out / MANIFEST)


def _remove_older(out: Path) -> None:
    """Delete the networks of a run that has no list, by the names that its front.json and all older releases gave."""
    if (out / MANIFEST).exists() or not _says_ours(out / "front.json"):
        return
    with contextlib.suppress(InputError):
        front = read_front(out)
        for net in (front["dense"], *front["candidates"]):
            folder = out / Path(net["artifact"]["path"]).parts[0]
            if (
                folder.parent != out
                or folder.name == ".."
                or folder.is_symlink()
                or not (folder / "subnet.json").is_file()
            ):
                continue
            for each in list(folder.iterdir()):
                if each.name in {"serving", "tensorrt"} and each.is_dir() and not each.is_symlink():
                    shutil.rmtree(each)
                elif _OLDER_FILES.fullmatch(each.name):
                    _unlink(each)
        _unlink(out / "front.json")


def _unlink(path: Path) -> None:
    """Remove a file's or link's name, where it is one."""
    if path.is_symlink() or path.is_file():
        path.unlink()
