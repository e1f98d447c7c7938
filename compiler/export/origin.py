"""`subnet.json`: which heads, FFN units and dimensions of a dense model a compiled network keeps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from compiler.export.subnet_form import check_subnet
from compiler.families.loading.config import declared_head
from compiler.families.loading.files import check_folder
from compiler.families.loading.library import label_of, refusing
from compiler.families.recipe_files import MODULES, transformer_folder
from compiler.spaces import Subnet
from compiler.tasks import TASKS, Task, task_named
from targets.errors import InputError
from targets.json_file import read_json

FILE = "subnet.json"


class Origin(NamedTuple):
    """What `subnet.json` says: the task, the name of the dense model, and what is left of it.

    `dense` are sizes of the dense model's configuration that config.json does not have, because the network's own are there.
    """

    task: str
    base: str
    subnet: Subnet
    dense: Mapping[str, int]


def is_compiled(folder: Path) -> bool:
    """Whether paretoc wrote a model folder."""
    return (folder / FILE).is_file()


def read_origin(folder: Path) -> Origin:
    """`subnet.json` of a compiled model.

    InputError where it is missing, damaged or of another version, or indices are negative, too large, or not ascending.
    """
    name = f"{label_of(folder)}: {FILE}"
    if not is_compiled(folder):
        raise InputError(f"{label_of(folder)} is no compiled model: no readable {FILE}")
    data: Any = read_json(folder / FILE, name=name)
    form = check_subnet(data, name=name)
    return Origin(form["task"], form["base"], Subnet.from_json(data), form.get("dense", {}))


def refuse_two_tasks(folder: Path) -> None:
    """InputError where texts alone fit a checkpoint's head of pre-training as well as its embeddings, and nothing says which."""
    if is_compiled(folder) or (folder / MODULES).exists():
        return
    head, _ = declared_head(transformer_folder(folder))
    task = next((each for each in TASKS.values() if each.embeds_as_well and head.of(each)), None)
    if task is not None:
        raise InputError(
            f"{label_of(folder)} is a {head.name} and the data have no labels: that fits embedding and {task.name}\n"
            f"say which: --task embedding or --task {task.name}"
        )


def declared_tasks(folder: Path, asked: str = "auto") -> tuple[Task, ...]:
    """The tasks that a checkpoint's head may have been trained for; none where it has none.

    InputError where the head is of a task that is not supported, and no other was asked for.
    """
    if is_compiled(folder):
        task = task_named(read_origin(folder).task)
        return (task,) if task.head else ()
    folder = transformer_folder(folder)
    with refusing(folder, "the model folder cannot be read"):
        check_folder(folder)
    aim = None if asked == "auto" else task_named(asked)
    if aim is not None and not aim.head:
        return ()
    head, declared = declared_head(folder, aim)
    if head.kind and not head.pretrained and not declared and asked == "auto":
        raise InputError(
            f"{label_of(folder)}: {head.name} has a head for {head.words}, a task that is not supported\n"
            "compile its encoder alone with --task embedding"
        )
    return declared
