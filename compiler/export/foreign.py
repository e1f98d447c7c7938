"""A checkpoint held against the libraries that others will load it with: sentence-transformers and transformers."""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compiler.export.reload import MODULE, modelling_file, needs_code
from compiler.families import Checkpoint
from compiler.families.loading.library import quiet_transformers
from compiler.tasks import encode
from targets.errors import ParetocError, VerificationError
from targets.json_file import read_bytes, read_json

PerText = list[NDArray[np.float32]]
"""What is judged of each of `TEXTS`: [values], or of tokens [real tokens, values]."""

TOLERANCE = 1e-4
NOT_COMPARED = "not compared with other libraries"
TEXTS = (
    "A short text.",
    "it is",
    "The Doctor of the city was early, and the market by the river (No. 7) was closed: 3.5 of 10!",
    " ".join(f"word {i} and another one;" for i in range(400)),
)
"""Short ones, one with capitals, digits and marks, and one that has to be cut."""


def held_against_libraries(folder: Path, saved: Checkpoint) -> str:
    """Compare a checkpoint, as our own code has it, with what sentence-transformers or transformers makes of it, on a few texts.

    Returns what was found, or why nothing was compared. The folder's Python is run by the libraries, so it must be our own
    rendering to the letter. VerificationError where it is not, or an answer differs.
    """
    check_code(folder, saved)
    wanted = _ours(saved)
    try:
        library, found = _theirs(folder, saved)
    except ImportError as error:
        return f"{NOT_COMPARED}: {str(error).splitlines()[0][:120]}"
    except ParetocError:
        raise
    except Exception as error:  # noqa: BLE001  whatever a library raises on a folder that it cannot load
        raise VerificationError(f"other libraries cannot load it: {type(error).__name__}: {str(error)[:120]}") from None
    worst = _worst(library, found, wanted)
    if not worst < TOLERANCE:
        raise VerificationError(f"{library} differs by {worst:.1e}, allowed {TOLERANCE:.0e}")
    return f"largest difference from {library} {worst:.1e}"


def _worst(library: str, found: PerText, wanted: PerText) -> float:
    """Largest difference of any value, relative where values are above 1. VerificationError for other numbers of values."""
    for theirs, ours in zip(found, wanted, strict=True):
        if theirs.shape != ours.shape:
            raise VerificationError(
                f"{library} gives values of shape {theirs.shape} for a text, the network {ours.shape}"
            )
    largest = max(float(np.abs(ours).max()) for ours in wanted)
    off = np.max([np.abs(theirs - ours).max() for theirs, ours in zip(found, wanted, strict=True)])
    return float(off / max(1.0, largest))


def check_code(folder: Path, saved: Checkpoint) -> None:
    """VerificationError unless the only code that transformers would run is the modelling file, and that is our rendering.

    A network in stock form has none.
    """
    own = None
    if needs_code(saved, saved.architecture.shape):
        own = {saved.task.auto_class: f"{MODULE}.Subnet"}
        code = read_bytes(folder / f"{MODULE}.py", name=f"{MODULE}.py").decode("utf-8", errors="replace")
        if code != modelling_file(saved):
            raise VerificationError(f"{MODULE}.py is not the file that was written: nothing was loaded with it")
    for name, allowed in (("config.json", own), ("tokenizer_config.json", None)):
        found = read_json(folder / name).get("auto_map")
        if found != allowed:
            raise VerificationError(f"{name} names other code than paretoc writes: nothing was loaded with it")


def _real(judged: Tensor, mask: Tensor) -> PerText:
    """Values of every text of a batch; of tokens, those of the real ones."""
    of_tokens = judged.ndim > mask.ndim
    return [(row[real.bool()] if of_tokens else row).numpy() for row, real in zip(judged, mask, strict=True)]


def _ours(saved: Checkpoint) -> PerText:
    """Values of our own code."""
    batches = encode(saved, [(text,) for text in TEXTS], max_tokens=saved.max_tokens)
    found: dict[int, NDArray[np.float32]] = {}
    with torch.inference_mode():
        for rows, batch in zip(batches.rows, batches, strict=True):
            judged = saved.task.judged(saved.model(**batch))
            found |= zip(rows.tolist(), _real(judged, batch["attention_mask"]), strict=True)
    return [found[row] for row in range(len(TEXTS))]


def _theirs(folder: Path, saved: Checkpoint) -> tuple[str, PerText]:
    """Who computed, and what."""
    with quiet_transformers(), _modules_elsewhere():
        return _by_sentence_transformers(folder) if saved.model.recipe is not None else _by_transformers(folder, saved)


@contextlib.contextmanager
def _modules_elsewhere() -> Iterator[None]:
    """Code that transformers loads is copied to a temporary folder and not to the user's own cache, which is left alone."""
    from transformers import dynamic_module_utils

    loader: Any = dynamic_module_utils
    kept, path = loader.HF_MODULES_CACHE, list(sys.path)
    with tempfile.TemporaryDirectory(prefix="paretoc-modules-") as folder:
        loader.HF_MODULES_CACHE = folder
        try:
            yield
        finally:
            loader.HF_MODULES_CACHE, sys.path[:] = kept, path


def _by_sentence_transformers(folder: Path) -> tuple[str, PerText]:
    """ImportError where it is not installed."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", trust_remote_code=True, local_files_only=True)
    found: NDArray[np.float32] = model.encode(list(TEXTS), show_progress_bar=False)
    return "sentence-transformers", list(found)


def _by_transformers(folder: Path, saved: Checkpoint) -> tuple[str, PerText]:
    """With transformers' own tokenizer and model, and nothing but what the folder says."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    auto: Any = getattr(transformers, saved.task.auto_class)
    model = auto.from_pretrained(folder, trust_remote_code=True, local_files_only=True, dtype=torch.float32).eval()
    given = tokenizer(list(TEXTS), padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        outputs = model(**given)
        judged = saved.task.judged(tuple(getattr(outputs, name) for name in saved.task.output_names))
        return "transformers", _real(judged, given["attention_mask"])
