"""The PyTorch runtime on a CUDA device: right answers, plausible times, every precision, with and without graphs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from profilers import Dimensions, Graph, LayerSizes, Program, Workload
from profilers.runtimes import OutOfMemoryError
from profilers.runtimes.torch_runtime import TorchRuntime
from tests.gpu_here import gpu_runtime, gpu_target

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
        graph=lambda _: Graph(proto=b"", weights={}),
        module=lambda: Network(units),
        inputs=inputs,
    )


@pytest.fixture(scope="module")
def runtime():
    return gpu_runtime("torch")


def workload(**changes):
    return Workload(**({"batch": 8, "tokens": 128, "precision": "fp32", "runtime": "torch"} | changes))


def test_traffic_is_a_graph_for_each_length_and_lasts_their_mean(runtime):
    alone = []
    for tokens in (64, 512):
        with runtime.open(program(2048), workload(tokens=tokens)) as session:
            alone.append(np.median(session.sample(50)))
    with runtime.open(program(2048), workload(lengths=(64, 512))) as session:
        assert np.median(session.sample(50)) == pytest.approx(np.mean(alone), rel=0.3)
    assert runtime.describe()["mode"] == "CUDA graph"


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


def test_a_graph_is_played_and_answers_what_eager_answers(runtime):
    with runtime.open(program(2048), workload()) as session:
        played = session.outputs()
        session.sample(3)
        again = session.outputs()
    assert runtime.describe()["mode"] == "CUDA graph"
    assert runtime.describe()["gpu"]["looks"] > 0
    eager = TorchRuntime(gpu_target(), cuda_graph=False)
    with eager.open(program(2048), workload()) as session:
        expected = session.outputs()
    assert eager.describe()["mode"] == "eager"
    for name in expected:
        np.testing.assert_allclose(played[name], expected[name], rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(played[name], again[name])


class Undecided(Network):
    """Looks at its numbers on the host, which a capture forbids."""

    def forward(self, input_ids, attention_mask):
        assert attention_mask.sum().item() > 0
        return super().forward(input_ids, attention_mask)


def test_a_network_that_cannot_be_captured_is_timed_eagerly(runtime):
    fresh = TorchRuntime(gpu_target())
    network = program(512)
    with fresh.open(replace(network, module=lambda: Undecided(512)), workload()) as session:
        assert all(sample > 0 for sample in session.sample(3))
    assert fresh.describe()["mode"] == "eager"
    assert fresh.describe()["warnings"][0].startswith("timed without CUDA graphs")
    with runtime.open(network, workload()) as session:
        session.sample(1)


def test_what_does_not_fit_is_said_and_the_next_network_runs(runtime):
    with pytest.raises(OutOfMemoryError, match="does not fit"), runtime.open(program(512), workload(batch=2**22)):
        pass
    with runtime.open(program(512), workload()) as session:
        assert len(session.sample(2)) == 2
