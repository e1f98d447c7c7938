"""MPNet and DeBERTa-v2: attention that stands in for transformers' own computes the same, cut and exported as well."""

import copy
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel

from compiler.export import load_sliced, make_template, narrow_template, save_checkpoint
from compiler.export.dense import export_dense
from compiler.export.files import attention_nodes, inline, write_graph
from compiler.export.static import observe
from compiler.export.template import GraphTemplate
from compiler.families import Checkpoint, family_of, load_checkpoint
from compiler.slicing import SubnetRunner
from compiler.spaces import Subnet
from profilers import Graph
from profilers.runtimes.onnx_runtime import open_session
from targets import STATIC
from targets.errors import InputError
from tests.parity.test_export import inputs_of
from tests.parity.test_slicing import CORNERS
from tests.parity.test_slicing import compare as masked_equals_sliced
from tests.tiny import HEADS, LAYERS, UNITS, VOCABULARY, randomise, save_tiny, tiny_checkpoint, tiny_config

TYPES = ("mpnet", "deberta-v2")
LONG = {"max_position_embeddings": 300}
CONFIGS = {
    "mpnet": ("mpnet", {}),
    "mpnet, long": ("mpnet", LONG),
    "deberta": ("deberta-v2", {}),
    "deberta, long": ("deberta-v2", {**LONG, "max_relative_positions": 150, "position_buckets": 34}),
    "deberta, plain distances": ("deberta-v2", {"position_buckets": -1, "max_relative_positions": 20}),
    "deberta, positions twice": ("deberta-v2", {"position_biased_input": True, "type_vocab_size": 2}),
    "deberta, no norm": ("deberta-v2", {"norm_rel_ebd": "none"}),
}
SUBNETS = {
    "whole": Subnet.of([range(HEADS)] * LAYERS, [range(UNITS)] * LAYERS),
    "uneven": Subnet.of([[1, 3], [0], [0, 1, 2]], [[0, 7, 47], range(5, 40), [11]]),
    "branches gone": Subnet.of([[3], [], [2]], [[], [0, 2], range(UNITS)]),
    "a layer gone": Subnet.of([[], [2], [1, 2]], [[], [4], [1, 2, 3]]),
}


def masks(tokens: int) -> torch.Tensor:
    """Five texts: whole, padded on the right, on the left, on both sides, and all but one token padding."""
    mask = torch.ones(5, tokens, dtype=torch.long)
    mask[1, tokens // 3 :] = 0
    mask[2, : tokens // 2] = 0
    mask[3, :2] = mask[3, -4:] = 0
    mask[4, 1:] = 0
    return mask


def both(name: str) -> tuple[nn.Module, nn.Module, dict[str, torch.Tensor]]:
    """transformers' model with random weights in float64, the same one adapted, and inputs for them."""
    model_type, extra = CONFIGS[name]
    config = tiny_config(model_type, **extra)
    theirs = AutoModel.from_config(config, attn_implementation="eager").double().eval()
    randomise(theirs)
    ours = family_of(model_type).adapted(copy.deepcopy(theirs))
    tokens = 200 if "long" in name else 23
    mask = masks(tokens)
    ids = torch.randint(5, VOCABULARY, mask.shape, generator=torch.Generator().manual_seed(1))
    return theirs, ours, {"input_ids": ids.masked_fill(mask == 0, config.pad_token_id), "attention_mask": mask}


def gradients(model: nn.Module, inputs) -> dict[str, torch.Tensor]:
    """Those of a loss of real tokens. What padding answers has no meaning, and how it depends on weights may differ."""
    output = model(**inputs).last_hidden_state[inputs["attention_mask"].bool()]
    weights = torch.randn(output.shape, dtype=output.dtype, generator=torch.Generator().manual_seed(2))
    (output * weights).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", CONFIGS)
def test_it_gives_what_transformers_gives_with_every_padding(name):
    theirs, ours, inputs = both(name)
    with torch.no_grad():
        torch.testing.assert_close(
            ours(**inputs).last_hidden_state, theirs(**inputs).last_hidden_state, rtol=1e-12, atol=1e-12
        )
        one = {"input_ids": inputs["input_ids"][:1, :1]}
        torch.testing.assert_close(
            ours(**one).last_hidden_state, theirs(**one).last_hidden_state, rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_are_those_of_transformers(name):
    theirs, ours, inputs = both(name)
    wanted, found = gradients(theirs, inputs), gradients(ours, inputs)
    shared = wanted.pop("encoder.relative_attention_bias.weight", None)
    tables = [found.pop(name) for name in list(found) if "relative_attention_bias" in name]
    if shared is not None:
        assert len(tables) == LAYERS
        torch.testing.assert_close(sum(tables), shared.T, rtol=1e-9, atol=1e-9)
    assert found.keys() == wanted.keys()
    for parameter, gradient in wanted.items():
        torch.testing.assert_close(found[parameter], gradient, rtol=1e-9, atol=1e-9, msg=parameter)


@pytest.mark.parametrize("name", ["mpnet", "deberta"])
def test_dropout_in_training_is_that_of_transformers(name):
    theirs, ours, inputs = both(name)
    outputs = []
    for model in (theirs.train(), ours.train()):
        torch.manual_seed(3)
        outputs.append(model(**inputs).last_hidden_state)
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(outputs[0], ours.eval()(**inputs).last_hidden_state, rtol=1e-3)


def test_each_layer_of_an_mpnet_has_a_table_of_its_own():
    theirs, ours, _ = both("mpnet")
    sizes = [sum(p.numel() for p in model.parameters()) for model in (theirs, ours)]
    assert sizes[1] - sizes[0] == HEADS * 32 * (LAYERS - 1)


REFUSED = {
    "relative_attention": ("deberta-v2", {"relative_attention": False}),
    "share_att_key": ("deberta-v2", {"share_att_key": False}),
    "pos_att_type": ("deberta-v2", {"pos_att_type": ["c2p"]}),
    "conv_kernel_size": ("deberta-v2", {"conv_kernel_size": 3}),
    "attention_head_size": ("deberta-v2", {"attention_head_size": 4}),
    "position_buckets": ("deberta-v2", {"position_buckets": 15}),
    "max_relative_positions": ("deberta-v2", {"max_relative_positions": 10**9}),
    "pad_token_id": ("mpnet", {"pad_token_id": 0}),
    "relative_attention_num_buckets": ("mpnet", {"relative_attention_num_buckets": 16}),
}


@pytest.mark.parametrize("setting", REFUSED)
def test_what_is_computed_otherwise_is_refused_by_name(tmp_path, setting):
    model_type, extra = REFUSED[setting]
    save_tiny(tmp_path, model_type)
    tiny_config(model_type, **extra).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=f"config.json: {setting} is"):
        load_checkpoint(str(tmp_path), task="embedding")


@pytest.mark.parametrize("model_type", TYPES)
def test_a_stock_checkpoint_answers_as_in_transformers(tmp_path, model_type):
    save_tiny(tmp_path, model_type)
    checkpoint = load_checkpoint(str(tmp_path), task="embedding")
    inputs = inputs_of(checkpoint, [5, 17, 1], 17)
    with torch.no_grad():
        wanted = AutoModel.from_pretrained(tmp_path).eval()(**inputs).last_hidden_state
        torch.testing.assert_close(checkpoint.model(**inputs)[0], wanted, rtol=1e-5, atol=1e-5)


def test_positions_that_a_deberta_does_not_add_may_be_stored(tmp_path):
    save_tiny(tmp_path, "deberta-v2", position_biased_input=True)
    weights = load_file(tmp_path / "model.safetensors")
    assert any("position_embeddings" in name for name in weights)
    tiny_config("deberta-v2").save_pretrained(tmp_path)
    checkpoint = load_checkpoint(str(tmp_path), task="embedding")
    assert not any("position_embeddings" in name for name, _ in checkpoint.model.named_parameters())
    save_file({"embeddings.odd.weight": torch.ones(2, 2), **weights}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"no place for embeddings\.odd\.weight"):
        load_checkpoint(str(tmp_path), task="embedding")


@pytest.fixture(scope="module", params=[(name, task) for name in TYPES for task in ("embedding", "classification")])
def checkpoint(request, tmp_path_factory) -> Checkpoint:
    return tiny_checkpoint(tmp_path_factory.mktemp(request.param[0]), request.param[0], task=request.param[1])


@pytest.mark.parametrize("subnet", CORNERS)
def test_masked_equals_sliced(checkpoint, subnet):
    checkpoint.model.double()
    masked_equals_sliced(checkpoint, subnet)
    checkpoint.model.float()


@pytest.mark.parametrize("subnet", SUBNETS.values(), ids=SUBNETS)
def test_a_saved_network_loads_and_answers_the_same(tmp_path, checkpoint, subnet):
    runner = SubnetRunner(checkpoint.model, checkpoint.architecture)
    parameters = runner.parameters(subnet)
    save_checkpoint(tmp_path, checkpoint, subnet, parameters)
    loaded = load_sliced(tmp_path)
    count = sum(p.numel() for p in loaded.model.backbone.parameters())
    assert count == checkpoint.architecture.parameters(subnet.shape)
    inputs = inputs_of(checkpoint, [5, 17, 1], 17)
    with torch.no_grad():
        for ours, wanted in zip(loaded.model(**inputs), runner(subnet, inputs), strict=True):
            torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=1e-6)


class Exported(NamedTuple):
    checkpoint: Checkpoint
    opset: int
    template: GraphTemplate


def template_of(checkpoint: Checkpoint, opset: int = 23) -> GraphTemplate:
    proto, twin = export_dense(checkpoint, opset)
    parameters = {name: tensor.detach().numpy() for name, tensor in twin.backbone.named_parameters()}
    return make_template(proto, parameters, checkpoint.architecture)


@pytest.fixture(scope="module", params=[17, 23])
def exported(request, checkpoint) -> Exported:
    return Exported(checkpoint, request.param, template_of(checkpoint, request.param))


def arrays(parameters) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy() for name, tensor in parameters.items()}


@pytest.mark.parametrize("subnet", SUBNETS.values(), ids=SUBNETS)
def test_a_filled_graph_answers_what_pytorch_answers(tmp_path, exported, subnet):
    checkpoint, opset, template = exported
    runner = SubnetRunner(checkpoint.model, checkpoint.architecture)
    path = tmp_path / "net.onnx"
    write_graph(template.fill(arrays(runner.parameters(subnet)), subnet.shape), path)
    attentions = sum(1 for sizes in subnet.shape if sizes.heads)
    softmaxes = sum(node.op_type == "Softmax" for node in onnx.load(path).graph.node)
    assert (attention_nodes(path), softmaxes) == ((attentions, 0) if opset == 23 else (attentions, attentions))
    session = open_session(path, 1)
    for lengths, tokens in (([1], 1), ([13], 13), ([64], 64), ([1, 2, 64, 1, 3], 64), ([2, 9], 33)):
        inputs = inputs_of(checkpoint, lengths, tokens)
        with torch.no_grad():
            wanted = runner(subnet, inputs)
        for ours, theirs in zip(session.run(None, arrays(inputs)), wanted, strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module", params=TYPES)
def embedding(request, tmp_path_factory) -> tuple[Checkpoint, GraphTemplate]:
    checkpoint = tiny_checkpoint(tmp_path_factory.mktemp(request.param), request.param)
    return checkpoint, template_of(checkpoint)


def narrowed(checkpoint: Checkpoint, template: GraphTemplate, precision: str) -> GraphTemplate:
    dense = arrays(dict(checkpoint.model.backbone.named_parameters()))
    return narrow_template(template, precision, dense, checkpoint.architecture)


def filled(checkpoint: Checkpoint, template: GraphTemplate, narrow: GraphTemplate, subnet: Subnet, inputs) -> Graph:
    """The narrower graph of a network, with the ranges of these inputs where it has fixed ones."""
    sliced = arrays(SubnetRunner(checkpoint.model, checkpoint.architecture).parameters(subnet))
    readers = {activation: names[0] for activation, names in narrow.matrices.items()}
    ranges = observe(template.fill(sliced, subnet.shape), readers, [inputs]) if readers else {}
    return narrow.fill(sliced, subnet.shape, ranges=ranges)


@pytest.mark.parametrize("precision", ["fp16", "int8", STATIC])
def test_narrower_graphs_keep_tables_of_heads_and_answer_nearly_the_same(tmp_path, embedding, precision):
    checkpoint, template = embedding
    narrow, tables = narrowed(checkpoint, template, precision), checkpoint.architecture.tables
    schemes = {binding.parameter: binding.scheme for binding in narrow.bindings.values()}
    assert len(tables) == (LAYERS if checkpoint.config.model_type == "mpnet" else 0)
    assert not any(schemes[table] for table in tables)
    assert bool(schemes[f"{checkpoint.architecture.word_table}.weight"]) == (precision != "fp16")
    subnet, inputs = SUBNETS["uneven"], inputs_of(checkpoint, [13, 5, 1], 13)
    write_graph(filled(checkpoint, template, narrow, subnet, inputs), tmp_path / "net.onnx")
    with torch.no_grad():
        wanted = SubnetRunner(checkpoint.model, checkpoint.architecture)(subnet, inputs)[1].numpy()
    found = open_session(tmp_path / "net.onnx", 1).run(None, arrays(inputs))[1]
    cosine = (found * wanted).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(wanted, axis=1)
    np.testing.assert_allclose(cosine, 1, atol=1e-4 if precision == "fp16" else 0.03)


@pytest.mark.parametrize("embedding", ["deberta-v2"], indirect=True)
def test_positions_are_projected_with_the_matrices_that_smoothing_changed(tmp_path, embedding):
    checkpoint, template = embedding
    subnet, inputs = SUBNETS["uneven"], inputs_of(checkpoint, [13, 5, 1], 13)
    graph = inline(filled(checkpoint, template, narrowed(checkpoint, template, STATIC), subnet, inputs))
    products = [n.output[0] for n in graph.graph.node if n.op_type == "MatMul" and n.input[0].endswith("_smoothed")]
    assert len(products) == 2 * LAYERS
    sliced = arrays(SubnetRunner(checkpoint.model, checkpoint.architecture).parameters(subnet))
    answers = []
    for proto in (graph, inline(template.fill(sliced, subnet.shape))):
        proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in products)
        onnx.save(proto, tmp_path / "net.onnx")
        answers.append(open_session(tmp_path / "net.onnx", 1).run(products, arrays(inputs)))
    for ours, exact in zip(*answers, strict=True):
        np.testing.assert_allclose(ours, exact, atol=0.02 * np.abs(exact).max())


@pytest.mark.parametrize("embedding", ["deberta-v2"], indirect=True)
def test_a_runtime_projects_positions_once_for_all_calls(tmp_path, embedding):
    checkpoint, template = embedding
    graph = template.fill(arrays(dict(checkpoint.model.backbone.named_parameters())), SUBNETS["whole"].shape)
    write_graph(graph, tmp_path / "net.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimised.onnx"), 3
    onnxruntime.InferenceSession(tmp_path / "net.onnx", options, providers=["CPUExecutionProvider"])
    before, after = (
        sum("MatMul" in node.op_type for node in onnx.load(tmp_path / name).graph.node)
        for name in ("net.onnx", "optimised.onnx")
    )
    assert (before, after) == (10 * LAYERS, 8 * LAYERS)  # two products of each layer are constants
