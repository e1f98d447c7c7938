"""What a campaign found: counts by verb and outcome, the share past parsing, the slowest, and failures by cause."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from tests.hostile.harness import Result

KINDS = ("answered", "reached the pipeline", "2 read", "2 refused", "3 target", "4 budget", "5 verification", "FAILED")


def share_past_parsing(results: Sequence[Result]) -> float:
    """Of all inputs; one that failed has not."""
    return sum(result.past_parsing for result in results) / max(len(results), 1)


def by_cause(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Failures by verb and what is wrong, the most frequent first."""
    found: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        if result.failure:
            found[result.failure].append(result)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def table(results: Sequence[Result]) -> str:
    """Counts per verb and outcome."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for result in results:
        counts[result.case.verb][result.kind] += 1
    counts["all"] = sum(counts.values(), Counter())
    head = (
        f"{'verb':<9}"
        + "".join(f"{kind:>22}" if "pipeline" in kind else f"{kind:>15}" for kind in KINDS)
        + f"{'inputs':>9}"
    )
    rows = [head]
    for verb, found in counts.items():
        cells = "".join(f"{found[kind]:>22}" if "pipeline" in kind else f"{found[kind]:>15}" for kind in KINDS)
        rows.append(f"{verb:<9}{cells}{found.total():>9}")
    return "\n".join(rows)


def lines(results: Sequence[Result], seconds: float) -> list[str]:
    """All of it, to print."""
    slowest = sorted(results, key=lambda result: -result.outcome.seconds)[:3]
    largest = max(results, key=lambda result: result.outcome.most_bytes)
    found = [
        table(results),
        f"past parsing: {share_past_parsing(results):.1%} of {len(results):,} inputs; {seconds:.0f} s",
        "processor time an input: " + ", ".join(f"{verb} {s * 1e3:.0f} ms" for verb, s in _means(results).items()),
        "slowest: "
        + ", ".join(f"{r.case.verb} {r.case.part} {r.outcome.seconds:.1f} s (#{r.number})" for r in slowest),
        f"most memory: {largest.outcome.most_bytes / 1e6:.0f} MB beyond the parent's (#{largest.number})",
    ]
    causes = by_cause(results)
    found.append(f"failures: {sum(map(len, causes.values()))} of {len(causes)} causes")
    found += [f"  {len(group):>5} x {cause}  [{_where(group)}]" for cause, group in causes.items()]
    return found


def _where(group: Sequence[Result]) -> str:
    verbs = sorted({f"{result.case.verb}/{result.case.part}" for result in group})
    return f"{', '.join(verbs[:4])}; #{group[0].number}"


def _means(results: Sequence[Result]) -> dict[str, float]:
    times: dict[str, list[float]] = defaultdict(list)
    for result in results:
        times[result.case.verb].append(result.outcome.processor_s)
    return {verb: sum(found) / len(found) for verb, found in times.items()}


def to_json(results: Sequence[Result], seconds: float) -> dict[str, Any]:
    """For tests."""
    return {
        "inputs": len(results),
        "seconds": seconds,
        "past_parsing": share_past_parsing(results),
        "verbs": dict(Counter(result.case.verb for result in results)),
        "failures": {cause: len(group) for cause, group in by_cause(results).items()},
        "text": lines(results, seconds),
    }
