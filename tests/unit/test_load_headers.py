"""Headers of safetensors files: what is refused before anything is read for a weight."""

import json

import pytest
import torch
from safetensors.torch import save_file

from compiler.families.loading.headers import check_memory, read_header
from targets.errors import InputError


def write(path, header, room=0, length=None):
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(content) if length is None else length).to_bytes(8, "little") + content + bytes(room))
    return path


def entry(shape, start, stop, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def test_what_safetensors_writes(tmp_path):
    tensors = {"b": torch.ones(2, 3), "a": torch.ones(4, dtype=torch.bfloat16), "none": torch.ones(0, 5)}
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    found = read_header(tmp_path / "x.safetensors", "x")
    assert {key: (tensor.dtype, tensor.shape) for key, tensor in found.items()} == {
        "b": ("F32", (2, 3)),
        "a": ("BF16", (4,)),
        "none": ("F32", (0, 5)),
    }


BAD = {
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "overlapping": {"a": entry([2], 0, 8), "b": entry([2], 4, 12)},
    "a hole": {"a": entry([2], 0, 8), "b": entry([1], 12, 16)},
    "too short": {"a": entry([3], 0, 12)},
    "too long": {"a": entry([1], 0, 4)},
    "another size": {"a": entry([3], 0, 16)},
    "negative": {"a": entry([-4], 0, 16)},
    "backwards": {"a": entry([4], 16, 0)},
    "huge": {"a": entry([2**40, 2**40], 0, 16)},
    "beyond": {"a": entry([2**70], 0, 2**72)},
    "true": {"a": entry([True], 0, 16)},
    "words": {"a": "weight"},
}


@pytest.mark.parametrize("kind", BAD)
def test_a_damaged_header(tmp_path, kind):
    path = write(tmp_path / "x.safetensors", BAD[kind], room=0 if kind == "nothing" else 16)
    with pytest.raises(InputError, match="the weights cannot be loaded") as caught:
        read_header(path, "model")
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize("length", [2**63, 1000, 2**64 - 1])
def test_a_header_longer_than_its_file(tmp_path, length):
    with pytest.raises(InputError, match="no safetensors header"):
        read_header(write(tmp_path / "x.safetensors", b"{}", length=length), "model")


def test_more_parameters_than_memory():
    check_memory(1000, "model")
    with pytest.raises(InputError, match="GiB in float32"):
        check_memory(10**15, "model")
