"""The HTTP server's bounds, by real requests to a server of a stand-in graph: what is too much is refused before it is read."""

import json
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests import served
from tests.tiny import tiny_tokenizer

MOST_MEMORY = 600 * 2**20
"""Peak of the server's process, libraries and all."""


def graph(path):
    """An embedding [texts, 2] of token ids: their sum and the highest."""
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["floats", "axis"], ["sum"], keepdims=1),
        helper.make_node("ReduceMax", ["floats", "axis"], ["most"], keepdims=1),
        helper.make_node("Concat", ["sum", "most"], ["sentence_embedding"], axis=1),
    ]
    served.saved(path, nodes, {"sentence_embedding": ["batch", 2]}, {"axis": np.array([1])}, names=("input_ids",))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    graph(folder / "model.onnx")
    script = served.write_server(folder, "embedding", tiny_tokenizer("bert"))
    with served.started(script, "--under-way", 40) as (address, process):
        yield address, process


def post(address, body):
    """The status and the answer."""
    return served.post(f"{address}/embed", body)[:2]


def inputs(*texts):
    return json.dumps({"inputs": texts}).encode()


REFUSED = {
    "not JSON": (b"{", 422),
    "empty": (b"", 422),
    "deep": (b"[" * 100_000, 422),
    "deep value": (b'{"inputs": ' + b"[" * 100_000, 422),
    "no texts": (b'{"inputs": []}', 422),
    "number": (b'{"inputs": [1]}', 422),
    "NaN": (b'{"inputs": [NaN]}', 422),
    "NaN beside": (b'{"inputs": ["a"], "x": NaN}', 422),
    "infinity": (b'{"inputs": ["a"], "x": 1e999}', 422),
    "surrogate": (b'{"inputs": ["\\ud800"]}', 422),
    "not UTF-8": (b'{"inputs": ["\xff"]}', 422),
    "pair": (b'{"inputs": [["a", "b"]]}', 422),
    "unknown key": (b'{"inputs": ["a"], "normalise": false}', 422),
    "too long to be left whole": (b'{"inputs": ["' + b"a " * 64 + b'"], "truncate": false}', 413),
    "many texts": (inputs(*["a"] * 257), 413),
    "long text": (inputs("a " * 2**14 + "a"), 413),
    "much in all": (inputs(*["a " * 2**13] * 40), 413),
    "30 MB": (inputs("a" * 30_000_000), 413),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_too_much_or_no_request_is_refused(name, server):
    body, status = REFUSED[name]
    start = time.monotonic()
    found, answer = post(server[0], body)
    assert found == status, answer
    assert len(answer) < 1000
    assert time.monotonic() - start < 5  # a second, on a machine that does nothing else


def test_a_request_of_several_batches_is_answered_in_order(server):
    texts = [" ".join(["the"] * (i % 9)) for i in range(100)]
    status, answer = post(server[0], inputs(*texts))
    assert status == 200
    tokens = tiny_tokenizer("bert")(texts)["input_ids"]
    np.testing.assert_allclose(answer, [[sum(ids), max(ids)] for ids in tokens])


def peak_bytes(process):
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_many_large_requests_take_bounded_memory(server):
    address, process = server
    large, most = inputs("a" * 5_000_000), inputs(*["a " * 2**13] * 32)
    with ThreadPoolExecutor(20) as threads:
        assert {status for status, _ in threads.map(lambda _: post(address, large), range(20))} == {413}
        assert {status for status, _ in threads.map(lambda _: post(address, most), range(6))} == {200}
    assert peak_bytes(process) < MOST_MEMORY
    assert post(address, inputs("a"))[0] == 200


def test_a_request_too_many_is_told_so(server):
    address, _ = server
    port = int(address.rsplit(":", 1)[1])
    waiting = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
    try:
        for slow in waiting:  # headers, and a body that does not come
            slow.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
        time.sleep(1)
        status, _, headers = served.post(f"{address}/embed", inputs("a"))
        assert (status, headers["Retry-After"]) == (429, "1")
    finally:
        for slow in waiting:
            slow.close()
    for _ in range(50):
        status, _ = post(address, inputs("a"))
        if status == 200:
            return
        time.sleep(0.1)
    pytest.fail(f"places are not given back: {status}")
