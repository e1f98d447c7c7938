"""The verdict: what the run found, in one paragraph that claims no more than was measured."""

from markupsafe import Markup

from compiler.report.scale import scale_of
from compiler.report.schema import CandidateInfo, Front
from compiler.report.text import count, limit, milliseconds, percent, ratio, score, words


def find_best(front: Front) -> CandidateInfo | None:
    """The candidate (or the dense model) that `best` names, `None` where it names none."""
    everyone = [*front["candidates"], front["dense"]]
    return next((candidate for candidate in everyone if candidate["id"] == front["best"]), None)


def verdict(front: Front) -> Markup:
    """Best candidate, its speed-up and what it keeps of the metric, as escaped HTML; first of all what is wrong with the dense model."""
    told = _verdict(front)
    if not (doubt := front.get("doubt")):
        return told
    return Markup("<strong>Nothing here is best:</strong> {}. A network was chosen all the same. {}").format(
        doubt, told
    )


def _verdict(front: Front) -> Markup:
    best = find_best(front)
    if best is None:
        return Markup("<strong>No candidate meets the budget.</strong> All that were found are shown below.")
    if best["id"] == front["dense"]["id"]:
        return Markup(
            "<strong>The dense model stays the best choice:</strong> no smaller candidate is preferred to it."
        )
    parts = [_speed(front, best), _quality(front, best), _cost(front, best), _budget(best)]
    return Markup(" ").join(part for part in parts if part)


def _speed(front: Front, best: CandidateInfo) -> Markup:
    measured, dense = best["measured"], front["dense"]["measured"]
    if measured is None or dense is None:
        return _predicted_speed(front, best)
    percentile = front["workload"]["percentile"]
    return Markup(
        "<strong>{}</strong> answers in <strong>{}</strong> ({}) where the dense model takes {}: {}, {}."
    ).format(
        best["id"],
        milliseconds(measured["latency_ms"][percentile]),
        percentile,
        milliseconds(dense["latency_ms"][percentile]),
        _ratio_words(best),
        f"measured on {front['target']['name']}",
    )


def _ratio_words(best: CandidateInfo) -> Markup:
    speedup, interval = best["speedup"], best["speedup_interval"]
    if speedup is None:
        return Markup("a speed-up that was not measured")
    if interval is not None and interval[0] <= 1 <= interval[1]:
        return Markup("no measurable difference in speed (interval {} to {})").format(*map(ratio, interval))
    text = Markup("<strong>{} faster</strong>").format(ratio(speedup))
    if speedup < 1:
        text = Markup("<strong>slower</strong>, {} of the speed").format(ratio(speedup))
    return text if interval is None else text + Markup(" (interval {} to {})").format(*map(ratio, interval))


def _predicted_speed(front: Front, best: CandidateInfo) -> Markup:
    here, there = best["predicted"], front["dense"]["predicted"]
    return Markup(
        "<strong>{}</strong> is <em>predicted</em> to answer in <strong>{}</strong> where the dense model would take {}: "
        "<strong>{} faster</strong>, an estimate ({}), not measured on {}."
    ).format(
        best["id"],
        milliseconds(here["latency_ms"]),
        milliseconds(there["latency_ms"]),
        ratio(there["latency_ms"] / here["latency_ms"]),
        here["source"],
        front["target"]["name"],
    )


def _quality(front: Front, best: CandidateInfo) -> Markup:
    split = "validation" if best["metric"]["test"] is None else "test"
    value = best["metric"]["test"] if best["metric"]["test"] is not None else best["metric"]["validation"]
    dense = front["dense"]["metric"]["test" if split == "test" else "validation"]
    name = words(front["metric"]["name"])
    if front["dense"]["id"] in best["same_as"]:
        return Markup(
            "Its {} cannot be told from that of the dense model on the validation examples; on {} it is <strong>{}</strong>, dense {}."
        ).format(name, split, score(value), score(dense))
    kept = None if dense is None or value is None else scale_of(front).kept(value, dense)
    if kept is None:
        return Markup("Its {} on {} is <strong>{}</strong>, dense {}.").format(name, split, score(value), score(dense))
    return Markup("It keeps <strong>{}</strong> of the {} of the dense model on {} ({} against {}).").format(
        percent(kept), name, split, score(value), score(dense)
    )


def _cost(front: Front, best: CandidateInfo) -> Markup:
    share = best["parameters"] / front["dense"]["parameters"]
    return Markup("It has {} parameters, {} of those of the dense model.").format(
        count(best["parameters"]), percent(share, digits=0)
    )


def _budget(best: CandidateInfo) -> Markup:
    status, limits = best["budget"]["status"], best["budget"]["limits"]
    if status == "none":
        return Markup("")
    names = "; ".join(limit(name, value) for name, value in limits.items()) or "as given"
    ending = {"met": "is met", "missed": "is missed", "predicted": "is met only by prediction"}[status]
    return Markup("The budget ({}) {}.").format(names, ending)
