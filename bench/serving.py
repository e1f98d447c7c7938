"""The HTTP server under concurrent clients: dynamic batching against one text a call and against padding to the longest allowed.

    python bench/serving.py --json bench/results/serving.json

The dense all-MiniLM-L6-v2 is served by the server of its artefact. Clients send one text a request over connections of their own,
each as soon as the last was answered. Four servers are asked in turn, round after round: as shipped; one text a call (--batch 1);
every call padded to the most tokens that the model takes; and texts of any length together, padded to the longest of the call.
Texts are STS-B's sentences, and passages of one to eight of them. Last, a server that takes four requests at once is sent 32:
all others must be answered 429.
"""

import argparse
import asyncio
import contextlib
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from benchmark_data import data_folder
from output import write_json

from compiler.export import ModelWorkbench
from compiler.export.checkpoint import save_checkpoint
from compiler.export.files import write_graph
from compiler.export.serving import server_script
from compiler.families import load_checkpoint
from compiler.families.embedded import embedded_model
from compiler.pipeline.graphs import find_templates
from compiler.spaces import Subnet
from compiler.store import DiskStore, default_root
from compiler.tasks import read_data
from targets import Target, measure_fingerprint

Changes = Mapping[str, str]
"""Parts of the server's text, each of which stands there once, and what stands in their place."""

_ANY_LENGTH = {"or padded - before > len(row) + CALL_COST": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A server: its flags, and how its text differs from the one that is shipped."""

    name: str
    flags: tuple[str, ...] = ()
    changes: Changes


VARIANTS = (
    Variant(name="dynamic batching", changes={}),
    Variant(name="one by one", flags=("--batch", "1"), changes={}),
    Variant(
        name="padded to the longest allowed",
        changes={
            **_ANY_LENGTH,
            "len(rows), max(map(len, rows))": "len(rows), MAX_TOKENS",
            "longest = max(len(row), *map(len, taken), 0)": "longest = MAX_TOKENS",
            "CALL_TOKENS, CALL_COST, WAIT_S = min(256,": "CALL_TOKENS, CALL_COST, WAIT_S = min(8192,",
        },
    ),
    Variant(name="any lengths together", changes=_ANY_LENGTH),
)


def write_artifact(folder: Path) -> str:
    """The dense model's graph and tokenizer in a folder; the text of its server."""
    checkpoint = load_checkpoint(str(embedded_model()), task="embedding")
    bench = ModelWorkbench(checkpoint, find_templates(checkpoint, DiskStore(default_root()), ("fp32",), 23))
    dense = Subnet.first(bench.dimensions.dense, bench.ordering)
    save_checkpoint(folder, checkpoint, dense, bench.dense)
    path = folder / "model.onnx"
    write_graph(bench.graph(dense, bench.dense, "fp32"), path)
    return server_script(path, checkpoint, "cpu", 1)


def changed(source: str, changes: Changes) -> str:
    """The text of a variant's server."""
    for old, new in changes.items():
        if source.count(old) != 1:
            raise ValueError(f"{old!r} stands {source.count(old)} times in the server")
        source = source.replace(old, new)
    return source


@contextlib.contextmanager
def running(folder: Path, source: str, flags: Sequence[str]) -> Iterator[int]:
    """The port of a server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    script = folder / "serving" / "http" / "server.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(source, encoding="utf-8")
    server = subprocess.Popen([sys.executable, str(script), "--port", str(port), *flags], stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with contextlib.suppress(urllib.error.URLError):
                read(port, "health")
                break
            time.sleep(0.1)
        yield port
    finally:
        server.terminate()
        server.wait(timeout=20)


def read(port: int, path: str) -> str:
    """The answer to a GET."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}") as answer:
        return str(answer.read().decode())


async def ask(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], text: str) -> tuple[int, float]:
    """Status and seconds of one request over an open connection."""
    reader, writer = streams
    body = json.dumps({"inputs": text}).encode()
    head = f"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    start = time.perf_counter()
    writer.write(head.encode() + body)
    answer = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = re.search(r"content-length: (\d+)", answer, re.IGNORECASE)
    await reader.readexactly(int(length[1]) if length else 0)
    return int(answer.split()[1]), time.perf_counter() - start


async def client(port: int, texts: Sequence[str], seed: int, until: float) -> list[tuple[int, float]]:
    """One request after the other until a time of the monotonic clock."""
    streams, random = await asyncio.open_connection("127.0.0.1", port), Random(seed)  # noqa: S311
    try:
        found = []
        while time.monotonic() < until:
            found.append(await ask(streams, random.choice(texts)))
        return found
    finally:
        streams[1].close()


async def load(port: int, texts: Sequence[str], clients: int, seconds: float) -> list[tuple[int, float]]:
    """Every request of all clients."""
    until = time.monotonic() + seconds
    found = await asyncio.gather(*(client(port, texts, i, until) for i in range(clients)))
    return [answer for answers in found for answer in answers]


def sample(metrics: str, name: str) -> float:
    """A counter in Prometheus' form; 0 where nothing was counted."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", metrics, re.MULTILINE)
    return float(found[1]) if found else 0.0


def measure(port: int, texts: Sequence[str], clients: int, seconds: float) -> dict[str, float]:
    """Latencies and throughput under clients, after a second that does not count; rows of a call and padding of the whole."""
    asyncio.run(load(port, texts, clients, 1))
    start = time.monotonic()
    answers = asyncio.run(load(port, texts, clients, seconds))
    took = time.monotonic() - start
    if {status for status, _ in answers} != {200}:
        raise RuntimeError(f"answers were {Counter(status for status, _ in answers)}")
    latencies = np.array([latency for _, latency in answers])
    metrics = read(port, "metrics")
    real, padding = (sample(metrics, f'paretoc_tokens_total{{kind="{kind}"}}') for kind in ("real", "padding"))
    calls = sample(metrics, "paretoc_call_rows_count")
    return {
        "requests": len(answers), "requests_per_s": len(answers) / took,
        "p50_ms": float(np.percentile(latencies, 50)) * 1e3, "p99_ms": float(np.percentile(latencies, 99)) * 1e3,
        "rows_per_call": sample(metrics, "paretoc_call_rows_sum") / calls, "padding": padding / (real + padding),
    }  # fmt: skip


def overload(folder: Path, source: str, texts: Sequence[str], seconds: float) -> dict[str, Any]:
    """Answers by status of a server that takes four requests at once, to 32 clients."""
    with running(folder, source, ("--under-way", "4")) as port:
        answers = asyncio.run(load(port, texts, 32, seconds))
    refused = [latency for status, latency in answers if status == 429]
    return {
        "by_status": {str(status): count for status, count in Counter(status for status, _ in answers).items()},
        "refused_p99_ms": float(np.percentile(refused, 99)) * 1e3 if refused else None,
    }


def workloads() -> dict[str, list[str]]:
    """Sentences of STS-B's training split, and passages of one to eight."""
    sentences = sorted({text for row in read_data(data_folder("stsb")).train.texts for text in row})
    random = Random(0)  # noqa: S311
    passages = [" ".join(random.sample(sentences, random.randint(1, 8))) for _ in range(2000)]
    return {"sentences": sentences, "passages": passages}


def summary(rounds: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The median over rounds of every figure, and the rounds."""
    return {name: float(np.median([each[name] for each in rounds])) for name in rounds[0]} | {"rounds": list(rounds)}


def main() -> None:
    """All variants on all workloads, in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workload", nargs="+", default=["sentences", "passages"], choices=["sentences", "passages"])
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    texts = {name: made for name, made in workloads().items() if name in arguments.workload}
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write_artifact(folder)
        for _ in range(arguments.rounds):
            for (load_name, asked), variant in product(texts.items(), VARIANTS):
                with running(folder, changed(source, variant.changes), variant.flags) as port:
                    row = measure(port, asked, arguments.clients, arguments.seconds)
                print(load_name, variant.name, {k: round(v, 3) for k, v in row.items()}, file=sys.stderr)
                found.setdefault((load_name, variant.name), []).append(row)
        record = {
            "model": "all-MiniLM-L6-v2, dense, fp32", "clients": arguments.clients, "seconds": arguments.seconds,
            "threads": 1, "fingerprint": measure_fingerprint(Target.parse("cpu")).to_json(),
            "figures": {
                load_name: {v.name: summary(found[load_name, v.name]) for v in VARIANTS} for load_name in texts
            },
            "overload": overload(folder, source, next(iter(texts.values())), min(arguments.seconds, 5)),
        }  # fmt: skip
    write_json(arguments.json, record)
    json.dump(record, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
