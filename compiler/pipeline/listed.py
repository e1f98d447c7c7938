"""The files of a run against its list, and code files against what this version would write: checks of `compile verify`."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from compiler.export.reload import MODULE, modelling_file, needs_code
from compiler.export.serving import server_script
from compiler.export.tensorrt import recipe_scripts
from compiler.families import Checkpoint
from compiler.pipeline.outfolder import MARKER
from compiler.pipeline.stages.export import runs_on
from compiler.report.manifest import FILE, differences, own_differences, read_with_digest
from compiler.report.schema import CandidateInfo, Front, this_tool
from compiler.report.verification import Check
from targets import Target
from targets.errors import InputError, VerificationError, printable
from targets.json_file import conforming, read_json


def check_list(folder: Path, front: Front, expected: str | None) -> Iterator[Check]:
    """The list itself, the run's own files, and all that lies in the folder of each network."""
    try:
        manifest, digest = read_with_digest(folder)
    except InputError as error:
        yield {"net": "all", "what": "list", "passed": False, "detail": str(error).splitlines()[0]}
        return
    yield from _check_best(folder, front)
    if manifest is None:
        yield _without_list(folder, expected)
        return
    wrong = list(own_differences(folder, manifest["files"]))
    if expected is not None and digest != expected.lower():
        wrong.insert(0, f"{FILE} is not the list that was named: sha-256 {digest}")
    yield _check("all", "list", wrong, f"sha-256 {digest}")
    for net in (front["dense"], *front["candidates"]):
        place = Path(net["artifact"]["path"]).parts[0]
        count = sum(name.startswith(f"{place}/") for name in manifest["files"])
        wrong = list(differences(folder, manifest["files"], place)) if count else [f"no file of {place} is listed"]
        yield _check(net["id"], "files", wrong, f"{count} files as they were written")


def _without_list(folder: Path, expected: str | None) -> Check:
    """Runs of earlier releases have no list; one that this release began has lost it."""
    lost = expected is not None or os.path.lexists(folder / MARKER)
    detail = f"{FILE} is missing" if lost else f"there is no {FILE}, as earlier releases wrote none"
    return {"net": "all", "what": "list", "passed": False if lost else None, "detail": detail}


def _check_best(folder: Path, front: Front) -> Iterator[Check]:
    """The link to the network that was chosen; where it is missing, as on a file system without links, front.json names it."""
    link, best = folder / "best", front["best"]
    if best is not None and os.path.lexists(link):
        right = link.is_symlink() and link.readlink() == Path(best)
        yield _check("all", "best", [] if right else [f"best is no link to {best}"], f"best is a link to {best}")


def _check(net: str, what: str, wrong: list[str], detail: str) -> Check:
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return {"net": net, "what": what, "passed": not wrong, "detail": printable(wrong[0]) + more if wrong else detail}


def check_code(folder: Path, front: Front, net: CandidateInfo, load: Callable[[], Checkpoint]) -> Check:
    """The files that a user is told to run, as this version would write them for this network."""
    what, version = "code", this_tool()["version"]
    if front["tool"] != this_tool():
        detail = f"not compared: written by {front['tool']['version']}, this is {version}"
        return {"net": net["id"], "what": what, "passed": None, "detail": printable(detail)}
    try:
        expected = _code(folder / net["artifact"]["path"], front, net, load())
    except Exception as error:  # noqa: BLE001  whatever a damaged artefact does: `parity` says it
        detail = f"not compared: {printable(str(error).split(chr(10), 1)[0], 120)}"
        return {"net": net["id"], "what": what, "passed": None, "detail": detail}
    place = (folder / net["artifact"]["path"]).parent
    wrong = [
        f"{path.relative_to(place)} is not what paretoc writes"
        for path, text in expected.items()
        if _text(path) != text
    ]
    return _check(net["id"], what, wrong, f"{len(expected)} files as paretoc {version} writes them")


def _text(path: Path) -> str | None:
    """What is in a file of code; None where it cannot be read, or is large beyond all code of ours."""
    try:
        return path.read_text(encoding="utf-8") if path.is_file() and path.stat().st_size < 2**20 else None
    except (OSError, UnicodeDecodeError):
        return None


def _code(path: Path, front: Front, net: CandidateInfo, checkpoint: Checkpoint) -> dict[Path, str]:
    place, asked = path.parent, front["workload"]
    accelerator = runs_on(Target.parse(front["target"]["name"]).kind, net["precision"])
    own = {place / f"{MODULE}.py": modelling_file(checkpoint)}
    expected = {
        **(own if needs_code(checkpoint, checkpoint.architecture.shape) else {}),
        place / "serving" / "http" / "server.py": server_script(path, checkpoint, accelerator, asked["threads"]),
    }
    recipe = place / "tensorrt"
    if recipe.is_dir():
        scripts = recipe_scripts(path, _profile(recipe / "status.json"))
        expected |= {recipe / name: text for name, text in scripts.items()}
    return expected


def _profile(path: Path) -> Any:
    """The shapes that a recipe was written for: three pairs of whole numbers."""
    shapes = conforming(read_json(path), dict[str, Any], name=path.name).get("shapes")
    rows: list[list[int]] = conforming(shapes, list[list[int]], name=f"{path.name}: shapes")
    if [len(row) for row in rows] != [2, 2, 2]:
        raise VerificationError(f"{path.name}: shapes are {json.dumps(rows)[:60]}, expected three pairs")
    return tuple((batch, tokens) for batch, tokens in rows)
