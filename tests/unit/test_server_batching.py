"""Texts of all requests are computed together, no answer depends on it, and what takes too long or is too much is told so."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient

from tests import served
from tests.cli import texts
from tests.tiny import tiny_tokenizer


@pytest.fixture
def module(tmp_path):
    """An embedding server as a module, with one thread that computes."""
    tokenizer = tiny_tokenizer("bert")
    served.context_graph(tmp_path / "model.onnx", "sentence_embedding", 4, len(tokenizer))
    made = served.imported(served.write_server(tmp_path, "embedding", tokenizer))
    made.AT_ONCE = 1
    return made


class Slow:
    """A session whose calls wait for `gate`, and are listed: real tokens of each row."""

    def __init__(self, session):
        self.session, self.calls, self.gate = session, [], threading.Event()

    def get_inputs(self):
        return self.session.get_inputs()

    def run(self, names, given):
        self.calls.append(given["attention_mask"].sum(axis=1).tolist())
        self.gate.wait(20)
        return self.session.run(names, given)


def rows(module, *lengths):
    return [module.Row([2] * length, [0] * length) for length in lengths]


def test_a_call_has_the_oldest_row_and_those_most_like_it(module):
    waiting = rows(module, 20, 60, 21, 5, 19, 23, 64)
    assert [len(row) for row in module.batch_of(waiting)] == [20, 21, 19, 23]
    assert module.batch_of([]) == []


def test_a_call_is_bounded_in_rows_and_tokens(module):
    assert len(module.batch_of(rows(module, *[8] * 50))) == 32
    assert len(module.batch_of(rows(module, *[9] * 50))) == 256 // 9
    assert len(module.batch_of(rows(module, 500, 500))) == 1


def test_no_row_waits_for_ever(module):
    waiting = rows(module, *np.random.default_rng(0).integers(1, 64, 300))
    left = set(map(id, waiting))
    while waiting:
        oldest, batch = waiting[0], module.batch_of(waiting)
        assert oldest in batch
        left -= set(map(id, batch))
        waiting = [row for row in waiting if row not in batch]
    assert not left


def test_requests_are_computed_together_and_answered_as_alone(module):
    sentences = [" ".join(texts(3, seed=i)[: 1 + i % 3]) for i in range(40)]
    with TestClient(module.app) as client, ThreadPoolExecutor(len(sentences)) as threads:
        alone = [client.post("/embed", json={"inputs": text}).json()[0] for text in sentences]
        module.session = slow = Slow(module.session)
        answers = [threads.submit(client.post, "/embed", json={"inputs": [text]}) for text in sentences]
        deadline = time.monotonic() + 20
        while module.under_way < len(sentences) or module.arriving or not slow.calls:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        slow.gate.set()
        found = [answer.result().json()[0] for answer in answers]
    np.testing.assert_allclose(found, alone, atol=1e-5)
    assert sum(map(len, slow.calls)) == len(sentences)
    assert len(slow.calls) < len(sentences) / 3
    assert all(max(call) * len(call) <= sum(call) + 16 * len(call) for call in slow.calls)


def test_a_graph_with_ranges_of_each_call_is_given_one_row_a_call(tmp_path):
    tokenizer = tiny_tokenizer("bert")
    for precision, batch in (("int8", 1), ("int8-static", 32), ("fp32", 32)):
        served.context_graph(tmp_path / "model.onnx", "sentence_embedding", 4, len(tokenizer))
        graph = onnx.load(tmp_path / "model.onnx")
        graph.metadata_props.add(key="precision", value=precision)
        onnx.save(graph, tmp_path / "model.onnx")
        made = served.imported(served.write_server(tmp_path, "embedding", tokenizer))
        assert len(made.batch_of(rows(made, *[8] * 50))) == batch


def test_a_request_past_its_deadline_is_told_so_and_not_computed(module):
    module.limits.deadline_s = 0.3
    with TestClient(module.app) as client, ThreadPoolExecutor(4) as threads:
        module.session = slow = Slow(module.session)
        answers = [threads.submit(client.post, "/embed", json={"inputs": ["the " * (5 + 20 * i)]}) for i in range(3)]
        assert {answer.result().status_code for answer in answers} == {504}
        slow.gate.set()
        module.limits.deadline_s = 30
        assert client.post("/embed", json={"inputs": "a"}).status_code == 200
        assert len(slow.calls) == 2, "the one that was being computed, and the last"
        assert (module.under_way, module.arriving) == (0, 0)


def test_too_many_tokens_that_wait_are_429(module):
    module.MOST_WAITING = 100
    with TestClient(module.app) as client, ThreadPoolExecutor(8) as threads:
        module.session = slow = Slow(module.session)
        first = threads.submit(client.post, "/embed", json={"inputs": "a"})
        while not slow.calls:
            time.sleep(0.01)
        long = ["the " * 60, "the " * 60]  # taken, as nothing waits
        second = threads.submit(client.post, "/embed", json={"inputs": long})
        while not module.queue.waiting:
            time.sleep(0.01)
        refused = client.post("/embed", json={"inputs": "a"})
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        slow.gate.set()
        assert [answer.result().status_code for answer in (first, second)] == [200, 200]


class Broken:
    """A session of which one text's output is not a number, or that fails altogether."""

    def __init__(self, session, fails=None):
        self.session, self.fails = session, fails

    def get_inputs(self):
        return self.session.get_inputs()

    def run(self, names, given):
        if self.fails:
            raise self.fails
        (output,) = self.session.run(names, given)
        output[given["attention_mask"].sum(axis=1) == 5] = np.nan
        return [output]


def test_only_the_request_whose_output_is_not_finite_fails(module):
    with TestClient(module.app) as client:
        whole, module.session = module.session, Broken(module.session)
        assert client.post("/embed", json={"inputs": ["the the the", "a"]}).status_code == 500
        assert client.post("/embed", json={"inputs": ["the the", "a"]}).status_code == 200
        module.session = Broken(whole, MemoryError())
        assert client.post("/embed", json={"inputs": ["the the", "a"]}).status_code == 500
        module.session = whole
        assert client.post("/embed", json={"inputs": ["the the the", "a"]}).status_code == 200


SAMPLE = re.compile(r'^([a-z_]+)(?:\{((?:[a-z]+="[^"]*",?)+)\})? ([0-9.e+-]+)$')


def test_metrics_are_in_prometheus_form(module):
    with TestClient(module.app) as client:
        client.post("/embed", json={"inputs": ["the the", "a"]})
        client.post("/embed", json={"inputs": []})
        client.post("/nowhere/at/all")
        answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    declared, samples = {}, {}
    for line in answer.text.splitlines():
        if line.startswith("# TYPE"):
            _, _, name, kind = line.split()
            declared[name] = kind
        elif not line.startswith("# HELP"):
            name, labels, value = SAMPLE.match(line).groups()
            assert re.sub("_(bucket|sum|count)$", "", name) in declared
            assert (name, labels) not in samples
            samples[name, labels] = float(value)
    assert samples["paretoc_requests_total", 'route="/embed",status="200"'] == 1
    assert samples["paretoc_requests_total", 'route="/embed",status="422"'] == 1
    assert samples["paretoc_requests_total", 'route="other",status="404"'] == 1
    assert samples["paretoc_tokens_total", 'kind="real"'] == 7
    assert samples["paretoc_request_seconds_count", 'route="/embed"'] == 2
    assert samples["paretoc_requests_under_way", None] == 0
    buckets = [
        v for (name, labels), v in samples.items() if name == "paretoc_request_seconds_bucket" and '"/embed"' in labels
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 2
