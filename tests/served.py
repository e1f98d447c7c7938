"""Servers of stand-in graphs: small enough to know every answer, started as the processes that users start."""

import contextlib
import importlib.util
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler.export.serving import server_script
from compiler.tasks import TASKS

HIDDEN = 8


def saved(path, nodes, outputs, arrays, names=("input_ids", "attention_mask")):
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in names]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    constants = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "stand-in", inputs, results, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def lookup_graph(path, **tables):
    """Outputs [batch, tokens, ...] that are looked up by token id in tables [vocabulary, ...]."""
    nodes = [helper.make_node("Gather", [f"{name}_table", "input_ids"], [name]) for name in tables]
    outputs = {name: ["batch", "tokens", *table.shape[1:]] for name, table in tables.items()}
    arrays = {f"{name}_table": table.astype(np.float32) for name, table in tables.items()}
    saved(path, nodes, outputs, arrays, names=("input_ids",))


def context_graph(path, output, size, vocabulary, *, tokens=False, seed=0):
    """An output [batch, size], or [batch, tokens, size], that depends on all real tokens: a padding that counts is seen."""
    rng = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["embedded", "wide"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "middle"], ["sum"], keepdims=1),
        helper.make_node("Add", ["embedded", "sum"], ["mixed"]),
        helper.make_node("Squeeze", ["sum", "middle"], ["pooled"]),
        helper.make_node("MatMul", ["mixed" if tokens else "pooled", "weights"], [output]),
    ]
    arrays = {
        "table": rng.normal(size=(vocabulary, HIDDEN)).astype(np.float32), "last": np.array([2]),
        "middle": np.array([1]), "weights": rng.normal(size=(HIDDEN, size)).astype(np.float32),
    }  # fmt: skip
    saved(path, nodes if tokens else [*nodes[:5], *nodes[6:]], {output: ["batch", *["tokens"] * tokens, size]}, arrays)


def write_server(folder, task, tokenizer, *, labels=(), max_tokens=64, recipe=None):
    """The server of a task beside the graph in `folder`, as an artefact has it; its script."""
    tokenizer.save_pretrained(folder)
    checkpoint = SimpleNamespace(
        tokenizer=tokenizer,
        model=SimpleNamespace(recipe=recipe),
        task=TASKS[task],
        max_tokens=max_tokens,
        label_names=labels,
    )
    script = folder / "serving" / "http" / "server.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(server_script(Path("model.onnx"), checkpoint, "cpu", 1), encoding="utf-8")
    return script


def imported(script):
    """The server as a module of this process, to look inside."""
    spec = importlib.util.spec_from_file_location("server", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def started(script, *flags):
    """Address and process of a server, in a process that has no paretoc, torch or transformers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    blocked = "import sys, runpy\nfor n in ('compiler', 'profilers', 'torch', 'transformers'): sys.modules[n] = None\n"
    argv = ["server.py", "--port", str(port), *map(str, flags)]
    code = f"{blocked}sys.argv = {argv!r}\nrunpy.run_path({str(script)!r}, run_name='__main__')"
    with (script.parent / "log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen([sys.executable, "-c", code], stderr=log, stdout=log)
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(address, process, log)
            yield address, process
        finally:
            process.terminate()
            process.wait(timeout=20)


def wait_for(address, process, log):
    for _ in range(400):
        if process.poll() is not None:
            log.seek(0)
            pytest.fail(log.read())
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(f"{address}/health") as answer:
            assert json.load(answer) == {"status": "ok"}
            return
        time.sleep(0.1)
    pytest.fail("the server did not start")


def post(url, body):
    """Status, answer and headers; a body that is no bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers


def ask(url, body):
    """The answer to a request that must succeed."""
    status, answer, _ = post(url, body)
    assert status == 200, answer
    return answer
