"""Tasks of transformers' heads for sequences: which of them a head was trained for is said by its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from compiler.tasks.task import Task
from targets.errors import InputError

PROBLEMS = ("single_label_classification", "multi_label_classification", "regression")


class SequenceTask(Task):
    """A head [lines, outputs] on a whole text or pair.

    `problem` is transformers' name for what its outputs mean.
    """

    auto_class = "AutoModelForSequenceClassification"
    head = "SequenceClassification"
    problem: ClassVar[str]

    def serves(self, settings: Mapping[str, Any], name: str) -> bool:
        """By `problem_type`, else by how many outputs there are."""
        return problem_of(settings, name) == self.problem

    def label_settings(self, label_names: Sequence[str] | None) -> dict[str, Any]:
        """With the kind of problem beside the names."""
        return super().label_settings(label_names) | {"problem_type": self.problem}


def problem_of(settings: Mapping[str, Any], name: str) -> str:
    """What the outputs of a declared head mean. InputError where `problem_type` and their number contradict each other."""
    problem, outputs = settings.get("problem_type"), outputs_of(settings)
    if problem is not None and problem not in PROBLEMS:
        raise InputError(f"{name}: problem_type {problem!r} is unknown; known: {', '.join(PROBLEMS)}")
    if problem == "multi_label_classification":
        return "multi_label_classification"
    if problem == "regression" and outputs != 1:
        raise InputError(f"{name}: problem_type regression with {outputs} outputs is not supported; supported: 1")
    if problem == "single_label_classification" and outputs == 1:
        raise InputError(
            f"{name}: problem_type single_label_classification needs 2 outputs or more, the head has 1\n"
            'say "problem_type": "regression" where its output is a score'
        )
    return "regression" if outputs == 1 else "single_label_classification"


def outputs_of(settings: Mapping[str, Any]) -> int:
    """How many outputs a configuration declares: names count before num_labels, as in transformers."""
    names, numbers = settings.get("id2label"), settings.get("label2id")
    if names is not None:
        return len(names)
    return int(settings.get("num_labels") or (len(numbers) if numbers else 2))
