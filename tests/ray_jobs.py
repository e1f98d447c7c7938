"""What workers of the tests' clusters do: jobs that count, wait, hang, and take their process with them."""

import json
import os
import signal
import time
from pathlib import Path

from compiler.pipeline.worker import watched
from targets.errors import BudgetError


def perform(description: str, text: str) -> str:
    """The job named by its kind; `description` is a folder for marks."""
    job = json.loads(text)
    marks, body = Path(description), job["body"]
    with watched(job["timeout_s"]):
        return json.dumps(_KINDS[job["kind"]](marks, body))


def _square(_: Path, body: dict) -> dict:
    return {"value": body["x"] ** 2}


def _nap(marks: Path, body: dict) -> dict:
    start = time.time()
    time.sleep(body["s"])
    line = json.dumps([os.environ.get("NODE_NAME", ""), start, time.time()])
    (marks / f"nap-{body['x']}").write_text(line, encoding="utf-8")
    return {"value": body["x"]}


def _die_once(marks: Path, body: dict) -> dict:
    if _first(marks, body):
        os.kill(os.getpid(), signal.SIGKILL)
    return {"value": body["x"]}


def _hang_once(marks: Path, body: dict) -> dict:
    if _first(marks, body):
        time.sleep(600)
    return {"value": body["x"]}


def _die(_: Path, __: dict) -> dict:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def _refuse(_: Path, __: dict) -> dict:
    return {"error": BudgetError.__name__, "message": "nothing meets the budget"}


def _first(marks: Path, body: dict) -> bool:
    try:
        (marks / f"first-{body['x']}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


_KINDS = {
    "square": _square,
    "nap": _nap,
    "die once": _die_once,
    "hang once": _hang_once,
    "die": _die,
    "refuse": _refuse,
}
