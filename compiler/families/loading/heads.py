"""The task head that config.json declares: which one it is, what its outputs mean and what they are called."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from targets.errors import InputError

_PRETRAINING = ("MaskedLM", "PreTraining", "CausalLM", "NextSentencePrediction")
PROBLEMS = ("single_label_classification", "multi_label_classification", "regression")


@dataclass(frozen=True, slots=True)
class DeclaredHead:
    """What `architectures` says of a head: `kind` is "sequence", "other" (another task) or "none"; `name` is its class."""

    kind: str
    name: str = ""

    @property
    def words(self) -> str:
        """The task of the class in words: "token classification"."""
        task = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.name.rpartition("For")[2])
        return task.lower()


def head_of(settings: Mapping[str, Any]) -> DeclaredHead:
    """The head that a configuration declares; heads of pre-training are none."""
    names: list[str] = settings.get("architectures") or []
    found = [DeclaredHead("none", names[0] if names else "")]
    for name in names:
        _, marked, task = name.rpartition("For")
        if marked and task and task not in _PRETRAINING and not task[0].islower():
            found.append(DeclaredHead("sequence" if task == "SequenceClassification" else "other", name))
    return found[-1]


def declared_task(settings: Mapping[str, Any], name: str) -> str | None:
    """The task that a declared head was trained for: "classification", "regression", or None where there is no head.

    InputError where its outputs mean what is not supported, or their names contradict each other.
    """
    if head_of(settings).kind != "sequence":
        return None
    return _task_of_outputs(settings, name)


def refuse_other_head(head: DeclaredHead, task: str, name: str) -> None:
    """InputError where the head is of a task that is not supported."""
    if head.kind == "other":
        raise InputError(
            f"{name}: {head.name} has a head for {head.words}, asked is {task}\n"
            "give a checkpoint for that, or compile its encoder alone with --task embedding"
        )


def _task_of_outputs(settings: Mapping[str, Any], name: str) -> str:
    problem, outputs = settings.get("problem_type"), outputs_of(settings)
    if problem is not None and problem not in PROBLEMS:
        raise InputError(f"{name}: problem_type {problem!r} is unknown; known: {', '.join(PROBLEMS)}")
    if problem == "multi_label_classification":
        raise InputError(
            f"{name}: problem_type multi_label_classification is not supported: each of its {outputs} outputs is an "
            "answer of its own\nsupported: single_label_classification, and regression with one output"
        )
    if problem == "regression" and outputs != 1:
        raise InputError(f"{name}: problem_type regression with {outputs} outputs is not supported; supported: 1")
    if problem == "single_label_classification" and outputs == 1:
        raise InputError(
            f"{name}: problem_type single_label_classification needs 2 outputs or more, the head has 1\n"
            'say "problem_type": "regression" where its output is a score'
        )
    return "regression" if outputs == 1 else "classification"


def outputs_of(settings: Mapping[str, Any]) -> int:
    """How many outputs a configuration declares: names count before num_labels, as in transformers."""
    names, numbers = settings.get("id2label"), settings.get("label2id")
    if names is not None:
        return len(names)
    return int(settings.get("num_labels") or (len(numbers) if numbers else 2))


def with_label_names(settings: dict[str, Any], name: str) -> Iterator[str]:
    """Give a declared head one name for each output; notes where id2label and label2id had to be brought together.

    InputError where they contradict each other, or two outputs have one name.
    """
    by_number, by_name = settings.get("id2label"), settings.get("label2id")
    if by_name:
        inverted = _inverted(by_name, name)
        if by_number is None or (_are_defaults(by_number) and not _are_defaults(inverted)):
            if by_number is not None and set(by_number) != set(inverted):
                raise InputError(f"{name}: label2id names {len(inverted)} outputs, id2label {len(by_number)}")
            settings["id2label"] = by_number = inverted
            yield f"names of the outputs are those of label2id: {_some(by_number)}"
        elif not _are_defaults(inverted):
            _check_agreement(by_number, inverted, name)
        settings["label2id"] = {label: int(number) for number, label in (by_number or {}).items()}
    if by_number:
        _check_distinct(by_number, name)


def _inverted(by_name: Mapping[str, str | int], name: str) -> dict[str, str]:
    """label2id as id2label. InputError where two names are of one output, or a number is none."""
    inverted: dict[str, str] = {}
    for label, number in by_name.items():
        key = str(number)
        if not re.fullmatch(r"\d{1,9}", key, re.ASCII):
            raise InputError(f"{name}: label2id gives {label!r} the number {number!r}, which is none of an output")
        if key in inverted:
            raise InputError(f"{name}: label2id gives {inverted[key]!r} and {label!r} one number, {key}")
        inverted[key] = label
    return inverted


def _are_defaults(by_number: Mapping[str, str]) -> bool:
    """Whether names are those that transformers gives outputs which nobody named."""
    return all(label == f"LABEL_{number}" for number, label in by_number.items())


def _check_agreement(by_number: Mapping[str, str], inverted: Mapping[str, str], name: str) -> None:
    for number in sorted({*by_number, *inverted}, key=int):
        here, there = by_number.get(number), inverted.get(number)
        if here != there:
            raise InputError(
                f"{name}: output {number} is {here!r} in id2label and {there!r} in label2id\n"
                "make both say what the head was trained with"
            )


def _check_distinct(by_number: Mapping[str, str], name: str) -> None:
    seen: dict[str, str] = {}
    for number, label in by_number.items():
        if label in seen:
            raise InputError(f"{name}: id2label calls the outputs {seen[label]} and {number} both {label!r}")
        seen[label] = number


def _some(names: Mapping[str, str], most: int = 5) -> str:
    shown: Sequence[str] = [f"{number} {label}" for number, label in list(names.items())[:most]]
    return ", ".join(shown) + (", …" if len(names) > most else "")


def activation_note(settings: Mapping[str, Any]) -> Iterator[str]:
    """A note, or none, on what sentence-transformers' CrossEncoder does to the one output of a head, where it was trained as such."""
    newer = settings.get("sentence_transformers")
    path = newer.get("activation_fn") if isinstance(newer, Mapping) else None
    path = path or settings.get("sbert_ce_default_activation_function")
    if outputs_of(settings) != 1 or (settings.get("problem_type") == "regression" and path is None):
        return
    named = str(path or "torch.nn.modules.activation.Sigmoid").rpartition(".")[2]
    does = "gives it as it is too" if named == "Identity" else f"puts {named} on it"
    yield f"the graph gives the head's one output as it is; sentence-transformers' CrossEncoder {does}"
