"""What the Trainer leaves in the folder of a run: its checkpoints, and the log in them."""

import json
import re
import shutil
from pathlib import Path


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint of a run; those a killed run left half written are removed.

    The Trainer writes its state file last, so a checkpoint is complete if that file can be read.
    """
    found = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    complete = []
    for path in found:
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
        else:
            complete.append(path)
    return max(complete, key=lambda path: int(path.name.split("-")[1]), default=None)


def training_log(folder: Path) -> list[dict[str, float]]:
    """About a hundred rows of the run that ended in this folder; none where nothing was trained there.

    `step` counts optimiser steps, `loss` is the mean since the row before; `learning_rate` and `grad_norm` are the step's.
    """
    finished = last_checkpoint(folder)
    if finished is None:
        return []
    state = json.loads((finished / "trainer_state.json").read_text(encoding="utf-8"))
    columns = ("step", "loss", "learning_rate", "grad_norm")
    return [{name: row[name] for name in columns} for row in state["log_history"] if "loss" in row]
