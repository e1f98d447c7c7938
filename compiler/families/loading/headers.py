"""Headers of safetensors files, read within bounds before anything is allocated for their weights."""

import math
import os
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field
from typing_extensions import TypedDict

from targets.errors import InputError
from targets.json_file import conforming, parse_json

MOST_HEADER_BYTES = 64 * 2**20
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip

_MOST = 2**62
_Size = Annotated[int, Field(ge=0, lt=_MOST)]


class _Entry(TypedDict):
    dtype: str
    shape: list[_Size]
    data_offsets: list[_Size]


class StoredTensor(NamedTuple):
    """A tensor of a file: safetensors' name of its type, its shape, and where its bytes lie."""

    dtype: str
    shape: tuple[int, ...]
    place: tuple[int, int]


def read_header(path: Path, name: str) -> dict[str, StoredTensor]:
    """Every tensor in a safetensors file by name; `name` is what messages call the file.

    InputError where the file is none, its header is damaged or too long, or tensors overlap or leave the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MOST_HEADER_BYTES):
            raise InputError(f"{name}: the weights cannot be loaded: no safetensors header in {size:,} bytes")
        content = file.read(length)
    entries = parse_json(content, name=f"{name}: the weights cannot be loaded: its header")
    if not isinstance(entries, dict):
        raise InputError(f"{name}: the weights cannot be loaded: its header is no object")
    entries.pop("__metadata__", None)
    checked = {key: _checked(key, entry, name) for key, entry in entries.items()}
    _check_places(checked, size - 8 - length, name)
    return checked


def _checked(key: str, entry: Any, name: str) -> StoredTensor:
    """One entry of a header. It is compared by hand: a file has hundreds, and pydantic is asked only to name what is odd."""
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [start, stop]} if all(
            type(number) is int and 0 <= number < _MOST for number in (*shape, start, stop)
        ):
            return StoredTensor(dtype, tuple(shape), (start, stop))
    conforming(entry, _Entry, name=f"{name}: the weights cannot be loaded: {key}")
    raise InputError(f"{name}: the weights cannot be loaded: {key} has sizes that no file has")


def _check_places(tensors: dict[str, StoredTensor], room: int, name: str) -> None:
    """InputError where tensors do not lie one after another in the rest of the file, each as large as its shape says."""
    end, where = 0, f"{name}: the weights cannot be loaded:"
    for key, tensor in sorted(tensors.items(), key=lambda item: item[1].place):
        start, stop = tensor.place
        bits = _BITS.get(tensor.dtype)
        if bits is not None and (stop - start) * 8 != math.prod(tensor.shape) * bits:
            raise InputError(f"{where} {key} has {stop - start:,} bytes, which are not those of its shape")
        if start != end:
            raise InputError(f"{where} {key} does not begin where the tensor before it ends")
        end = stop
    if end != room:
        raise InputError(f"{where} {room:,} bytes of weights where the header says {end:,}")


def memory_bytes() -> int | None:
    """Memory of this machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def check_memory(parameters: int, name: str) -> None:
    """InputError where so many float32 parameters are more than this machine's memory."""
    memory, needed = memory_bytes(), 4 * parameters
    if memory is not None and needed > memory:
        raise InputError(
            f"{name}: {parameters:,} parameters take {needed / 2**30:,.0f} GiB in float32, this machine has "
            f"{memory / 2**30:,.0f} GiB"
        )
