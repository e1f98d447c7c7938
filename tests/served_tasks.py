"""Servers of every task for the tests of their routes, and what their graphs give for a text alone."""

import numpy as np
import onnxruntime
import pytest

from compiler.tasks import TASKS
from tests import served
from tests.tiny import tiny_tokenizer


def words():
    """A tokenizer of words, with a mask."""
    tokenizer = tiny_tokenizer("bert")
    tokenizer.add_special_tokens({"mask_token": "[MASK]"})
    return tokenizer


def alone(folder, tokenizer, *text, ids=None):
    """The graph's output for one text or pair alone, without padding."""
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    ids = tokenizer(*text, truncation=True, max_length=64)["input_ids"] if ids is None else ids
    given = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
    return session.run(None, {i.name: given[i.name] for i in session.get_inputs()})[0][0].astype(np.float64)


class Served:
    """A server of a task, its folder and its tokenizer."""

    def __init__(self, task, address, folder, tokenizer):
        self.task, self.address, self.folder, self.tokenizer = task, address, folder, tokenizer

    def ask(self, path, body):
        return served.ask(f"{self.address}{path}", body)

    def example(self):
        """The answer to the request that the page beside the server shows."""
        route = TASKS[self.task].route
        return self.ask(route.paths[0], route.example.encode())

    def refused(self, path, body):
        status, answer, _ = served.post(f"{self.address}{path}", body)
        return status, answer

    def alone(self, *text, ids=None):
        return alone(self.folder, self.tokenizer, *text, ids=ids)


def server(task, output="logits", size=None, *, labels=(), recipe=None, tokens=False, tables=None, tokenizer=None):
    """A fixture that serves a task for a module's tests."""

    @pytest.fixture(scope="module", name=task)
    def serving(tmp_path_factory):
        folder, made = tmp_path_factory.mktemp(task), tokenizer() if tokenizer else words()
        if tables:
            served.lookup_graph(folder / "model.onnx", **tables())
        else:
            served.context_graph(folder / "model.onnx", output, size or len(made), len(made), tokens=tokens)
        script = served.write_server(folder, task, made, labels=labels, recipe=recipe)
        with served.started(script) as (address, _):
            yield Served(task, address, folder, made)

    return serving


def log_softmax(logits):
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
