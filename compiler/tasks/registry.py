"""The list of tasks: a new one is a line here."""

from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from compiler.tasks.causal_lm import CausalLM
from compiler.tasks.classification import Classification
from compiler.tasks.embedding import Embedding
from compiler.tasks.masked_lm import MaskedLM
from compiler.tasks.multi_label import MultiLabel
from compiler.tasks.question_answering import QuestionAnswering
from compiler.tasks.regression import Regression
from compiler.tasks.reranking import Reranking
from compiler.tasks.task import Task
from compiler.tasks.token_classification import TokenClassification
from targets.errors import InputError, printable

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Classification(),
        MultiLabel(),
        Regression(),
        Reranking(),
        TokenClassification(),
        QuestionAnswering(),
        MaskedLM(),
        CausalLM(),
        Embedding(),
    )
}
"""Every task by name."""


def _known(name: str) -> str:
    if name not in TASKS:
        raise PydanticCustomError("task", "Input should be a task: " + ", ".join(TASKS))
    return name


TaskName = Annotated[str, AfterValidator(_known)]
"""A task in a file that a stranger may have written."""


def task_named(name: str) -> Task:
    """The task of a name. InputError lists them."""
    if name not in TASKS:
        raise InputError(f"There is no task {printable(name, 60)!r}.\nUse auto, {', '.join(TASKS)}.")
    return TASKS[name]
