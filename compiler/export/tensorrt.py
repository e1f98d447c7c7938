"""TensorRT: a graph held against its parser's table, and a recipe that builds the engine where TensorRT is.

Status stays "parser-checked, engine not built" until somebody has built one: the table says what the parser takes, not
how fast or how exact the engine is.
"""

import json
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import onnx

from targets.errors import VerificationError

CHECKED, UNSUPPORTED = "parser-checked, engine not built", "not supported by the parser"
Profile = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Smallest, usual and largest (batch, tokens)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What the parser's table says of a graph: nothing in `problems` means that it takes all of it, from release `version` on."""

    version: str
    problems: tuple[str, ...]

    @property
    def status(self) -> str:
        """One line for people."""
        return UNSUPPORTED if self.problems else CHECKED


@lru_cache(maxsize=1)
def _table() -> Mapping[str, Any]:
    return tomllib.loads(files("compiler.export").joinpath("tensorrt.toml").read_text(encoding="utf-8"))


def check_coverage(path: Path) -> Coverage:
    """Every operator, type and opset of a file, held against the table."""
    return _coverage(_graph(path))


def _graph(path: Path) -> onnx.ModelProto:
    return onnx.load(path, load_external_data=False)


def _coverage(model: onnx.ModelProto) -> Coverage:
    return Coverage(version=needed_version(model), problems=tuple(dict.fromkeys(_problems(model))))


def needed_version(model: onnx.ModelProto) -> str:
    """The first release of TensorRT whose parser has all operators of a graph."""
    table = _table()
    least: str = table["version"]
    later: set[str] = {table["since"].get(node.op_type, least) for node in model.graph.node}
    return max(later | {least}, key=lambda version: tuple(map(int, version.split("."))))


def require_coverage(path: Path) -> Coverage:
    """Coverage of a file. VerificationError where the table lacks something: there would be no engine."""
    return _required(path, _graph(path))


def _required(path: Path, model: onnx.ModelProto) -> Coverage:
    coverage = _coverage(model)
    if coverage.problems:
        raise VerificationError(
            f"{path.name}: TensorRT {coverage.version} does not take {', '.join(coverage.problems)}"
        )
    return coverage


def _problems(model: onnx.ModelProto) -> Iterator[str]:
    table = _table()
    low, high = table["opsets"]
    for opset in model.opset_import:
        if opset.domain not in {"", "ai.onnx"}:
            yield f"operators of the domain {opset.domain}"
        elif not low <= opset.version <= high:
            yield f"opset {opset.version}, known are {low} to {high}"
    types = _types(model)
    for node in model.graph.node:
        if node.op_type in table["control_flow"]:
            yield f"control flow: {node.op_type}"
        elif node.op_type not in table["operators"]:
            yield f"operator {node.op_type}"
        else:
            allowed = table["operators"][node.op_type]
            for name in node.input:
                if name in types and types[name] not in allowed and not _is_size(node, name):
                    yield f"{node.op_type} of {types[name]}"


_INDEXED = ("Gather", "GatherND", "GatherElements", "Clip", "CumSum", "QuantizeLinear", "DequantizeLinear")
"""The table speaks of their first input, the data; what follows has types of its own."""


def _is_size(node: onnx.NodeProto, name: str) -> bool:
    """Whether an input is an index, a shape, axes, a condition or a scale: of its own type whatever the data are."""
    position = list(node.input).index(name)
    if node.op_type == "Where":
        return position == 0
    return position > 0 and (node.op_type in _INDEXED or node.op_type.startswith("Reduce"))


def _types(model: onnx.ModelProto) -> dict[str, str]:
    """The element type of every tensor that shape inference knows, by name."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    name_of = onnx.TensorProto.DataType.Name
    values = (*graph.input, *graph.value_info, *graph.output)
    types = {value.name: name_of(value.type.tensor_type.elem_type) for value in values}
    return types | {tensor.name: name_of(tensor.data_type) for tensor in graph.initializer}


def shape_profile(batch: int, tokens: int, longest: int) -> Profile:
    """From one token to the longest text, tuned for what is asked."""
    return (1, 1), (batch, tokens), (batch, max(tokens, longest))


def write_recipe(folder: Path, path: Path, profile: Profile) -> Coverage:
    """`folder`: a trtexec line, a builder script for Python, and what the parser's table says of the file.

    VerificationError as in `require_coverage`.
    """
    model = _graph(path)
    coverage = _required(path, model)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in _scripts(path, model, profile).items():
        (folder / name).write_text(text, encoding="utf-8")
    about = {"status": coverage.status, "tensorrt": coverage.version, "shapes": profile, "sources": _table()["sources"]}
    (folder / "status.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return coverage


def recipe_scripts(path: Path, profile: Profile) -> dict[str, str]:
    """The scripts of a file's recipe by name: Python and a shell command that build the engine from the recipe's folder."""
    return _scripts(path, _graph(path), profile)


def _scripts(path: Path, model: onnx.ModelProto, profile: Profile) -> dict[str, str]:
    script = Template(files("compiler.export").joinpath("build_engine.py.txt").read_text(encoding="utf-8"))
    flags = dict(zip(("minShapes", "optShapes", "maxShapes"), input_shapes(model, profile), strict=True))
    words = [f"--onnx=../{path.name}", "--saveEngine=model.plan", "--stronglyTyped"]
    line = shlex.join(["trtexec", *words, *(f"--{flag}={shapes}" for flag, shapes in flags.items())])
    return {
        "build_engine.py": script.substitute(file=path.name, version=needed_version(model), shapes=repr(profile)),
        "build_engine.sh": f"{line}\n",
    }


def input_shapes(model: onnx.ModelProto, profile: Profile) -> list[str]:
    """A profile as trtexec and ONNX Runtime write it, least first: name:BxT for every input."""
    return [",".join(f"{value.name}:{batch}x{tokens}" for value in model.graph.input) for batch, tokens in profile]
