"""Where a run works: its store, its output folder claimed, its threads, and what a full disk is to the user."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError

from compiler.pipeline.options import Options
from compiler.store import Store, default_root
from compiler.store.store import check_writable
from compiler.supernet import leading
from targets import usable_cpus
from targets.errors import InputError


@contextlib.contextmanager
def workplace(options: Options) -> Iterator[Store]:
    """The store of a run, while its output folder is its own and all processes that torchrun started train with it.

    InputError where a folder cannot be written, another run has it, it holds the model, or the disk is full.
    """
    _refuse_own_parts(options)
    with leading(), _store(options) as store, _claimed(options.out), _threads(), _disk_errors():
        yield store


def _refuse_own_parts(options: Options) -> None:
    """InputError where the model lies in a run that this one would write over."""
    model, out = Path(options.model).expanduser().resolve(), options.out.resolve()
    if options.model and out in model.parents and (out / "front.json").is_file():
        raise InputError(
            f"{options.model} is part of the run in {options.out}, which this run would write over\n"
            "choose another folder with --out"
        )


@contextlib.contextmanager
def _store(options: Options) -> Iterator[Store]:
    """That of the options; of a fresh run one of its own, which goes with it."""
    if not options.fresh:
        yield Store(options.cache or default_root())
        return
    root = Path(tempfile.mkdtemp(prefix="paretoc-"))
    try:
        yield Store(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """The output folder, ours alone while the run lasts. InputError where it cannot be written or another run has it."""
    from filelock import FileLock, Timeout

    check_writable(out, "--out")
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another run is writing to {out}\nwait for it, or choose another folder with --out") from None
    try:
        yield
    finally:
        lock.release()
        (out / ".lock").unlink(missing_ok=True)


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is None or (error.filename is None and error.strerror is None):
            raise
        raise InputError(
            f"writing failed: {error.strerror}\nwhat was computed is kept; start again when there is room"
        ) from None
    except (SafetensorError, RuntimeError) as error:  # what safetensors and torch.save make of a full disk
        reason = str(error).splitlines()[0] if str(error) else ""
        if "I/O error" not in reason and "PytorchStreamWriter" not in reason:
            raise
        raise InputError(
            f"writing failed: {reason}\nwhat was computed is kept; start again when there is room"
        ) from None


@contextlib.contextmanager
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(usable_cpus())
    try:
        yield
    finally:
        torch.set_num_threads(before)
