"""A data set of several labels a text: two utterances of Banking77 joined, which has both their intents."""

import json
import random
from pathlib import Path

from benchmark_data import data_folder

from compiler.tasks import read_data

NAME = "banking77-joined"


def joined_folder(root: Path, *, seed: int = 0) -> str:
    """The folder of the set, made where it is not there: as many examples a split as the utterances it is made of."""
    folder = root / NAME
    if not (folder / "train.jsonl").is_file():
        data = read_data(data_folder("banking77"), seed=seed)
        folder.mkdir(parents=True, exist_ok=True)
        names = data.label_names or ()
        for role, split in (("dev", data.validation), ("test", data.test), ("train", data.train)):
            texts = [(text, names[label]) for (text,), label in zip(split.texts, split.labels.tolist(), strict=True)]  # type: ignore[union-attr]
            partners = random.Random(seed).sample(texts, len(texts))  # noqa: S311  seeded, and no secret
            rows = [
                json.dumps({"text": f"{text} {other}", "labels": sorted({label, second})})
                for (text, label), (other, second) in zip(texts, partners, strict=True)
            ]
            (folder / f"{role}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return str(folder)
