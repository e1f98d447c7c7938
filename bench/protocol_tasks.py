"""The tasks of the protocol: GLUE's train split, from which a run draws 70/30 train and validation, and dev as the test set."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmark_data import data_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A data set with GLUE's own metric. `classes` are in the order of their ids where the metric asks for one of them."""

    metric: str
    kind: str = "classification"
    train_rows: int | None = None
    classes: tuple[str, ...] | None = None


TASKS = {
    "rte": Task(metric="accuracy"),
    "mrpc": Task(metric="f1", classes=("not_equivalent", "equivalent")),
    "cola": Task(metric="matthews"),
    "stsb": Task(metric="spearman", kind="regression"),
    "sst2": Task(metric="accuracy", train_rows=10_000),
    "qnli": Task(metric="accuracy"),
}
"""SST-2 is large: ten thousand of its rows. QNLI is a sample of two thousand."""


def prepare(name: str, folder: Path, rows: int | None = None) -> Path:
    """A folder with train.csv, of which `rows` at most are taken, and dev.csv of a task; GLUE's unlabelled test is left out."""
    task, out = TASKS[name], folder / (name if rows is None else f"{name}-{rows}")
    out.mkdir(parents=True, exist_ok=True)
    for split, most in (("train", rows or task.train_rows), ("dev", None)):
        with Path(data_folder(name), f"{split}.csv").open(encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(file)
        chosen = np.sort(np.random.default_rng(0).permutation(len(lines))[:most])
        with (out / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows([*lines[row][:-1], _label(lines[row][-1], task)] for row in chosen)
    return out


def _label(text: str, task: Task) -> str:
    return text if task.classes is None else str(task.classes.index(text))
