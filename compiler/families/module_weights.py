"""Weights of a sentence-transformers module that has some of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from targets.errors import InputError


def read_weights(folder: Path, shapes: Mapping[str, Sequence[int]]) -> dict[str, NDArray[np.float32]]:
    """Float32 arrays of these names and shapes from model.safetensors.

    InputError where the file is missing, pickled or damaged, or holds other tensors, shapes, NaN or infinite values.
    """
    path = folder / "model.safetensors"
    if not path.is_file():
        pickled = (folder / "pytorch_model.bin").exists()
        found = (
            "only pickled weights (pytorch_model.bin), which can run code when loaded"
            if pickled
            else "no model.safetensors"
        )
        raise InputError(
            f'{folder.name} has {found}\nconvert it: python -c "from sentence_transformers import SentenceTransformer as M; '
            "M('FOLDER').save_pretrained('FOLDER')\""
        )
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{folder.name}/{path.name} cannot be read: {str(error).splitlines()[0]}") from None
    weights = {name: tensor.float().numpy() for name, tensor in tensors.items()}
    for name in sorted({*shapes, *weights}):
        shape = weights[name].shape if name in weights else "missing"
        wanted = tuple(shapes[name]) if name in shapes else "missing"
        if shape != wanted:
            raise InputError(f"{folder.name}/{path.name}: {name} is {shape}, by config.json it is {wanted}")
        if not np.isfinite(weights[name]).all():
            raise InputError(f"{folder.name}/{path.name}: {name} holds NaN or infinite values")
    return weights
