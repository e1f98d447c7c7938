"""What a user can cause, as exceptions: each carries the exit code of the command line.

Exit codes: 2 bad input or usage, 3 the target is not what was asked for, 4 no candidate meets the budget,
5 verification failed. A message has at most three lines: what was wrong, what was found, what to do.
"""

import unicodedata

MOST_LINES = 3
MOST_CHARACTERS = 500
"""Of one line of a message: names and values of files that somebody else wrote stand in it."""


def printable(text: str, most: int = MOST_CHARACTERS) -> str:
    """One line that is safe on a terminal and in UTF-8: control characters and halves of surrogate pairs spelt out, bounded."""
    shown = "".join(c if _is_shown(c) else c.encode("unicode_escape").decode("ascii") for c in text[: most + 1])
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def _is_shown(character: str) -> bool:
    """Python calls no space but the common one printable."""
    return character.isprintable() or unicodedata.category(character) == "Zs"


_ADVICE = ("==> Context", "For further information", "During handling", "Traceback", "File ", "Please ", "https://")
"""How lines begin that say where an error of a library was found or whom to ask, not what is wrong."""

MOST_OF_A_REASON = 200


def reason(error: BaseException) -> str:
    """What is wrong by a library's error, in one printable line: the last that is no advice, else the kind of the error."""
    lines = [line.strip() for line in str(error)[-20_000:].splitlines()]
    said = [line for line in lines if line and not line.startswith(_ADVICE)]
    kind = type(error).__name__
    if not said:
        return kind
    return printable(f"{kind}: {said[-1]}" if isinstance(error, LookupError) else said[-1], MOST_OF_A_REASON)


class ParetocError(Exception):
    """Base of every error that is reported without a traceback; `str` of it is what the user reads."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        lines = [line for line in message.replace("\r", "\n").split("\n") if line.strip()]
        super().__init__("\n".join(printable(line) for line in lines[:MOST_LINES]))


class InputError(ParetocError):
    """A file, option or value that cannot be used."""


class TargetError(ParetocError):
    """The target is not what was asked for, or hardware is missing."""

    exit_code = 3


class BudgetError(ParetocError):
    """No candidate meets the budget."""

    exit_code = 4


class VerificationError(ParetocError):
    """An artefact is not what its run says it is."""

    exit_code = 5


ERRORS: dict[str, type[ParetocError]] = {
    kind.__name__: kind for kind in (InputError, TargetError, BudgetError, VerificationError)
}
"""Errors by name: how one is handed from process to process."""
