"""What servers need to serve an artefact: a Triton model repository, a small HTTP server, a folder for TEI.

The graph is stored once: bundles hold hard links to it, and the HTTP server reads the files of the artefact itself.
"""

import json
import os
import shlex
import shutil
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, Literal

import onnx

from compiler.export.files import opset_of, parts_of
from compiler.export.preprocessing import BEGIN, END, preprocessing
from compiler.export.tensorrt import input_shapes
from compiler.families import Checkpoint, EmbeddingRecipe
from compiler.families.recipe_files import CONFIG
from compiler.tasks.route import Route, Tei

Accelerator = Literal["cpu", "cuda", "tensorrt"]

MAX_BATCH = 32
"""Requests that Triton puts into one call at most."""

_CALLS = {"cpu": (256, 16), "cuda": (8192, 1024), "tensorrt": (8192, 1024)}
"""For the HTTP server's calls, in tokens: the most that a call has, and what starting one costs; on a CPU for each thread.

MiniLM on one thread of a busy CPU: a call costs as much as 10 to 15 tokens, and a token in a call of 64 as much as in one of 512,
where texts only wait for each other. On GPUs they are set to what keeps one busy, and not measured.
"""

TEI_OPSETS = range(7, 23)
"""Of Text Embeddings Inference 1.9: ONNX Runtime 1.22."""

_ONNX_RUNTIME = {17: "1.12", 18: "1.14", 19: "1.15", 20: "1.17", 21: "1.18", 22: "1.21", 23: "1.23"}
"""The first release for each opset: https://onnxruntime.ai/docs/reference/compatibility.html."""

_TRITON = {17: "22.07", 18: "23.03", 19: "23.05", 20: "24.03", 21: "24.05", 22: "25.03", 23: "25.08"}
"""The first release whose build.py names that ONNX Runtime or a newer one."""

_TRITON_TYPES: dict[int, str] = {
    onnx.TensorProto.INT32: "TYPE_INT32",
    onnx.TensorProto.INT64: "TYPE_INT64",
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.FLOAT16: "TYPE_FP16",
}


_PROVIDERS: dict[str, list[Any]] = {
    "cpu": [],
    "cuda": ["CUDAExecutionProvider"],
    "tensorrt": [("TensorrtExecutionProvider", {"trt_int8_enable": True}), "CUDAExecutionProvider"],
}

_BATCHED = """# Requests of one length that arrive within half a millisecond are one call.
dynamic_batching { max_queue_delay_microseconds: 500 }"""

_ALONE = "# The ranges of 8-bit activations depend on all texts of a call, so each text has one of its own: no answer depends on others."

_ACCELERATOR = Template("""
# TensorRT multiplies in 8 bits what stands between Q and DQ. One engine, built when the model is loaded, takes all these shapes.
optimization { execution_accelerators { gpu_execution_accelerator [
  { name: "tensorrt" parameters { key: "precision_mode" value: "INT8" }
    parameters { key: "trt_profile_min_shapes" value: "$least" }
    parameters { key: "trt_profile_opt_shapes" value: "$usual" }
    parameters { key: "trt_profile_max_shapes" value: "$most" } }
] } }
""")

_TRITON_WITH_PROFILES = "24.04"
"""The first release whose ONNX Runtime backend hands shape profiles on to TensorRT."""


def write_bundles(
    folder: Path,
    path: Path,
    checkpoint: Checkpoint,
    *,
    runs_on: Accelerator,
    threads: int,
    cpus: int | None = None,
    usual: tuple[int, int] = (1, 128),
) -> None:
    """`folder` (serving/): what the servers need for the graph at `path` and the checkpoint beside it.

    `threads` are those of one call on a CPU, which has `cpus` processors where that is known. A graph in static int8 runs on a
    GPU through TensorRT, tuned for calls of the `usual` batch and tokens.
    """
    model = onnx.load(path, load_external_data=False)
    opset = opset_of(model)
    shutil.rmtree(folder, ignore_errors=True)
    instances = max(1, (cpus or 1) // threads) if runs_on == "cpu" else 1
    accelerator = _accelerator(model, usual, checkpoint.max_tokens) if runs_on == "tensorrt" else ""
    triton = max(_TRITON[opset], _TRITON_WITH_PROFILES) if accelerator else _TRITON[opset]
    alone = any(each.key == "precision" and each.value == "int8" for each in model.metadata_props)
    about_triton = {"max_batch": 1 if alone else MAX_BATCH, "batching": _ALONE if alone else _BATCHED, "triton": triton, "instances": instances, "threads": threads,
                    "texts": _about_texts(checkpoint), "kind": "KIND_CPU" if runs_on == "cpu" else "KIND_GPU", "accelerator": accelerator}  # fmt: skip
    _write_triton(folder / "triton" / "model", path, model, about_triton)
    route = checkpoint.task.route
    _write_http(folder / "http", path, checkpoint, runs_on, threads)
    if opset in TEI_OPSETS and route.tei is not None:
        _write_tei(folder / "tei", path, checkpoint, _tei_page(checkpoint, route.tei))
    about = _template("serving.md").substitute(
        opset=opset, onnxruntime=_ONNX_RUNTIME[opset], triton=triton, tei=_about_tei(opset, checkpoint, route.tei),
        batches="each text is a call of its own, as answers would depend on the others" if alone else "those of one length are batched",
        texts=_about_texts(checkpoint), paths=", ".join(f"`{each}`" for each in route.paths), first=route.paths[0], example=route.example,
    )  # fmt: skip
    (folder / "README.md").write_text(about, encoding="utf-8")


def _text(name: str) -> str:
    return files("compiler.export").joinpath(f"{name}.txt").read_text(encoding="utf-8")


def _template(name: str) -> Template:
    return Template(_text(name))


def _link_graph(path: Path, target: Path) -> None:
    """The graph under another name, and its weights where they lie beside it under theirs: linked, else copied."""
    target.parent.mkdir(parents=True)
    _link(path, target)
    for weights in parts_of(path)[1:]:
        _link(weights, target.with_name(weights.name))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def _write_triton(folder: Path, path: Path, model: onnx.ModelProto, about: Mapping[str, Any]) -> None:
    """A model of a repository: config.pbtxt, and the graph as its version 1."""
    _link_graph(path, folder / "1" / "model.onnx")
    inputs, outputs = (", ".join(map(_tensor, values)) for values in (model.graph.input, model.graph.output))
    config = _template("config.pbtxt").substitute(about, inputs=inputs, outputs=outputs)
    (folder / "config.pbtxt").write_text(config, encoding="utf-8")


def _accelerator(model: onnx.ModelProto, usual: tuple[int, int], longest: int) -> str:
    """TensorRT in Triton's words: an engine for every batch that Triton makes, tuned for the usual call."""
    batch, tokens = usual
    shapes = input_shapes(model, ((1, 1), usual, (max(batch, MAX_BATCH), max(tokens, longest))))
    return _ACCELERATOR.substitute(dict(zip(("least", "usual", "most"), shapes, strict=True)))


def _tensor(value: onnx.ValueInfoProto) -> str:
    """An input or output in Triton's words; the batch, its first dimension, is Triton's own."""
    tensor = value.type.tensor_type
    dims = ", ".join(str(dim.dim_value or -1) for dim in tensor.shape.dim[1:])
    return f'{{ name: "{value.name}" data_type: {_TRITON_TYPES[tensor.elem_type]} dims: [ {dims} ] }}'


def _write_http(folder: Path, path: Path, checkpoint: Checkpoint, runs_on: Accelerator, threads: int) -> None:
    folder.mkdir(parents=True)
    (folder / "server.py").write_text(server_script(path, checkpoint, runs_on, threads), encoding="utf-8")


def server_script(path: Path, checkpoint: Checkpoint, runs_on: Accelerator, threads: int) -> str:
    """The HTTP server of a checkpoint's task, in one file; it reads graph and tokenizer two folders up.

    It depends on nothing else, so a script that differs from it is not ours.
    """
    route = checkpoint.task.route
    return server_source(
        route, file=path.name, facts=route.facts(checkpoint), lines=preprocessing(checkpoint),
        max_tokens=checkpoint.max_tokens, runs_on=runs_on, threads=threads,
    )  # fmt: skip


def server_source(
    route: Route,
    *,
    file: str,
    facts: Mapping[str, Any],
    lines: str,
    max_tokens: int,
    runs_on: Accelerator = "cpu",
    threads: int = 1,
) -> str:
    """A FastAPI server of one file: the part that all tasks share, and the route's own.

    `file` is the graph's name, `facts` the constants that the route's part reads, `lines` those from texts to arrays
    (`preprocessing`), `threads` those of one call of the graph.
    """
    call_tokens, call_cost = (tokens * (threads if runs_on == "cpu" else 1) for tokens in _CALLS[runs_on])
    return _template("server.py").substitute(
        file=file,
        paths=", ".join(route.paths),
        max_tokens=max_tokens,
        outputs=list(route.outputs),
        facts="".join(f"{name} = {value!r}\n" for name, value in facts.items()),
        threads=threads,
        call_tokens=call_tokens,
        call_cost=call_cost,
        providers=[*_PROVIDERS[runs_on], "CPUExecutionProvider"],
        begin=BEGIN,
        preprocessing=lines,
        end=END,
        metrics=_text("server_metrics.py"),
        batching=_text("server_batching.py"),
        route=_text(f"routes/{route.file}.py"),
    )


_OF_TEI = ("config.json", "tokenizer.json", "tokenizer_config.json", "sentence_bert_config.json", CONFIG)


def _write_tei(folder: Path, path: Path, checkpoint: Checkpoint, page: str) -> None:
    """The files that Text Embeddings Inference reads, under the names it looks for."""
    _link_graph(path, folder / "onnx" / "model.onnx")
    (folder / "README.md").write_text(page, encoding="utf-8")
    for name in _OF_TEI:
        if (path.parent / name).is_file():
            _link(path.parent / name, folder / name)
    if checkpoint.model.recipe is not None:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(
            json.dumps(_pooling(checkpoint.model.recipe), indent=1) + "\n", encoding="utf-8"
        )


def _pooling(recipe: EmbeddingRecipe) -> dict[str, Any]:
    """A pooling that TEI knows; it must name one, and takes the graph's own sentence embedding all the same."""
    first = recipe.poolings == ("cls",)
    return {"pooling_mode_cls_token": first, "pooling_mode_mean_tokens": not first}


def _tei_page(checkpoint: Checkpoint, tei: Tei) -> str:
    """How to start TEI, and what requests must say for it to do as the recipe and the task say."""
    recipe = checkpoint.model.recipe
    named = recipe.default_prompt if recipe is not None and recipe.prompt else None
    say = list(tei.requests)
    if recipe is not None and not recipe.normalize:
        say.append('"normalize": false')
    if checkpoint.tokenizer.truncation_side == "left":
        say.append('"truncation_direction": "Left"')
    must = f"Every request must say {', '.join(say)}: TEI does otherwise by itself. " if say else ""
    return _template("tei.md").substitute(
        flags=f" --default-prompt-name {shlex.quote(named)}" if named else "", requests=must + tei.note
    )


def _about_tei(opset: int, checkpoint: Checkpoint, tei: Tei | None) -> str:
    if tei is None:
        return f"There is no bundle: it does not know {checkpoint.task.words}."
    if opset not in TEI_OPSETS:
        return (
            f"There is no bundle: version 1.9 has ONNX Runtime 1.22, which does not run opset {opset}. "
            f"Compile with `--opset {TEI_OPSETS[-1]}` to get one."
        )
    return _tei_page(checkpoint, tei).strip()


def _about_texts(checkpoint: Checkpoint) -> str:
    """What a sender of token ids has to do to texts, in a line of a comment."""
    recipe = checkpoint.model.recipe
    prompt = f"{json.dumps(recipe.prompt)} before every text; " if recipe is not None and recipe.prompt else ""
    side = checkpoint.tokenizer.truncation_side
    return f"{prompt}at most {checkpoint.max_tokens} tokens, cut on the {side}; padding on the right"
