"""Files cut from one dense export answer what the slicer answers in PyTorch, on every shape of batch."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from compiler.export.attention import join_heads
from compiler.export.dense import export_dense, export_module
from compiler.export.files import attention_nodes, check_graph, inline, parts_of, sha256_of, write_graph
from compiler.export.parity import parity_error
from compiler.export.template import GraphTemplate, make_template
from compiler.families import Checkpoint
from compiler.slicing import SubnetRunner, build_skeleton
from compiler.spaces import Subnet
from profilers.runtimes.onnx_runtime import open_session
from targets.errors import VerificationError
from tests.tiny import HEADS, UNITS, VOCABULARY, randomise, tiny_checkpoint

CASES = [("bert", "embedding"), ("roberta", "classification"), ("distilbert", "classification")]
"""`tests/contract/test_families.py` has every type."""

ALL_HEADS, ALL_UNITS = range(HEADS), range(UNITS)
SUBNETS = {
    "dense": Subnet.of([ALL_HEADS] * 3, [ALL_UNITS] * 3),
    "uneven": Subnet.of([[1, 3], [0], [0, 1, 2]], [[0, 7, 47], range(5, 40), [11]]),
    "no attention in the first layer": Subnet.of([[], [0, 2], [1]], [[1, 5], [3], [7]]),
    "no attention in the last layer": Subnet.of([[0], [0, 2], []], [[1, 5], [3], [7, 8]]),
    "no FFN in the last layer": Subnet.of([[0], [0, 2], ALL_HEADS], [[1, 5], [3], []]),
    "no FFN, then no attention": Subnet.of([[3], [], [2]], [[], [0, 2], ALL_UNITS]),
    "no first layer": Subnet.of([[], [2], [1, 2]], [[], [4], [1, 2, 3]]),
    "no middle layer": Subnet.of([[1], [], [1, 2]], [[2], [], [1, 2, 3]]),
    "no last layer": Subnet.of([[1], ALL_HEADS, []], [[2], ALL_UNITS, []]),
    "last layer only": Subnet.of([[], [], [1, 3]], [[], [], [9, 10]]),
    "no attention": Subnet.of([[]] * 3, [[1], ALL_UNITS, [2, 3]]),
    "no FFN": Subnet.of([[1], ALL_HEADS, [2, 3]], [[]] * 3),
    "nothing": Subnet.of([[]] * 3, [[]] * 3),
}
LONGEST = 64


class Exported(NamedTuple):
    checkpoint: Checkpoint
    template: GraphTemplate
    runner: SubnetRunner
    folder: Path


@pytest.fixture(scope="module", params=CASES, ids=" ".join)
def exported(request, tmp_path_factory) -> Exported:
    folder = tmp_path_factory.mktemp(request.param[0])
    checkpoint = tiny_checkpoint(folder / "model", request.param[0], task=request.param[1])
    proto, twin = export_dense(checkpoint)
    parameters = {name: tensor.detach().numpy() for name, tensor in twin.backbone.named_parameters()}
    template = make_template(proto, parameters, checkpoint.architecture)
    return Exported(checkpoint, template, SubnetRunner(checkpoint.model, checkpoint.architecture), folder)


def fill(exported: Exported, subnet: Subnet):
    sliced = exported.runner.parameters(subnet)
    arrays = {name: tensor.detach().numpy() for name, tensor in sliced.items()}
    return exported.template.fill(arrays, subnet.shape)


@pytest.fixture(params=SUBNETS.values(), ids=SUBNETS)
def subnet(request) -> Subnet:
    return request.param


@pytest.fixture
def file(exported, subnet) -> Path:
    path = exported.folder / f"{subnet.digest}.onnx"
    if not path.exists():
        write_graph(fill(exported, subnet), path, {"paretoc": "test"})
    return path


def inputs_of(checkpoint: Checkpoint, lengths: list[int], tokens: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(tokens * 100 + len(lengths))
    ids = torch.randint(5, VOCABULARY, (len(lengths), tokens), generator=generator)
    mask = (torch.arange(tokens)[None] < torch.tensor(lengths)[:, None]).long()
    ids[mask == 0] = checkpoint.tokenizer.pad_token_id
    types = (torch.arange(tokens)[None] >= tokens // 2).long() * mask
    return {n: {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}[n] for n in checkpoint.input_names}


def shapes(checkpoint: Checkpoint) -> dict[str, dict[str, torch.Tensor]]:
    longest = min(LONGEST, checkpoint.architecture.max_tokens)
    return {
        "one token": inputs_of(checkpoint, [1], 1),
        "one text": inputs_of(checkpoint, [13], 13),
        "seven texts": inputs_of(checkpoint, [5, 17, 3, 17, 8, 1, 16], 17),
        "seven single tokens": inputs_of(checkpoint, [1] * 7, 1),
        "longest": inputs_of(checkpoint, [longest], longest),
        "heavy padding": inputs_of(checkpoint, [1, 2, longest, 1, 3, 1, 1], longest),
        "no full row": inputs_of(checkpoint, [2, 9], 33),
    }


def compare(session, runner: SubnetRunner, subnet: Subnet, inputs: dict[str, torch.Tensor]) -> None:
    feed = {name: tensor.numpy() for name, tensor in inputs.items()}
    ours = session.run(None, feed)
    with torch.no_grad():
        theirs = runner(subnet, inputs)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == tuple(b.shape)
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-5, atol=1e-5)


def test_file_answers_what_the_slicer_answers_on_odd_shapes(exported, file, subnet):
    session = open_session(file, 1)
    for inputs in shapes(exported.checkpoint).values():
        compare(session, exported.runner, subnet, inputs)


def test_graph_in_memory_answers_what_its_file_answers(exported, tmp_path):
    feed = {n: t.numpy() for n, t in shapes(exported.checkpoint)["seven texts"].items()}
    graph = fill(exported, SUBNETS["uneven"])
    write_graph(graph, tmp_path / "model.onnx")
    in_memory = open_session(graph, 1).run(None, feed)
    on_disk = open_session(tmp_path / "model.onnx", 1).run(None, feed)
    assert all(np.array_equal(a, b) for a, b in zip(in_memory, on_disk, strict=True))


def test_one_attention_node_a_kept_attention_block(file, subnet):
    assert attention_nodes(file) == sum(sizes.heads > 0 for sizes in subnet.shape)


def test_a_file_holds_exactly_the_sub_networks_encoder_parameters(exported, file, subnet):
    """Weights by content: parameters that no task output reads (an unused pooler) may be absent, encoder ones not."""
    prefix = exported.checkpoint.architecture.layer(0).rsplit(".", 1)[0]
    expected = {n: t for n, t in exported.runner.parameters(subnet).items() if n.startswith(prefix)}
    known = {binding.parameter for binding in exported.template.bindings.values()}
    stored = fill(exported, subnet).weights
    bound = {exported.template.bindings[name].parameter: array for name, array in stored.items()}
    assert {n for n in bound if n.startswith(prefix)} == set(expected) & known == set(expected)
    assert sum(bound[n].size for n in expected) == sum(t.numel() for t in expected.values())
    initialisers = {tensor.name for tensor in onnx.load(file).graph.initializer}
    assert set(stored) <= initialisers


def test_no_path_of_this_machine_in_the_file(exported, file):
    content = file.read_bytes()
    here = str(Path(__file__).parents[2]).encode()
    for trace in (b"site-packages", b".py", b"Traceback", b"stack_trace", here, str(exported.folder).encode()):
        assert trace not in content


def test_file_is_opset_23_with_named_axes_and_metadata(exported, file):
    proto = onnx.load(file)
    assert {(o.domain, o.version) for o in proto.opset_import if o.domain == ""} == {("", 23)}
    assert {node.domain for node in proto.graph.node} == {""}
    assert {p.key: p.value for p in proto.metadata_props} == {"paretoc": "test"}
    assert [value.name for value in proto.graph.input] == list(exported.checkpoint.input_names)
    assert [value.name for value in proto.graph.output] == list(exported.checkpoint.model.output_names)
    for value in proto.graph.input:
        assert [dim.dim_param for dim in value.type.tensor_type.shape.dim] == ["batch", "tokens"]
    for value in proto.graph.output:
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize("name", ["dense", "uneven", "no attention in the last layer", "no middle layer"])
def test_heads_stay_side_by_side_and_are_those_that_were_kept(exported, name):
    graph = inline(fill(exported, SUBNETS[name])).graph
    attention = [node for node in graph.node if node.op_type == "Attention"]
    kept = [sizes.heads for sizes in SUBNETS[name].shape if sizes.heads]
    for attribute in ("q_num_heads", "kv_num_heads"):
        assert [onnx.helper.get_node_attr_value(node, attribute) for node in attention] == kept
    assert not [node.name for node in graph.node if node.op_type == "Transpose"]


def test_an_attention_whose_transposed_result_is_read_elsewhere_is_left_as_it_is():
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["b", "t", 8]) for name in "xy")
    planes = onnx.helper.make_tensor_value_info("planes", onnx.TensorProto.FLOAT, ["b", 2, "t", 4])
    nodes = [
        onnx.helper.make_node("Reshape", ["x", "split"], ["apart"]),
        onnx.helper.make_node("Transpose", ["apart"], ["planes"], perm=[0, 2, 1, 3]),
        onnx.helper.make_node("Attention", ["planes"] * 3, ["attended"]),
        onnx.helper.make_node("Transpose", ["attended"], ["back"], perm=[0, 2, 1, 3]),
        onnx.helper.make_node("Reshape", ["back", "join"], ["y"]),
    ]
    graph = onnx.helper.make_graph(nodes, "one", [x], [y], value_info=[planes])
    read_twice = onnx.GraphProto.FromString(graph.SerializeToString())
    read_twice.node.append(onnx.helper.make_node("Relu", ["back"], ["elsewhere"]))
    read_twice.output.append(onnx.helper.make_tensor_value_info("elsewhere", onnx.TensorProto.FLOAT, None))
    before = read_twice.SerializeToString()
    join_heads(read_twice)
    assert read_twice.SerializeToString() == before


def test_weights_beside_the_graph_belong_to_the_file(exported, tmp_path, monkeypatch):
    monkeypatch.setattr("compiler.export.files.INLINE_LIMIT_BYTES", 1)
    path = tmp_path / "model.onnx"
    graph = fill(exported, SUBNETS["uneven"])
    digest = write_graph(graph, path)
    _, weights = parts_of(path)
    size = weights.stat().st_size
    assert write_graph(graph, path) == digest
    assert weights.stat().st_size == size
    inputs = shapes(exported.checkpoint)["seven texts"]
    compare(open_session(path, 1), exported.runner, SUBNETS["uneven"], inputs)
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert sha256_of(path) != digest
    weights.unlink()
    with pytest.raises(VerificationError, match=r"model\.onnx"):
        check_graph(path)


def test_the_same_sub_network_is_the_same_file(exported, tmp_path):
    graph = fill(exported, SUBNETS["uneven"])
    first, second = tmp_path / "a.onnx", tmp_path / "b.onnx"
    assert write_graph(graph, first) == write_graph(fill(exported, SUBNETS["uneven"]), second) == sha256_of(second)


def test_dead_nodes_and_unread_constants_are_gone(file):
    graph = onnx.load(file).graph
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    assert [node.name for node in graph.node if not read.intersection(node.output)] == []
    assert [tensor.name for tensor in graph.initializer if tensor.name not in read] == []


def test_padding_changes_nothing(exported):
    """Each text alone and the same text in a padded batch: the sentence embedding or the logits are the same."""
    checkpoint = exported.checkpoint
    inputs = shapes(checkpoint)["heavy padding"]
    session = open_session(fill(exported, SUBNETS["uneven"]), 1)
    together = session.run(None, {n: t.numpy() for n, t in inputs.items()})[-1]
    for row, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
        alone = session.run(None, {n: t[row : row + 1, :length].numpy() for n, t in inputs.items()})[-1]
        np.testing.assert_allclose(alone[0], together[row], rtol=1e-5, atol=1e-5)


def test_the_comparison_can_fail(exported):
    session = open_session(fill(exported, SUBNETS["uneven"]), 1)
    inputs = shapes(exported.checkpoint)["seven texts"]
    with pytest.raises(AssertionError):
        compare(session, exported.runner, SUBNETS["no last layer"], inputs)


@pytest.mark.parametrize(
    ("exported", "name"),
    [(("distilbert", "classification"), "no FFN, then no attention"), (("bert", "embedding"), "uneven")],
    indirect=["exported"], ids=["distilbert", "bert"],
)  # fmt: skip
def test_file_equals_a_fresh_export_of_the_same_sub_network(exported, name):
    checkpoint, runner = exported.checkpoint, exported.runner
    subnet = SUBNETS[name]
    skeleton = build_skeleton(checkpoint.model, checkpoint.architecture, subnet.shape)
    sliced = {n: t.detach().clone() for n, t in runner.parameters(subnet).items()}
    skeleton.backbone.load_state_dict(sliced, strict=False, assign=True)
    fresh = onnxruntime.InferenceSession(
        export_module(skeleton.eval(), checkpoint).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    cut = open_session(fill(exported, subnet), 1)
    for inputs in shapes(checkpoint).values():
        feed = {n: t.numpy() for n, t in inputs.items()}
        for a, b in zip(cut.run(None, feed), fresh.run(None, feed), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_export_leaves_the_checkpoint_as_it_was(exported):
    model = exported.checkpoint.model
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    randomise(model, seed=1)
    assert all(torch.equal(before[n], p) for n, p in model.named_parameters())


def test_a_constant_that_is_no_parameter_is_an_error_not_a_guess(exported):
    """The template must not be made with other weights than the export's: every file would be dense and wrong."""
    proto = inline(fill(exported, SUBNETS["dense"]))
    checkpoint = exported.checkpoint
    parameters = {n: p.detach().numpy() + 1 for n, p in checkpoint.model.backbone.named_parameters()}
    with pytest.raises(VerificationError, match="is no known parameter"):
        make_template(proto, parameters, checkpoint.architecture)


def test_a_damaged_file_does_not_pass_the_checker(exported, tmp_path):
    path = tmp_path / "model.onnx"
    proto = inline(fill(exported, SUBNETS["uneven"]))
    node = next(node for node in proto.graph.node if node.op_type == "LayerNormalization")
    node.input[0] = "no such value"
    onnx.save_model(proto, path)
    with pytest.raises(VerificationError, match=r"model\.onnx: onnx\.checker"):
        check_graph(path)


def test_beyond_the_tolerance_a_file_may_be_as_far_from_float64_as_pytorch_is(exported):
    subnet = SUBNETS["uneven"]
    path, parameters = exported.folder / "rounding.onnx", exported.runner.parameters(subnet)
    write_graph(fill(exported, subnet), path)
    assert 0 < parity_error(exported.checkpoint, subnet, parameters, path, NoTexts, tolerance=1e-9) < 1e-4
    moved = {name: 1.0001 * tensor for name, tensor in parameters.items()}
    with pytest.raises(VerificationError, match="differs from PyTorch"):
        parity_error(exported.checkpoint, subnet, moved, path, NoTexts, tolerance=1e-9)


class NoTexts:
    batches = ()
