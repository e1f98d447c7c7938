"""Labels read for the head that a model declares: its outputs say whether numbers are classes or scores."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from compiler.data import TextData


def read_as(head: str | None, data: TextData, read: Callable[[str], TextData]) -> TextData:
    """Labels that are numbers, read anew for the task of the model's head; as they are where it is another or they are words.

    A cross-encoder has one output, a score: labels 0 and 1 are scores to it and no classes.
    """
    if head is None or not (data.label_names is None or _are_numbers(data.label_names)):
        return data
    again = read(head)
    kinds = {"regression": "one output: labels are scores", "classification": "one output a class: labels are classes"}
    return replace(again, notes=(*again.notes, f"the model's head has {kinds[head]}"))


def _are_numbers(names: Sequence[str]) -> bool:
    try:
        return all(float(name) is not None for name in names)
    except ValueError:
        return False
