"""`compile diff`: what one run's choice has over another's, from their data alone; nothing is measured.

Speeds are compared as speed-ups over the dense model, each taken in one run: milliseconds of two days are not comparable.
"""

from collections.abc import Iterator
from typing import TypedDict

from compiler.report.scale import scale_of
from compiler.report.schema import CandidateInfo, Front
from compiler.report.verdict import find_best
from compiler.tasks import Scale
from targets.errors import InputError, VerificationError

SCHEMA_VERSION = 1


class Figure(TypedDict):
    """One figure of both choices; `change` is relative to the first, None where one is unknown or the first is zero."""

    name: str
    before: float | None
    after: float | None
    change: float | None


class Difference(TypedDict):
    """Two runs side by side. `unlike` names what they do not have in common; `failures` what is worse than allowed."""

    schema: int
    before: str
    after: str
    unlike: list[str]
    figures: list[Figure]
    failures: list[str]


def compare_runs(before: Front, after: Front, *, slower: float | None = None, worse: float | None = None) -> Difference:
    """The chosen networks of two runs. `slower` and `worse` are shares: of time, and of the metric.

    InputError where a run has chosen nothing.
    """
    old, new = _chosen(before, "first"), _chosen(after, "second")
    return {
        "schema": SCHEMA_VERSION,
        "before": old["id"],
        "after": new["id"],
        "unlike": list(_unlike(before, after)),
        "figures": [_figure(name, *values) for name, values in _values(old, new).items()],
        "failures": [*_slower(old, new, slower), *_worse(old, new, worse, scale_of(after))],
    }


def check_difference(found: Difference) -> None:
    """VerificationError that names what is worse than allowed."""
    if found["failures"]:
        raise VerificationError("the second run does not keep up with the first\n" + "; ".join(found["failures"]))


def _chosen(front: Front, which: str) -> CandidateInfo:
    best = find_best(front)
    if best is None:
        raise InputError(f"the {which} run has chosen no network: no candidate met its budget")
    return best


def _unlike(before: Front, after: Front) -> Iterator[str]:
    """What makes figures hard to compare."""
    sides = {
        "target": [f"{front['target']['name']}:{front['target']['precision']}" for front in (before, after)],
        "device": [str(front["target"]["fingerprint"].get("device_name")) for front in (before, after)],
        "metric": [front["metric"]["name"] for front in (before, after)],
        "data": [front["data"]["source"] for front in (before, after)],
        "model": [front["model"]["name"] for front in (before, after)],
        "workload": [_asked(front) for front in (before, after)],
        "version": [front["tool"]["version"] for front in (before, after)],
    }
    return (f"{name}: {old}, then {new}" for name, (old, new) in sides.items() if old != new)


def _asked(front: Front) -> str:
    asked = front["workload"]
    tokens = "traffic" if asked["traffic"] else f"{asked['tokens']} tokens"
    return f"batch {asked['batch']}, {tokens}, threads {asked['threads']}, {asked['runtime']}"


Pair = tuple[float | None, float | None]


def _values(old: CandidateInfo, new: CandidateInfo) -> dict[str, Pair]:
    name = old["metric"]["name"]

    def measured(net: CandidateInfo, what: str) -> float | None:
        if net["measured"] is None:
            return None
        return net["measured"]["latency_ms"]["p50"] if what == "latency" else net["measured"]["memory_bytes"]

    return {
        f"{name} (validation)": (old["metric"]["validation"], new["metric"]["validation"]),
        f"{name} (test)": (old["metric"]["test"], new["metric"]["test"]),
        "speed-up": (old["speedup"], new["speedup"]),
        "p50 ms": (measured(old, "latency"), measured(new, "latency")),
        "memory bytes": (measured(old, "memory"), measured(new, "memory")),
        "file bytes": (old["artifact"]["bytes"], new["artifact"]["bytes"]),
        "parameters": (old["parameters"], new["parameters"]),
    }


def _figure(name: str, before: float | None, after: float | None) -> Figure:
    change = after / before - 1 if before and after is not None else None
    return {"name": name, "before": before, "after": after, "change": change}


def _slower(old: CandidateInfo, new: CandidateInfo, limit: float | None) -> Iterator[str]:
    """Slower beyond the noise: even the best of the second's interval is behind the worst of the first's."""
    if limit is None:
        return
    if old["speedup"] is None or new["speedup"] is None:
        yield "one of the runs was not measured, so its speed cannot be held against the other's"
        return
    least = old["speedup_interval"][0] if old["speedup_interval"] else old["speedup"]
    most = new["speedup_interval"][1] if new["speedup_interval"] else new["speedup"]
    if most * (1 + limit) < least:
        yield f"{new['speedup']:.2f}x the dense model's speed, {old['speedup']:.2f}x before, {limit:.1%} slower allowed"


def _worse(old: CandidateInfo, new: CandidateInfo, limit: float | None, scale: Scale) -> Iterator[str]:
    if limit is None:
        return
    if old["metric"]["name"] != new["metric"]["name"]:
        yield f"{new['metric']['name']} cannot be held against {old['metric']['name']}"
        return
    before, after = old["metric"]["validation"], new["metric"]["validation"]
    if not scale.keeps(after, 1 - limit, before):
        way = "less" if scale.higher_is_better else "worse"
        yield f"{new['metric']['name']} {after:.4f} on validation, {before:.4f} before, {limit:.1%} {way} allowed"
