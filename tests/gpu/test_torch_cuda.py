"""The PyTorch runtime on a CUDA device: right answers, plausible times, every precision it offers."""

import numpy as np
import pytest
import torch
from torch import nn

from profilers import Dimensions, Graph, LayerSizes, Program, Workload, make_runtime
from targets import Target

DIMENSIONS = Dimensions(layers=1, heads=8, ffn_units=2048, hidden_size=512, head_size=64, vocabulary=1000)


class Network(nn.Module):
    """Embeddings and one FFN of a given size, with the task model's way of naming outputs."""

    output_names = ("token_embeddings",)

    def __init__(self, units):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(DIMENSIONS.vocabulary, DIMENSIONS.hidden_size)
        self.up, self.down = nn.Linear(DIMENSIONS.hidden_size, units), nn.Linear(units, DIMENSIONS.hidden_size)

    def forward(self, input_ids, attention_mask):
        hidden = self.embed(input_ids)
        return (hidden + self.down(nn.functional.gelu(self.up(hidden))) * attention_mask.unsqueeze(-1),)


def program(units):
    def inputs(batch, tokens):
        ids = np.random.default_rng(0).integers(0, DIMENSIONS.vocabulary, (batch, tokens))
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}

    return Program(
        name=f"ffn {units}",
        stack=(LayerSizes(0, units),),
        dimensions=DIMENSIONS,
        graph=lambda: Graph(proto=b"", weights={}),
        module=lambda: Network(units),
        inputs=inputs,
    )


@pytest.fixture(scope="module")
def runtime():
    return make_runtime("torch", Target.parse("a10g"))


def workload(**changes):
    return Workload(**({"batch": 8, "tokens": 128, "precision": "fp32", "runtime": "torch"} | changes))


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("fp16", 2e-2), ("bf16", 1e-1)])
def test_it_answers_what_the_cpu_answers(runtime, precision, tolerance):
    asked = program(2048)
    arrays = {name: torch.from_numpy(array) for name, array in asked.inputs(8, 128).items()}
    with torch.inference_mode():
        (expected,) = asked.module()(**arrays)
    with runtime.open(asked, workload(precision=precision)) as session:
        answer = session.outputs()["token_embeddings"]
    assert answer.shape == (8, 128, DIMENSIONS.hidden_size)
    np.testing.assert_allclose(answer, expected.numpy(), atol=tolerance, rtol=tolerance)


def test_it_takes_as_many_samples_as_asked_for(runtime):
    with runtime.open(program(512), workload()) as session:
        samples = session.sample(7)
    assert len(samples) == 7
    assert all(0 < sample < 1 for sample in samples)


def test_a_much_larger_network_takes_longer(runtime):
    """Sixteen times the work at a size that fills the device; times are seconds by event, not launches."""
    medians = []
    for units in (4096, 65536):
        with runtime.open(program(units), workload(batch=32)) as session:
            session.sample(5)
            medians.append(float(np.median(session.sample(20))))
    assert medians[1] > 4 * medians[0]


def test_closing_a_session_frees_its_memory(runtime):
    with runtime.open(program(512), workload()) as session:
        session.sample(2)  # cuBLAS takes its workspace now and keeps it
    del session
    before = torch.cuda.memory_allocated()
    with runtime.open(program(65536), workload()) as session:
        session.sample(2)
        assert torch.cuda.memory_allocated() > before
    del session
    assert torch.cuda.memory_allocated() <= before
