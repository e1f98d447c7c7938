"""A checkpoint held against the libraries that others will load it with: sentence-transformers and transformers."""

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from compiler.export.reload import MODULE, modelling_file, needs_code
from compiler.families import Checkpoint
from compiler.families.loading.library import quiet_transformers
from compiler.tasks import encode
from targets.errors import ParetocError, VerificationError
from targets.json_file import read_bytes, read_json

TOLERANCE = 1e-4
NOT_COMPARED = "not compared with other libraries"
TEXTS = (
    "A short text.",
    "it is",
    "The Doctor of the city was early, and the market by the river (No. 7) was closed: 3.5 of 10!",
    " ".join(f"word {i} and another one;" for i in range(400)),
)
"""Short ones, one with capitals, digits and marks, and one that has to be cut."""

_LONGEST = 1024  # tokens: a text of all that some models read takes minutes


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
    if found.shape != wanted.shape:
        raise VerificationError(f"{library} gives {found.shape[1]} values a text, the network {wanted.shape[1]}")
    worst = float(np.abs(found - wanted).max() / max(1.0, float(np.abs(wanted).max())))
    if not worst < TOLERANCE:
        raise VerificationError(f"{library} differs by {worst:.1e}, allowed {TOLERANCE:.0e}")
    return f"largest difference from {library} {worst:.1e}"


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


def _pairs(texts: Sequence[str]) -> list[tuple[str, ...]]:
    return [(text,) for text in texts]


def _ours(saved: Checkpoint) -> NDArray[np.float32]:
    """[texts, values] of our own code."""
    longest = min(saved.max_tokens, _LONGEST)
    lines = saved.task.lines_at_once(saved, max_tokens=longest)
    batches = encode(saved, _pairs(TEXTS), max_tokens=longest, batch_size=lines)
    return batches.outputs(lambda inputs: saved.task.sample(saved.task.judged(saved.model(**inputs)), inputs))


def _theirs(folder: Path, saved: Checkpoint) -> tuple[str, NDArray[np.float32]]:
    """Who computed, and [texts, values]."""
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


def _by_sentence_transformers(folder: Path) -> tuple[str, NDArray[np.float32]]:
    """ImportError where it is not installed."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", trust_remote_code=True, local_files_only=True)
    found: NDArray[np.float32] = model.encode(list(TEXTS), show_progress_bar=False)
    return "sentence-transformers", found


def _by_transformers(folder: Path, saved: Checkpoint) -> tuple[str, NDArray[np.float32]]:
    """With transformers' own tokenizer and model, and nothing but what the folder says."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    auto: Any = getattr(transformers, saved.task.auto_class)
    model = auto.from_pretrained(folder, trust_remote_code=True, local_files_only=True, dtype=torch.float32).eval()
    given = tokenizer(
        list(TEXTS), padding=True, truncation=True, max_length=min(saved.max_tokens, _LONGEST), return_tensors="pt"
    )
    with torch.inference_mode():
        outputs = model(**given)
        judged = saved.task.judged(tuple(getattr(outputs, name) for name in saved.task.output_names))
        return "transformers", saved.task.sample(judged, given).float().numpy()
