"""What must hold between the values of a `front.json`, each of which makes sense alone."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from compiler.report.scale import wrong_figures
from targets.errors import InputError

if TYPE_CHECKING:
    from compiler.report.schema import CandidateInfo, Front


def check_sense(front: "Front", *, name: str, advice: str) -> None:
    """InputError that names the first contradiction of a front whose values are of their declared types."""
    wrong = next(_contradictions(front), None)
    if wrong is not None:
        raise InputError(f"{name}: {wrong}\n{advice}")


def _contradictions(front: "Front") -> Iterator[str]:
    nets = [front["dense"], *front["candidates"]]
    ids = [net["id"] for net in nets]
    yield from repeated("id", ids)
    yield from repeated("artifact.path", [net["artifact"]["path"] for net in nets])
    if front["best"] is not None and front["best"] not in ids:
        yield f"best: no network has the id {front['best']!r}"
    if len(front["dense"]["shape"]["heads"]) != front["model"]["layers"]:
        yield f"dense.shape: {len(front['dense']['shape']['heads'])} layers, the model has {front['model']['layers']}"
    for net in nets:
        for wrong in (*_of_shape(net, front["dense"]), *contradictions(net), *_of_names(net, ids)):
            yield f"{net['id']}: {wrong}"
    yield from wrong_figures(front)
    if front["workload"]["traffic"] is not None:
        yield from _of_traffic(front["workload"]["traffic"])


def repeated(what: str, values: Sequence[str]) -> Iterator[str]:
    """The first value that stands twice."""
    seen: set[str] = set()
    for value in values:
        if value in seen:
            yield f"{what} {value!r} stands twice"
            return
        seen.add(value)


def contradictions(net: "CandidateInfo") -> Iterator[str]:
    """What is wrong with one network's own values."""
    heads, units = len(net["shape"]["heads"]), len(net["shape"]["ffn_units"])
    if heads != units:
        yield f"shape: {heads} layers of heads, {units} layers of ffn_units"
    queries = net["shape"].get("queries")
    if queries is not None and [each > 0 for each in queries] != [each > 0 for each in net["shape"]["heads"]]:
        yield "shape.queries: not those of the layers that have heads"
    if net["measured"] is not None:
        yield from ascending("measured.latency_ms", list(_ordered(net["measured"]["latency_ms"]).values()))
    if net["speedup_interval"] is not None:
        yield from ascending("speedup_interval", net["speedup_interval"])


def _ordered(percentiles: Mapping[str, Any]) -> dict[str, float]:
    return {name: percentiles[name] for name in ("p50", "p90", "p99")}


def ascending(what: str, values: Sequence[float], *, strictly: bool = False) -> Iterator[str]:
    """What is said where values fall, or where two are equal that must not be."""
    if any(a > b or (strictly and a == b) for a, b in pairwise(values)):
        yield f"{what}: must ascend, got {', '.join(f'{value:g}' for value in values[:5])}"


def _of_shape(net: "CandidateInfo", dense: "CandidateInfo") -> Iterator[str]:
    """A sub-network has the layers of the dense one and keeps no more of each than there is."""
    for name in ("heads", "ffn_units"):
        kept, there = net["shape"][name], dense["shape"][name]
        if len(kept) != len(there):
            yield f"shape.{name}: {len(kept)} layers, the dense model has {len(there)}"
        elif any(a > b for a, b in zip(kept, there, strict=True)):
            yield f"shape.{name}: more than the dense model has"


def _of_names(net: "CandidateInfo", ids: Sequence[str]) -> Iterator[str]:
    unknown = sorted(set(net["same_as"]) - set(ids))
    if unknown:
        yield f"same_as: no network has the id {unknown[0]!r}"


def _of_traffic(traffic: Mapping[str, Any]) -> Iterator[str]:
    tokens, shares = traffic["tokens"], traffic["shares"]
    if len(tokens) != len(shares):
        yield f"workload.traffic: {len(tokens)} tokens, {len(shares)} shares"
    if abs(sum(shares) - 1) > 1e-6:
        yield f"workload.traffic.shares: must sum to 1, got {sum(shares):g}"
    yield from ascending("workload.traffic.tokens", tokens, strictly=True)
