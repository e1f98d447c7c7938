"""Graphs of older opsets, attention spelt out, answer what the slicer answers; their costs are tables of their own."""

import json
from collections import Counter

import numpy as np
import onnx
import pytest
import torch

from compiler.export import ModelWorkbench, make_template, narrow_template
from compiler.export.dense import export_dense
from compiler.export.files import attention_nodes, check_graph, write_graph
from compiler.export.parity import check_attention, parity_error
from compiler.slicing import SubnetRunner
from compiler.spaces import Subnet
from profilers import CostTable, Workload
from profilers.runtimes.onnx_runtime import open_session
from targets import STATIC
from targets.errors import VerificationError
from tests.cli import call, write_texts
from tests.tiny import save_tiny, some_batches, tiny_checkpoint

OPSETS = (17, 22)
LARGEST_IR = {17: 8, 22: 10}
"""ONNX's own table of versions: what a runtime that was made for the opset reads."""

SUBNET = Subnet.of([[1, 3], [], [0, 1, 2]], [[0, 7, 47], range(5, 40), []])
NOTHING = Subnet.of([[]] * 3, [[]] * 3)


class NoTexts:
    batches = ()


@pytest.fixture(scope="module", params=[(opset, "bert") for opset in OPSETS] + [(17, "roberta")], ids=str)
def bench(request, tmp_path_factory):
    opset, model_type = request.param
    task = "embedding" if model_type == "bert" else "classification"
    checkpoint = tiny_checkpoint(tmp_path_factory.mktemp(model_type), model_type, task=task)
    proto, twin = export_dense(checkpoint, opset)
    parameters = {name: tensor.detach().numpy() for name, tensor in twin.backbone.named_parameters()}
    template = make_template(proto, parameters, checkpoint.architecture)
    narrow = {p: narrow_template(template, p, parameters, checkpoint.architecture) for p in ("int8", "fp16", STATIC)}
    assert template.opset == opset
    return ModelWorkbench(checkpoint, {"fp32": template, **narrow}, some_batches(checkpoint))


def write(bench, subnet, path, precision="fp32"):
    parameters = SubnetRunner(bench.checkpoint.model, bench.checkpoint.architecture).parameters(subnet)
    write_graph(bench.graph(subnet, parameters, precision), path)
    return parameters


@pytest.mark.parametrize("subnet", [SUBNET, NOTHING], ids=["uneven", "nothing"])
def test_a_file_of_an_older_opset_answers_what_the_slicer_answers(bench, tmp_path, subnet):
    path = tmp_path / "model.onnx"
    parameters = write(bench, subnet, path)
    assert parity_error(bench.checkpoint, subnet, parameters, path, NoTexts) < 2e-5


@pytest.mark.parametrize("precision", ["fp32", "int8", "fp16", STATIC])
def test_a_file_is_of_the_opset_asked_for(bench, tmp_path, precision):
    path = tmp_path / "model.onnx"
    write(bench, SUBNET, path, precision)
    check_graph(path)
    model = onnx.load(path)
    assert {o.version for o in model.opset_import if o.domain == ""} == {bench.opset}
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert model.ir_version <= LARGEST_IR[bench.opset]
    counts = Counter(node.op_type for node in model.graph.node)
    assert counts["Attention"] == 0
    assert attention_nodes(path) == counts["Softmax"] == 2
    assert check_attention(path, SUBNET.shape) == 2
    with pytest.raises(VerificationError, match="2 Attention nodes, 3 attention blocks"):
        check_attention(path, bench.checkpoint.architecture.shape)


@pytest.mark.parametrize("narrow", ["int8", STATIC])
def test_int8_answers_nearly_the_same(bench, tmp_path, narrow):
    ids = torch.randint(5, 100, (2, 9), generator=torch.Generator().manual_seed(0)).numpy()
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    inputs = {name: given[name] for name in bench.checkpoint.input_names}
    answers = []
    for precision in ("fp32", narrow):
        write(bench, SUBNET, tmp_path / f"{precision}.onnx", precision)
        answers.append(open_session(tmp_path / f"{precision}.onnx", 1).run(None, inputs)[-1])
    exact, coarse = answers
    assert 0 < np.linalg.norm(exact - coarse) < 0.2 * np.linalg.norm(exact)


def test_a_workload_says_its_opset_where_it_is_not_the_usual():
    usual, old = Workload(tokens=32), Workload(tokens=32, opset=17)
    assert "opset" not in usual.to_json()
    assert "opset" not in str(usual)
    assert str(old).endswith("opset 17")
    assert Workload(**json.loads(json.dumps(old.to_json()))) == old != usual


class Place:
    def __init__(self, root):
        self.root, self.model, self.texts = root, save_tiny(root / "model"), write_texts(root / "texts.txt")

    def profile(self, path, *flags):
        return call("profile", "--target", "null", "--model", self.model, "--seq-len", 32, "-o", path, *flags)

    def run(self, out, *flags):
        return call(
            self.model, "--data", self.texts, "--target", "null", "--seq-len", 32, "--evaluations", 24, "--winners", 2,
            "--cache", self.root / "cache", "--out", out, "--quiet", *flags,
        )  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp("opset"))


def test_a_run_of_an_older_opset(place, tmp_path):
    done = place.run(tmp_path / "out", "--opset", 17)
    assert done.code == 0, done.err
    front = json.loads((tmp_path / "out" / "front.json").read_text(encoding="utf-8"))
    assert front["workload"]["opset"] == 17
    assert {net["artifact"]["opset"] for net in (front["dense"], *front["candidates"])} == {17}
    assert call("verify", tmp_path / "out").code == 0
    tei = tmp_path / "out" / "best" / "serving" / "tei"
    assert (tei / "onnx" / "model.onnx").samefile(tmp_path / "out" / "best" / "model.onnx")
    for name in ("config.json", "tokenizer.json", "1_Pooling/config.json"):
        assert json.loads((tei / name).read_text(encoding="utf-8"))
    assert json.loads((tei / "config.json").read_text(encoding="utf-8"))["architectures"] == ["BertModel"]
    page = (tmp_path / "out" / "best" / "serving" / "README.md").read_text(encoding="utf-8")
    assert "ONNX Runtime 1.12 or newer" in page
    assert "text-embeddings-router" in page


def test_a_table_of_another_opset_is_refused(place, tmp_path):
    usual, old = tmp_path / "usual.json", tmp_path / "old.json"
    assert place.profile(usual).code == place.profile(old, "--opset", 17).code == 0
    assert {workload.opset for workload in CostTable.read(old).workloads()} == {17}
    done = place.run(tmp_path / "out", "--opset", 17, "--table", usual)
    assert done.code == 3
    assert "opset 17" in done.message[0]
    assert place.run(tmp_path / "out", "--opset", 17, "--table", old).code == 0


def test_an_opset_that_is_not_there_is_refused(place, tmp_path):
    done = place.run(tmp_path / "out", "--opset", 16)
    assert done.code == 2
    assert "--opset '16' is not known; known: 17, 18, 19, 20, 21, 22, 23" in done.message[0]
