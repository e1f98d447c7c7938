"""`subnet.json`: which heads, FFN units and dimensions of a dense model a compiled network keeps."""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from compiler.families.loading.config import declared_head
from compiler.families.loading.files import check_folder
from compiler.families.loading.library import label_of, refusing
from compiler.families.recipe_files import transformer_folder
from compiler.spaces import Subnet
from targets.errors import InputError
from targets.json_file import conforming, read_json

SCHEMA = 1
FILE = "subnet.json"
_MOST = 2**20

_Index = Annotated[int, Field(ge=0, lt=_MOST)]
_Layers = Annotated[list[list[_Index]], Field(max_length=1024)]


class _Form(TypedDict):
    task: Literal["embedding", "classification", "regression"]
    base: str
    heads: _Layers
    ffn_units: _Layers
    residual: NotRequired[list[_Index]]


class Origin(NamedTuple):
    """What `subnet.json` says: the task, the name of the dense model, and what is left of it."""

    task: str
    base: str
    subnet: Subnet


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
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else None
        raise InputError(f"{label_of(folder)}: {FILE} has schema {found!r}, this version reads {SCHEMA}")
    form: _Form = conforming(data, _Form, name=f"{name} is damaged")
    for kept in (*form["heads"], *form["ffn_units"], form.get("residual", [])):
        if any(a >= b for a, b in pairwise(kept)):
            raise InputError(f"{name} is damaged: kept indices must be ascending and distinct")
    try:
        return Origin(form["task"], form["base"], Subnet.from_json(data))
    except ValueError as error:
        raise InputError(f"{name} is damaged: {error}") from None


def declared_task(folder: Path, asked: str = "auto") -> str | None:
    """The task that a checkpoint's head was trained for: "classification", "regression", or None where it has none.

    InputError where the head is of a task that is not supported, and no other was asked for.
    """
    if is_compiled(folder):
        task = read_origin(folder).task
        return None if task == "embedding" else task
    folder = transformer_folder(folder)
    with refusing(folder, "the model folder cannot be read"):
        check_folder(folder)
    head, declared = declared_head(folder, asked=asked)
    if head.kind == "other" and asked == "auto":
        raise InputError(
            f"{label_of(folder)}: {head.name} has a head for {head.words}, a task that is not supported\n"
            "compile its encoder alone with --task embedding"
        )
    return declared
