"""Where a run works: its store, output folders, temporary files and threads, and what errors of disks and GPUs are."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError

from compiler.pipeline.options import Options
from compiler.pipeline.outfolder import check_inputs, claimed
from compiler.slicing import fastest_float32, float32_by
from compiler.store import DiskStore, Store, key_of, open_store
from compiler.store.disk import file_error, is_full
from compiler.store.leftovers import temporary
from compiler.supernet import leading
from targets import cpu_name, usable_cpus
from targets.errors import InputError, TargetError, printable, reason

_WRITING = {errno.EIO, errno.EFBIG, errno.EROFS, errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""Errors of files where none is named, as writing to an open one leaves it; others may be of a network."""


@contextlib.contextmanager
def workplace(options: Options, each: Sequence[Options] = ()) -> Iterator[Store]:
    """The store of a run, while its output folder is its own and all processes that torchrun started train with it.

    `each` are the runs of several targets, whose folders lie below. InputError where a folder cannot be written or is not
    ours, another run has it, it holds what the run reads, or the disk is full.
    """
    for one in (options, *each):
        check_inputs(one)
    with (
        leading(),
        _own_temporary(),
        _all_claimed([options, *each]),
        _store(options) as store,
        _threads(),
        _disk_errors(),
        _memory_errors(),
        _arithmetic(store),
    ):
        yield store


@contextlib.contextmanager
def _all_claimed(each: Sequence[Options]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for options in each:
            stack.enter_context(claimed(options.out, overwrite=options.overwrite))
        yield


@contextlib.contextmanager
def _arithmetic(store: Store) -> Iterator[None]:
    """float32 by the fastest library, timed once for a processor and kept: a run that goes on multiplies as it began."""
    key = key_of([cpu_name(), torch.__version__, torch.get_num_threads()])
    library = store.get("float32", key)
    if library is None:
        library = store.put("float32", key, fastest_float32())
    with float32_by(library):
        yield


@contextlib.contextmanager
def _store(options: Options) -> Iterator[Store]:
    """The cache that the options name; a fresh run has one of its own, which goes with it."""
    if options.fresh:
        store: Store = DiskStore(Path(tempfile.mkdtemp(prefix="cache-")), options.cache_bytes)
    else:
        store = open_store(options.cache, options.cache_bytes)
    with store.in_use():
        yield store


@contextlib.contextmanager
def _own_temporary() -> Iterator[None]:
    """A folder for all temporary files of the run and of the processes that it starts: it goes with the run, however that ends."""
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    try:
        root = Path(tempfile.mkdtemp(prefix="paretoc-"))
    except OSError as error:
        raise InputError(f"there is no folder for temporary files: {error.strerror}\nname one in TMPDIR") from None
    with temporary(root):
        tempfile.tempdir = os.environ["TMPDIR"] = str(root)
        try:
            yield
        finally:
            tempfile.tempdir = before
            os.environ.pop("TMPDIR", None)
            os.environ.update({} if variable is None else {"TMPDIR": variable})
            shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    """Errors of files as lines for the user; a full disk is told from all others by its number."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        found = file_error(error)
        if found is None or not (
            found.filename is not None or found.errno in _WRITING or isinstance(error, SafetensorError)
        ):
            raise
        where = "" if found.filename is None else f"{printable(str(found.filename), 200)}: "
        if is_full(found):
            message = (
                f"writing failed: {where}{found.strerror}\nwhat was computed is kept; start again when there is room"
            )
        else:
            message = f"{where}{found.strerror}\nwhat was computed is kept; start again when that is mended"
        raise InputError(message) from None


@contextlib.contextmanager
def _memory_errors() -> Iterator[None]:
    """A GPU without memory left, in lines for the user. Networks that are timed have an error of their own for it."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TargetError(
            f"the GPU that this run learns on ran out of memory: {reason(error)}\n"
            "what was computed is kept; end what else runs on that GPU, or start again with --device cpu"
        ) from None


@contextlib.contextmanager
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(usable_cpus())
    try:
        yield
    finally:
        torch.set_num_threads(before)
