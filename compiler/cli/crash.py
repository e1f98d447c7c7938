"""The last net of the command line: an error that nobody foresaw becomes two lines and a file that holds its trace."""

import os
import sys
import tempfile
import traceback
from contextlib import suppress

from targets.errors import printable, reason

CRASHED = 70
"""Exit code of an error in the program itself (EX_SOFTWARE of sysexits)."""

_MOST_CHARACTERS = 200_000
"""Of a trace: a recursion's repeats itself."""


def report_crash(error: BaseException) -> int:
    """Two lines on stderr: what it was, and where its trace lies. The exit code."""
    where = _keep_trace(error)
    kept = f"the trace is in {where}" if where else "no trace could be kept"
    with suppress(OSError, ValueError, AttributeError):  # stderr may be closed
        print(f"error: {_said(error)}\n{kept}; report it with what `compile doctor` says", file=sys.stderr)  # noqa: T201
    return CRASHED


def _said(error: BaseException) -> str:
    kind = type(error).__name__
    try:
        why = reason(error)
    except Exception:  # noqa: BLE001  an error of a library whose text is itself an error
        return f"internal error, {kind}"
    return printable(f"internal error, {why if why.startswith(kind) else f'{kind}: {why}'}", 300)


def _middle_cut(text: str) -> str:
    half = _MOST_CHARACTERS // 2
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:half]}\n…\n{text[-half:]}"


def _keep_trace(error: BaseException) -> str | None:
    """The path of a new file in the folder for temporary files; None where none can be written."""
    try:
        text = "".join(traceback.format_exception(error))
        handle, path = tempfile.mkstemp(prefix="paretoc-trace-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(_middle_cut(text))
    except (OSError, MemoryError, RecursionError, ValueError):
        return None
    return path
