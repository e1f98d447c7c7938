"""Calls into libraries that read other people's files: whatever they raise becomes one InputError, and they print nothing."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from targets.errors import InputError, ParetocError

MOST_CHARACTERS = 200
_ADVICE = re.compile(
    r"(you |please |for further |see |if you |try |note|check |make sure|http|- |\^|~|key +\||-+\+|\x1b)", re.IGNORECASE
)


def label_of(folder: Path) -> str:
    """What messages call a model folder: its own name."""
    return folder.resolve().name or str(folder)


def reason_of(error: BaseException) -> str:
    """The line of a library's message that says what is wrong: the last one that is neither advice nor decoration."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not _ADVICE.match(line)]
    line = " ".join((telling or [line for line in lines if line] or [""])[-1].split())
    if not line or isinstance(error, KeyError):
        line = f"{type(error).__name__} {line}".strip()
    return line[:MOST_CHARACTERS]


@contextmanager
def refusing(folder: Path, what: str) -> Iterator[None]:
    """Make whatever is raised inside, a panic of a Rust library and a recursion too deep too, `FOLDER: WHAT: reason`."""
    try:
        yield
    except (ParetocError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001  panics of Rust libraries are no Exception
        raise InputError(f"{label_of(folder)}: {what}: {reason_of(error)}") from None


class quiet_transformers:  # noqa: N801  a context manager reads as a verb
    """Keep transformers' loading report and progress bar off the terminal: paretoc says what matters itself."""

    def __enter__(self) -> None:
        from transformers.utils import logging as hf_logging

        self._verbosity = hf_logging.get_verbosity()
        hf_logging.set_verbosity(logging.CRITICAL)
        hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]

    def __exit__(self, *_: object) -> None:
        from transformers.utils import logging as hf_logging

        hf_logging.set_verbosity(self._verbosity)
