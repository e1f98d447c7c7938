"""Runs the command line in children of one process that has imported everything: two at once, each with a log of its own.

    python -m tests.pairs_worker OUT FLAG ... -- OUT FLAG ... -- ...

`OUT` begins the arguments of a run; `+` between two starts the second beside the first. Exits 1 where a run failed.
"""

import os
import sys
from pathlib import Path

from compiler.cli import main
from compiler.pipeline import compile_model


def start(arguments: list[str]) -> int:
    """The process of one run; what it says goes to OUT.log."""
    child = os.fork()
    if child:
        return child
    log = os.open(f"{arguments[0]}.log", os.O_CREAT | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os._exit(main([*arguments[1:], "--out", arguments[0]]))


def groups(words: list[str], by: str) -> list[list[str]]:
    """Words between those that part them."""
    found: list[list[str]] = [[]]
    for word in words:
        if word == by:
            found.append([])
        else:
            found[-1].append(word)
    return found


if __name__ == "__main__":
    assert callable(compile_model)
    failed = 0
    for together in groups(sys.argv[1:], "--"):
        children = [start(run) for run in groups(together, "+")]
        failed |= sum(os.waitpid(child, 0)[1] for child in children)
    for run in (run for together in groups(sys.argv[1:], "--") for run in groups(together, "+")):
        print(Path(f"{run[0]}.log").read_text(encoding="utf-8"))
    sys.exit(min(failed, 1))
