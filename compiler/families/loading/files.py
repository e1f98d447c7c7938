"""Which files of a model folder are read: safetensors of that folder only, and every other form is named with what to do."""

import re
import stat
from pathlib import Path
from typing import NamedTuple

from compiler.families.loading.headers import StoredTensor, read_header
from compiler.families.loading.library import label_of
from targets.errors import InputError
from targets.json_file import conforming, read_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
MOST_SHARDS = 1000
_PLAIN = re.compile(r"[\w.+-]+\.safetensors", re.ASCII)
_FOREIGN = {
    "*.gguf": "GGUF weights of llama.cpp, which are quantised",
    "tf_model*.h5": "weights of TensorFlow",
    "*.ckpt.index": "weights of TensorFlow 1",
    "flax_model*.msgpack": "weights of Flax",
    "*.onnx": "an ONNX graph",
    "openvino_model.xml": "an OpenVINO graph",
}


class StoredWeights(NamedTuple):
    """What safetensors files hold: by name of a tensor, the file that has it and its header."""

    files: dict[str, Path]
    tensors: dict[str, StoredTensor]


def check_folder(folder: Path) -> None:
    """InputError where a folder has no configuration or no safetensors, saying what it has instead."""
    name = label_of(folder)
    if not (folder / "config.json").is_file():
        inner = sorted(
            path.parent.name for path in folder.glob("*/config.json") if (path.parent / "config.json").is_file()
        )
        models = [part for part in inner if not part[:1].isdigit() or "_Transformer" in part]
        hint = f"\none lies in {models[0]}/: give that folder" if models else ""
        raise InputError(f"{name}: no config.json in the model folder, so it is no transformers checkpoint{hint}")
    if any(path.name != "adapter_model.safetensors" for path in folder.glob("*.safetensors*")):
        return
    pickled = [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth"), *folder.glob("*.ckpt")]
    if pickled:
        raise InputError(
            f"{name}: only pickled weights ({pickled[0].name}), which can run code when loaded\nconvert them: "
            'python -c "from transformers import AutoModel as M; '
            "M.from_pretrained('FOLDER').save_pretrained('FOLDER')\""
        )
    for pattern, what in _FOREIGN.items():
        if found := sorted(folder.glob(pattern)):
            raise InputError(
                f"{name}: no {SINGLE} in the model folder, only {found[0].name}: {what}\n"
                "give the PyTorch model it was made from, saved by transformers"
            )
    raise InputError(f"{name}: no {SINGLE} in the model folder")


def stored_weights(folder: Path) -> StoredWeights:
    """What is in the weights of a folder, from headers alone: those of `model.safetensors`, or of every shard of its index.

    InputError where an index names anything but regular files of that folder, or a file is damaged.
    """
    if (folder / SINGLE).exists() or (folder / SINGLE).is_symlink():
        _regular(folder / SINGLE, label_of(folder))
        tensors = read_header(folder / SINGLE, f"{label_of(folder)}/{SINGLE}")
        return StoredWeights(dict.fromkeys(tensors, folder / SINGLE), tensors)
    if (folder / INDEX).exists():
        return _sharded(folder)
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    raise InputError(
        f"{label_of(folder)}: no {SINGLE} in the model folder, but {', '.join(others[:3])}\n"
        f"name the one that holds the weights {SINGLE}, or add the {INDEX} of shards"
    )


def _sharded(folder: Path) -> StoredWeights:
    name = f"{label_of(folder)}/{INDEX}"
    index = conforming(read_json(folder / INDEX, name=name), dict[str, object], name=name)
    places = conforming(index.get("weight_map"), dict[str, str], name=f"{name}: weight_map")
    shards = sorted(set(places.values()))
    if len(shards) > MOST_SHARDS:
        raise InputError(f"{name} names {len(shards):,} files; at most {MOST_SHARDS:,} are read")
    for shard in shards:
        _check_shard(folder, shard, name)
    headers = {shard: read_header(folder / shard, f"{label_of(folder)}/{shard}") for shard in shards}
    files: dict[str, Path] = {}
    tensors: dict[str, StoredTensor] = {}
    for shard, header in headers.items():
        for key, tensor in header.items():
            if places.get(key, shard) != shard or key in files:
                raise InputError(f"{name} puts {key} in another file than {shard}, which has it")
            files[key], tensors[key] = folder / shard, tensor
    if lost := sorted(places.keys() - files.keys()):
        raise InputError(f"{name} puts {lost[0]} in {places[lost[0]]}, which does not have it")
    return StoredWeights(files, tensors)


def _check_shard(folder: Path, shard: str, name: str) -> None:
    """InputError where an index names what is no plain safetensors file of the folder itself."""
    if not _PLAIN.fullmatch(shard):
        raise InputError(f"{name} names {shard!r}: only plain names that end in .safetensors are read")
    path = folder / shard
    if not path.exists():
        raise InputError(f"{name} names {shard}, which is not in the folder")
    _regular(path, label_of(folder))
    if not any(path.resolve().is_relative_to(place) for place in _homes(folder)):
        raise InputError(f"{name} names {shard}, which is a link out of the folder")


def _homes(folder: Path) -> list[Path]:
    """Folders in which files of a model folder may lie: itself, and the hub's store where it is a snapshot of it."""
    whole = folder.resolve()
    return [whole, whole.parents[1] / "blobs"] if whole.parent.name == "snapshots" else [whole]


def _regular(path: Path, name: str) -> None:
    """InputError where a path is a pipe, device, folder or broken link: opening a pipe would wait for ever."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise InputError(f"{name}: {path.name} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise InputError(f"{name}: {path.name} is no regular file")
