"""The rule that every outcome is held against, and the name of what broke it."""

import json
import re
from pathlib import Path

from tests.hostile.cases import Case
from tests.hostile.worker import Outcome

CODES = (2, 3, 4, 5)
MOST_LINES, MOST_CHARACTERS = 3, 500
OURS = re.compile(r'File "[^"]*?((?:compiler|profilers|targets)/[\w/]+\.py)", line (\d+)(?:,)? in (\w+)')

RANDOM_NAMES = re.compile(r"[0-9a-f]{8,}|tmp\w+|paretoc-\w+")

SPOILS_WEIGHTS = frozenset({"fill-nan", "fill-inf"})
CODE_FILES = ("modeling_subnet.py", "server.py")


def failure(case: Case, outcome: Outcome) -> str | None:
    """What is wrong with an outcome, in a form that groups one cause; None where it is right."""
    if outcome.error == "harness":
        return f"harness: {outcome.trace.strip().splitlines()[-1]}"
    if outcome.why:
        return f"{outcome.why}: {_where(outcome.trace)}"
    if outcome.error or "Traceback (most recent call last)" in outcome.err:
        return f"traceback: {_where(outcome.trace or outcome.err)}"
    return _wrong_code(outcome) or _touched(outcome) or _wrong_text(outcome) or _wrong_answer(case, outcome)


def _touched(outcome: Outcome) -> str | None:
    return f"touched: {RANDOM_NAMES.sub('*', outcome.touched[0])[:120]}" if outcome.touched else None


def _wrong_code(outcome: Outcome) -> str | None:
    if outcome.code == 0 or outcome.reached or outcome.code in CODES:
        return None
    return f"exit {outcome.code}: {_where(_named_trace(outcome.err) or outcome.err)}"


def _wrong_text(outcome: Outcome) -> str | None:
    for name, text in (("stdout", outcome.out), ("stderr", outcome.err)):
        odd = next((c for c in text if not c.isprintable() and c not in "\n\t\r"), None)
        if odd is not None:
            return f"unprintable {odd!r} on {name}"
    if outcome.code not in CODES:
        return None
    lines = outcome.err.rpartition("error: ")[2].rstrip("\n").split("\n")
    if "error: " not in outcome.err:
        return f"exit {outcome.code} without a message"
    if len(lines) > MOST_LINES:
        return f"a message of {len(lines)} lines: {lines[0][:60]}"
    if longest := next((line for line in lines if len(line) > MOST_CHARACTERS), None):
        return f"a line of over {MOST_CHARACTERS} characters: {longest[:60]}"
    return None


def _wrong_answer(case: Case, outcome: Outcome) -> str | None:
    """Exit 0, or an input accepted, where the damage is known to be fatal."""
    if outcome.code == 0 and "--json" in case.flags and not _is_json(outcome.out):
        return "--json, and stdout is no JSON"
    accepted = outcome.code == 0 or outcome.reached
    return f"accepted: {reason}" if accepted and (reason := fatal(case)) else None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def fatal(case: Case) -> str:
    """Why a case must be refused; empty where it may be right."""
    if len(case.edits) != 1:
        return ""  # a later edit may undo an earlier one
    edit = case.edits[0]
    if case.part == "model" and edit.kind in SPOILS_WEIGHTS and edit.at % 3 == 0:
        return "weights that are no numbers"
    if (
        edit.kind == "artifact"
        and case.verb in {"verify", "bench"}
        and (edit.value.startswith(("/", "..")) or "/../" in edit.value)
    ):
        return "a file outside the run"
    if case.verb == "verify" and edit.kind in {"flip", "link-out", "device", "null-device", "fifo", "empty", "remove"}:
        checked = (*CODE_FILES, "model.onnx") if not case.sealed else CODE_FILES
        if Path(edit.file).name in checked and not (edit.kind in {"empty", "remove"} and case.sealed):
            return f"a changed {Path(edit.file).name}"
    return ""


def _where(trace: str) -> str:
    """The innermost frame of ours and the exception; of a dump of all threads, the thread that ran the input."""
    trace = trace.rpartition("Current thread ")[2] if "Current thread " in trace else trace
    frames = OURS.findall(trace)
    lines = [
        line
        for line in trace.strip().splitlines()
        if re.match(r"[\w.]+(Error|Exception|Interrupt|Exit|Warning|Panic\w*)\b", line)
    ]
    error = lines[-1] if lines else ""
    frame = frames[-1] if frames else ("?", "", "?")
    if "most recent call first" in trace and frames:
        frame = frames[0]
    short = re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "*", error)[:90]
    return f"{frame[0]}:{frame[2]}: {short}"


def _named_trace(err: str) -> str:
    """The text of a file with a trace that the message names."""
    for found in re.findall(r"/[^\s'\"]+", err):
        path = Path(found.rstrip(".,;:)"))
        try:
            if path.is_file() and path.stat().st_size < 2**20:
                return path.read_text("utf-8", errors="replace")
        except OSError:
            continue
    return ""
