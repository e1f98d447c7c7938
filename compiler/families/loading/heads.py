"""The task head that config.json declares: which one it is, what its outputs mean and what they are called."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compiler.tasks import TASKS, Task
from compiler.tasks.sequence import outputs_of
from targets.errors import InputError

_PRETRAINING = ("MaskedLM", "PreTraining", "CausalLM", "NextSentencePrediction", "LMHeadModel")


@dataclass(frozen=True, slots=True)
class DeclaredHead:
    """What `architectures` says of a head: `name` is its class, `kind` how that ends ("TokenClassification"); empty for none."""

    name: str = ""
    kind: str = ""

    @property
    def pretrained(self) -> bool:
        """Whether it is one of pre-training, which a new head may take the place of."""
        return self.kind in _PRETRAINING

    @property
    def words(self) -> str:
        """The task of the class in words: "token classification"."""
        task = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.kind)
        return task.lower()

    def of(self, task: Task) -> bool:
        """Whether it is of the class that a task takes."""
        return bool(task.head) and self.kind in {task.head, *task.other_heads}


def head_of(settings: Mapping[str, Any]) -> DeclaredHead:
    """The head that a configuration declares: the last that was fine-tuned, else the last of pre-training."""
    names: list[str] = settings.get("architectures") or []
    found = [DeclaredHead(names[0] if names else "")]
    for name in names:
        _, marked, kind = name.rpartition("For")
        if marked and kind and not kind[0].islower():
            found.append(DeclaredHead(name, kind))
    tuned = [head for head in found if head.kind and not head.pretrained]
    return (tuned or found)[-1]


def declared_tasks(settings: Mapping[str, Any], name: str) -> tuple[Task, ...]:
    """The tasks that a declared head may have been trained for; none where there is no head, or one of pre-training.

    InputError where its outputs mean what is not supported, or their names contradict each other.
    """
    head = head_of(settings)
    if head.pretrained:
        return ()
    return tuple(task for task in TASKS.values() if head.of(task) and task.serves(settings, name))


def refuse_other_head(head: DeclaredHead, task: Task, settings: Mapping[str, Any], name: str) -> None:
    """InputError where a head was trained for another task, or none that only pre-training makes."""
    if task.pretrained_head and not head.of(task):
        raise InputError(
            f"{name}: {head.name or 'the model'} has no head for {task.words}\n"
            f"give a checkpoint that was trained for that, with a class ...For{task.head} in architectures"
        )
    if not head.kind or (head.pretrained and not task.pretrained_head):
        return
    if not head.of(task) or not task.serves(settings, name):
        served = " or ".join(each.words for each in declared_tasks(settings, name))
        raise InputError(
            f"{name}: {head.name} has a head for {served or head.words}, asked is {task.words}\n"
            "give a checkpoint for that, or compile its encoder alone with --task embedding"
        )


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
