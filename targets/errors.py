"""What a user can cause, as exceptions: each carries the exit code of the command line.

Exit codes: 2 bad input or usage, 3 the target is not what was asked for, 4 no candidate meets the budget,
5 verification failed. The message is one or two lines: what was wrong, what was found, what to do.
"""


class ParetocError(Exception):
    """Base of every error that is reported without a traceback."""

    exit_code = 2


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
