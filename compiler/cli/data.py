"""`compile data`: everything that is inferred about a data set, without compiling."""

import json
from typing import Annotated

import typer

from compiler.cli.help import TASKS_HELP


def data_command(
    source: Annotated[str, typer.Argument(help="data file, folder or hub name")],
    task: Annotated[str, typer.Option(help=TASKS_HELP)] = "auto",
    text_columns: Annotated[str | None, typer.Option(help="one or two columns, A,B")] = None,
    label_column: Annotated[
        str | None, typer.Option(help="the column with labels or scores, or several of 0 and 1: A,B,C")
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="encoding of text files (UTF-8)")] = None,
    header: Annotated[
        bool | None, typer.Option("--header/--no-header", help="whether CSV and TSV name their columns")
    ] = None,
    seed: Annotated[int, typer.Option(help="of the splits that are drawn")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """Print what is inferred about a data set: format, columns, task, classes, splits, odd rows."""
    from compiler.data import describe, description_lines
    from compiler.tasks import read_data

    columns = None if text_columns is None else [name.strip() for name in text_columns.split(",") if name.strip()]
    data = read_data(
        source, task=task, text_columns=columns, label_column=label_column, encoding=encoding, header=header, seed=seed
    )
    print(json.dumps(describe(data)) if as_json else "\n".join(description_lines(data)))  # noqa: T201  this is the answer
