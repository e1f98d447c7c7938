"""Whether a model answers no better than chance, always the same, or as if its labels were permuted; in words, or nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.tasks.metric import Metric
from compiler.tasks.noise import ONE_SIDED, standard_error

Array = NDArray[Any]

BEYOND_DOUBT = 3.0
"""Standard errors by which accuracy under a permutation of the labels must be higher on examples that did not choose it."""

MUCH = 0.1
"""And by how much of the examples: a model that takes neighbouring classes for each other is not permuted."""


def one_answer(logits: Array, names: Sequence[str]) -> str | None:
    """What is wrong with a model whose own classes are the reference, where they are all the same; else None."""
    classes = np.unique(logits.argmax(axis=1))
    return _one(repr(str(names[classes[0]])), len(logits)) if len(classes) == 1 else None


def one_score(scores: Array) -> str | None:
    """The same of scores [N, 1]."""
    return _one(f"{float(scores[0, 0]):.3g}", len(scores)) if np.ptp(scores) == 0 else None


def _one(answer: str, count: int, what: str = "validation texts") -> str:
    return f"the dense model answers {answer} to each of {count:,} {what}: to agree with it says nothing"


def doubt_of_classes(metric: Metric, logits: Array, labels: Array, names: Sequence[str]) -> str | None:
    """What is wrong with a classifier by its logits [N, classes] and class ids [N]; None where it is better than chance for sure."""
    predicted, examples = logits.argmax(axis=1), f"{len(labels):,} validation examples"
    hits, most = predicted == labels, int(np.bincount(labels).argmax())
    usual, figure = labels == most, f"accuracy {_figure((predicted == labels).mean())}"
    if permutation := permuted(predicted, labels, logits.shape[1]):
        right = np.mean([permutation[label] == answer for label, answer in zip(labels, predicted, strict=True)])
        told = _told(permutation, names)
        return (
            f"the dense model's classes look permuted: {figure} on {examples}, {_figure(right)} if labels were renamed; "
            f"if that is so, give --labels {told}"
        )
    if len(np.unique(predicted)) == 1 and len(np.unique(labels)) > 1:
        return (
            f"the dense model is at chance: its answer is {names[predicted[0]]!r} for each of {examples} ({figure}); "
            f"{_REMEDY}"
        )
    if surely_better(hits.astype(float) - usual, hits.mean() - usual.mean()) or (
        metric.name != "accuracy" and surely_better(metric.values(logits, labels), metric.score(logits, labels))
    ):
        return None
    return (
        f"the dense model is at chance: {figure} on {examples}, where always answering {names[most]!r} gives "
        f"{_figure(usual.mean())}; {_REMEDY}"
    )


_REMEDY = "if the labels mean other classes than the model's, give --labels A=B,..."
_PAIRS = 8


def permuted(predicted: Array, labels: Array, classes: int) -> dict[int, int] | None:
    """Which class the model means by each label, where another assignment than its own makes it much better; else None.

    The assignment of most hits (Kuhn, "The Hungarian method for the assignment problem", 1955) is chosen on half of the examples
    and tested on the others: the best of many permutations is better than chance on the examples that chose it.
    """
    from scipy.optimize import linear_sum_assignment

    confusion = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(confusion, (labels[::2], predicted[::2]), 1)
    confusion = 2 * confusion + np.eye(classes, dtype=np.int64)  # of equals, the one that changes nothing
    to = linear_sum_assignment(confusion, maximize=True)[1]
    gained = (to[labels[1::2]] == predicted[1::2]).astype(float) - (labels[1::2] == predicted[1::2])
    noise = standard_error(gained) if len(gained) else None
    if noise is None or gained.mean() < MUCH or gained.mean() <= BEYOND_DOUBT * noise:
        return None
    return {label: int(means) for label, means in enumerate(to)}


def one_tag(tags: Array, names: Sequence[str]) -> str | None:
    """`one_answer` of tag ids [sentences, words], below 0 where there is no word."""
    of_words = tags[tags >= 0].astype(np.int64)
    same = len(np.unique(of_words)) == 1
    return _one(repr(names[of_words[0]]), len(of_words), "words of validation") if same else None


def doubt_of_tags(metric: Metric, tags: Array, labels: Array, names: Sequence[str]) -> str | None:
    """What is wrong with a tagger by its tag ids and the true ones [sentences, words]; None where it is better than chance for sure.

    Chance is what the tags of a sentence are worth for the next one.
    """
    read = (tags >= 0) & (labels >= 0)
    predicted, true = tags[read].astype(np.int64), labels[read]
    figure = f"{metric.name} {_figure(metric.score(tags, labels))} on {len(labels):,} validation sentences"
    inside = np.array([name.strip().upper() != "O" for name in names])
    both = inside[predicted] & inside[true]
    for rows in (slice(None), both):
        permutation = permuted(predicted[rows], true[rows], len(names))
        if (
            permutation
            and (right := _renamed_score(metric, tags, labels, permutation)) > metric.score(tags, labels) + MUCH
        ):
            told = _told(permutation, names)
            return f"the dense model's tags look permuted: {figure}, {_figure(right)} if renamed; if that is so, give --labels {told}"
    if len(np.unique(predicted)) == 1 and len(np.unique(true)) > 1:
        return f"the dense model is at chance: it tags each of {len(true):,} words {names[predicted[0]]!r} ({figure}); {_REMEDY}"
    others = np.roll(tags, 1, axis=0)
    chance = metric.score(others, labels)
    gained = metric.values(tags, labels) - metric.values(others, labels)
    if surely_better(gained, metric.score(tags, labels) - chance):
        return None
    return f"the dense model is at chance: {figure}, where tags of other sentences give {_figure(chance)}; {_REMEDY}"


def _told(permutation: Mapping[int, int], names: Sequence[str]) -> str:
    """What --labels takes: which class the model means by each label."""
    changed = [f"{names[i]}={names[j]}" for i, j in permutation.items() if i != j]
    return ",".join(changed[:_PAIRS]) + (",..." if len(changed) > _PAIRS else "")


def _renamed_score(metric: Metric, tags: Array, labels: Array, permutation: Mapping[int, int]) -> float:
    """The figure of tags [sentences, words] that are read as the labels which the model means by them."""
    means = np.array(sorted(permutation, key=lambda label: permutation[label]))
    words = tags >= 0
    return metric.score(np.where(words, means[np.where(words, tags, 0).astype(np.int64)], -1), labels)


def doubt_of_scores(metric: Metric, outputs: Array, labels: Array) -> str | None:
    """What is wrong with a model by its scores [N, 1] and labels [N]; None where it is better than chance for sure."""
    correlation = metric.score(outputs, labels)
    if surely_better(metric.values(outputs, labels), correlation):
        return None
    fallen = (
        "falls where the labels rise"
        if surely_better(-metric.values(outputs, labels), -correlation)
        else "is at chance"
    )
    return (
        f"the dense model {fallen}: {metric.name} {correlation:.3f} on {len(labels):,} validation examples; "
        "check that the labels are what the model was trained to score"
    )


def surely_better(values: Array, mean: float) -> bool:
    """Whether a figure is above 0 by more than the examples' chance explains."""
    return bool(mean > ONE_SIDED * (standard_error(values) or 0.0))


def _figure(share: Any) -> str:
    return f"{float(share):.3f}"
