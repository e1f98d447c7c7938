"""Files that release 0.1.0 wrote: a run folder, a cost table and a cut checkpoint are read and go on working."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from compiler.export import load_sliced
from profilers import CostTable
from profilers.runtimes.onnx_runtime import open_session
from tests.cli import call, texts, write_texts

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def run(tmp_path) -> Path:
    with tarfile.open(FIXTURES / "run-0.1.0.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "run"


def test_a_cut_checkpoint_answers_what_its_graph_answers(run):
    checkpoint = load_sliced(run / "n001")
    inputs = checkpoint.tokenizer(texts(5), padding=True, return_tensors="pt")
    feed = {name: inputs[name] for name in checkpoint.input_names}
    with torch.no_grad():
        ours = checkpoint.model(**feed)[-1].numpy()
    graph = open_session(run / "n001" / "model.onnx", 1).run(None, {n: t.numpy() for n, t in feed.items()})[-1]
    assert checkpoint.architecture.cut != checkpoint.architecture.whole.shape
    np.testing.assert_allclose(ours, graph, rtol=1e-5, atol=1e-5)


def test_a_run_folder_is_verified(run):
    done = call("verify", run)
    assert done.code == 0, done.err


def test_a_cut_checkpoint_is_compiled_again_with_the_old_table(run, tmp_path):
    out = tmp_path / "out"
    done = call(
        run / "n001", "--data", write_texts(tmp_path / "texts.txt"), "--target", "null", "--seq-len", 32, "--quiet",
        "--evaluations", 8, "--winners", 1, "--table", FIXTURES / "table-0.1.0.json", "--cache", tmp_path / "cache", "--out", out,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert call("diff", run, out).code == 0


def test_a_table_is_read_and_written_again_as_it_was(tmp_path):
    table = CostTable.read(FIXTURES / "table-0.1.0.json")
    assert (table.dimensions.queries, table.dimensions.ffn_reads) == (1, 1)
    table.write(tmp_path / "table.json")
    assert (tmp_path / "table.json").read_bytes() == (FIXTURES / "table-0.1.0.json").read_bytes()
