"""Everything that was inferred about a data set, as one value: for the terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from compiler.data.table import name_of, shorten
from compiler.data.text_data import Split, TextData, class_counts
from targets.errors import printable

_MOST_CLASSES = 12
_LINE = 300


def describe(data: TextData) -> dict[str, Any]:
    """Files, columns, task, classes or scores, splits, lengths and notes as JSON values."""
    splits = splits_of(data)
    labels = {role: split.labels for role, split in splits.items()}
    return {
        "source": data.source,
        "files": [{"split": file.split, "name": file.name, "rows": file.rows, **_form(file)} for file in data.files],
        "text_columns": list(data.text_columns),
        "label_column": data.label_column,
        "unused_columns": list(data.unused_columns),
        "task": data.task,
        "classes": None if data.label_names is None else _classes(data.label_names, labels),
        "scores": _scores(labels) if data.label_names is None else None,
        "splits": {role: len(split) for role, split in splits.items()},
        "examples": [list(texts) for texts in data.train.texts[:1]],
        "characters": _characters(splits),
        "notes": list(data.notes),
    }


def splits_of(data: TextData) -> dict[str, Split]:
    """The splits by name."""
    return {"train": data.train, "validation": data.validation, "test": data.test}


def _form(file: Any) -> dict[str, Any]:
    form = file.form
    return {"format": form.format, "encoding": form.encoding, "separator": form.separator, "header": form.header}


def _classes(names: tuple[str, ...], labels: Mapping[str, Any]) -> list[dict[str, Any]]:
    counts = {role: class_counts(_flat(ids), len(names)).tolist() for role, ids in labels.items() if ids is not None}
    return [{"name": name, **{role: count[i] for role, count in counts.items()}} for i, name in enumerate(names)]


def _flat(ids: Any) -> Any:
    """Class ids of all examples [ids], also where each has a list of them."""
    return np.concatenate([np.asarray(each, dtype=np.int64) for each in ids]) if ids.dtype == object else ids


def _scores(labels: Mapping[str, Any]) -> dict[str, float] | None:
    found = [scores for scores in labels.values() if scores is not None and scores.dtype.kind == "f"]
    if not found:
        return None
    scores = np.concatenate(found)
    return {"least": float(scores.min()), "mean": float(scores.mean()), "most": float(scores.max())}


def _characters(splits: Mapping[str, Split]) -> dict[str, float]:
    """Lengths of the examples of all splits, both texts of a pair together."""
    lengths = [sum(map(len, texts)) for split in splits.values() for texts in split.texts]
    median, p95 = np.percentile(lengths, (50, 95)).tolist()
    return {"median": median, "p95": p95, "most": float(max(lengths))}


def description_lines(data: TextData, *, notes: bool = True) -> list[str]:
    """The description as a block of lines for a terminal, the source first and the notes, if they are wanted, last."""
    found = describe(data)
    rows = [("data", found["source"]), *(("file", _file(file)) for file in found["files"])]
    example = found["examples"][0] if found["examples"] else []
    rows += [("text", _text(name, text)) for name, text in zip(found["text_columns"], example, strict=False)]
    if len(example) < len(found["text_columns"]):
        rows.append(("pairs", "taken apart: an embedding model reads one text at a time"))
    rows.append(("label", "none" if found["label_column"] is None else name_of(found["label_column"])))
    if found["unused_columns"]:
        rows.append(("not used", ", ".join(map(name_of, found["unused_columns"]))))
    rows.append(("task", found["task"]))
    rows += _labels(found)
    rows.append(("splits", ", ".join(f"{role} {count:,}" for role, count in found["splits"].items())))
    lengths = found["characters"]
    rows.append(
        ("characters", f"median {lengths['median']:.0f}, p95 {lengths['p95']:.0f}, longest {lengths['most']:.0f}")
    )
    rows += [("note", note) for note in found["notes"] if notes and note not in data.shown]
    return [f"{title:<11} {printable(value, _LINE)}" for title, value in rows]


def _file(file: Mapping[str, Any]) -> str:
    header = {True: "header", False: "no header", None: None}[file["header"]]
    separator = None if file["separator"] is None else f"separator {file['separator']!r}"
    parts = (file["format"], file["encoding"], separator, header, f"{file['rows']:,} rows")
    return f"{file['name']}: {', '.join(part for part in parts if part)}" + (
        f" ({file['split']})" if file["split"] else ""
    )


def _text(name: str, text: str) -> str:
    return f"{name_of(name)} (e.g. {shorten(text, 60)})"


def _labels(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    if (classes := found["classes"]) is not None:
        counts = [(each["name"], sum(count for key, count in each.items() if key != "name")) for each in classes]
        shown = ", ".join(f"{shorten(name, 30)} {count:,}" for name, count in counts[:_MOST_CLASSES])
        more = f" and {len(counts) - _MOST_CLASSES} more" if len(counts) > _MOST_CLASSES else ""
        return [("classes", f"{len(counts)}: {shown}{more}")]
    if (scores := found["scores"]) is not None:
        return [("scores", f"{scores['least']:g} to {scores['most']:g}, mean {scores['mean']:.4g}")]
    return []
