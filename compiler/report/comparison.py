"""What several targets got, for people: the schema of `targets.json` and the page built from it.

Latencies are milliseconds, as in `front.json`. What a network costs on a target it was not made for is always predicted.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NotRequired, cast

from annotated_types import Len
from typing_extensions import TypedDict

from compiler.report import text
from compiler.report.page import fill
from compiler.report.schema import CandidateInfo, Tool, plain
from compiler.report.sense import contradictions, repeated
from compiler.store.store import write_atomically
from targets import forms
from targets.errors import InputError
from targets.json_file import conforming, read_json

SCHEMA_VERSION = 1
FILE = "targets.json"


class Outcome(TypedDict):
    """One target: its run's folder and the best network there, or why nothing met the budget."""

    target: forms.Id
    folder: forms.Id
    missed: forms.Words | None
    best: CandidateInfo | None


class Point(TypedDict):
    """A network as the search of a target saw it: latency by the target's table, metric on the search's examples."""

    id: forms.Id
    predicted_ms: forms.Milliseconds
    metric: forms.Figure


class Misplaced(TypedDict):
    """The best network of the target `of`, deployed `on` another, with what that target's own search found beside it.

    `slower` is its extra time, as a share, over the fastest network that is as good (`as_good`); `worse` how much more its error
    is than that of the best network that is as fast (`as_fast`). Negative where the other target's search found the better one.
    """

    on: forms.Id
    of: forms.Id
    same_shape: bool
    precision: forms.Name
    source: forms.Name
    stranger: Point
    own_best: Point
    as_good: Point
    as_fast: Point
    slower: forms.Figure
    worse: forms.Figure
    over_budget: bool


class Comparison(TypedDict):
    """The whole of `targets.json`; `doubt` says why the dense model is not to be trusted, where it is not.

    `higher_is_better` is there where the metric is better when it is lower.
    """

    schema: int
    tool: Tool
    model: forms.Name
    metric: forms.Name
    targets: Annotated[list[Outcome], Len(1, 1000)]
    misplaced: Annotated[list[Misplaced], Len(0, 1_000_000)]
    doubt: NotRequired[forms.Words | None]
    higher_is_better: NotRequired[bool]


def write_comparison(folder: Path, found: Comparison) -> None:
    """Write targets.json and report.html, each whole or not at all."""
    write_atomically(folder / FILE, (json.dumps(plain(found), indent=1) + "\n").encode())
    write_atomically(folder / "report.html", render_comparison(plain(found)).encode())


def rewrite_comparison(folder: Path) -> Path:
    """Rebuild report.html from targets.json and return its path. InputError where that cannot be read."""
    path = folder / "report.html"
    write_atomically(path, render_comparison(_read(folder)).encode())
    return path


def _read(folder: Path) -> Comparison:
    name = str(folder / FILE)
    content = read_json(folder / FILE, name=name)
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA_VERSION:
        raise InputError(f"{name} has schema {schema!r}, this version reads {SCHEMA_VERSION}. Compile again.")
    conforming(content, Comparison, name=name, fail=lambda message: InputError(f"{message}\n{_EDITED}"))
    found = cast("Comparison", content)
    wrong = next(_contradictions(found), None)
    if wrong is not None:
        raise InputError(f"{name}: {wrong}\n{_EDITED}")
    return found


_EDITED = "it was edited, or is of another version: compile again"


def _contradictions(found: Comparison) -> Iterator[str]:
    names = [outcome["target"] for outcome in found["targets"]]
    yield from repeated("target", names)
    for outcome in found["targets"]:
        if outcome["best"] is not None:
            for wrong in contradictions(outcome["best"]):
                yield f"best of {outcome['target']}: {wrong}"
    for pair in found["misplaced"]:
        for name in {pair["on"], pair["of"]} - set(names):
            yield f"misplaced: no target has the name {name!r}"


def render_comparison(found: Comparison) -> str:
    """One self-contained page: no network, no second file, no script."""
    return fill("comparison.html", found=found, summary=summary(found), extra=extra, lost=lost)


def summary(found: Comparison) -> str:
    """The finding in one or two sentences; first of all what is wrong with the dense model."""
    told = _summary(found)
    return f"Nothing here is best: {found['doubt']}. {told}" if found.get("doubt") else told


def _summary(found: Comparison) -> str:
    best = [outcome["best"] for outcome in found["targets"] if outcome["best"] is not None]
    if not best:
        return "No target has a network that meets the budget."
    if len(best) == 1:
        return "One target alone has a network that meets the budget."
    if all(c["shape"] == best[0]["shape"] for c in best):
        return "One network is the best on every target."
    dearest = max(found["misplaced"], key=lambda m: m["slower"])
    return (
        f"The best networks differ. The dearest to misplace is that of {dearest['of']}: on {dearest['on']} it is predicted "
        f"to take {extra(dearest)} than a network of {dearest['on']}'s own search that is as good."
    )


def extra(misplaced: Misplaced) -> str:
    """Its time beside that of what is as good, in words."""
    share = misplaced["slower"]
    if abs(share) < 5e-4:
        return "no more time"
    return f"{text.percent(abs(share))} {'more' if share > 0 else 'less'} time"


def lost(misplaced: Misplaced, higher_is_better: bool = True) -> str:
    """Its metric beside that of what is as fast, in words."""
    difference = misplaced["worse"]
    if abs(difference) < 5e-4:
        return "the same"
    if not higher_is_better:
        difference = misplaced["as_fast"]["metric"] - misplaced["stranger"]["metric"]
    return f"{text.score(abs(difference))} {'lower' if difference > 0 else 'higher'}"
