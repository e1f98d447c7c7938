"""The text sample that ships: what `--demo` calibrates on and measures with."""

from __future__ import annotations

from importlib import resources

import numpy as np

from compiler.data.text_data import Split, TextData, content_sha256

_TRAIN = 320
_VALIDATION = 140
_TEST = 140


def sample_texts() -> tuple[str, ...]:
    """600 English sentences on many subjects, written for this project."""
    text = resources.files("compiler.data").joinpath("sample.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def demo_data(seed: int = 0) -> TextData:
    """The sample as data for an embedding model: 320 texts for calibration, 140 for validation, 140 for test."""
    texts = sample_texts()
    order = np.random.default_rng(seed).permutation(len(texts))
    edges = np.cumsum([_TRAIN, _VALIDATION, _TEST])
    parts = np.split(order, edges[:-1])
    splits = {
        role: Split(texts=tuple((texts[row],) for row in sorted(part)), labels=None)
        for role, part in zip(("train", "validation", "test"), parts, strict=True)
    }
    return TextData(
        source="shipped sample",
        task="embedding",
        text_columns=("text",),
        label_column=None,
        label_names=None,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        notes=(f"the text sample that ships with paretoc, split 320/140/140 with seed {seed}",),
        sha256=content_sha256(splits, None),
    )
