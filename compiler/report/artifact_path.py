"""Where the file of a network lies: below the folder of its run, whatever its `front.json` says."""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from targets.errors import InputError
from targets.forms import MOST_BYTES_OF_A_FILE
from targets.json_file import check_regular

if TYPE_CHECKING:
    from compiler.report.schema import CandidateInfo

MOST_BYTES_OF_A_GRAPH = 2**31
"""Protocol buffers end there; a larger network keeps its weights beside its graph."""

_BESIDE = ".data"
"""What the name of that file of weights ends with."""


def artifact_path(run_dir: Path, net: "CandidateInfo") -> Path:
    """The graph of a network, which need not be there.

    InputError where the path is absolute or leads out of the run's folder, by itself or by a link, or where a pipe, device,
    folder or file of over 2 GiB lies there, of over 64 GiB in the place of its weights.
    """
    said = net["artifact"]["path"]
    below = PurePosixPath(said)
    if below.is_absolute() or ".." in below.parts or not below.name or len(below.parts) < 2:
        raise _refusal(run_dir, net, "expected FOLDER/FILE below the run's folder")
    path = run_dir / below
    _check_place(path, run_dir, net, MOST_BYTES_OF_A_GRAPH)
    _check_place(path.with_name(path.name + _BESIDE), run_dir, net, MOST_BYTES_OF_A_FILE)
    return path


def _check_place(path: Path, run_dir: Path, net: "CandidateInfo", most_bytes: int) -> None:
    try:
        inside = path.resolve().is_relative_to(run_dir.resolve())
        there = path.exists()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name that is too long
        raise _refusal(run_dir, net, "no such path can be") from None
    if not inside:
        raise _refusal(run_dir, net, "a link leads out of the run's folder")
    if there:
        check_regular(path, name=str(path), most_bytes=most_bytes)


def _refusal(run_dir: Path, net: "CandidateInfo", why: str) -> InputError:
    return InputError(
        f"{run_dir / 'front.json'}: {net['id']}: artifact.path {net['artifact']['path']!r}: {why}\n"
        "nothing outside of a run is read or written for it: compile again"
    )
