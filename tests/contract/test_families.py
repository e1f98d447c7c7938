"""Every row of the families table, tried alike: a tiny random model of its type is cut, counted, ranked, re-solved and exported.

`PARETOC_CONTRACT=all` tries every opset, both tasks; otherwise the lowest opset has one task and the highest the other.
"""

import copy
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from compiler.costing import CostModel, dimensions_of, parameter_counts
from compiler.export import ModelWorkbench, check_attention, load_sliced, make_template, narrow_template
from compiler.export.checkpoint import save_checkpoint
from compiler.export.dense import export_dense
from compiler.export.exempt import exempt
from compiler.export.files import write_graph
from compiler.export.tensorrt import check_coverage
from compiler.families import Checkpoint, supported_model_types
from compiler.oneshot import Reconstructor, calibrate, rank_sub_blocks, reconstruct, sensitivities
from compiler.oneshot.gates import GatedNetwork, gates_of
from compiler.oneshot.importance import damped
from compiler.oneshot.reconstruction import one_batch, residual_sums
from compiler.slicing import SubnetRunner, build_skeleton, slice_parameters
from compiler.spaces import (
    OF_FULL_WIDTH,
    SPACES,
    Ordering,
    QueryOrder,
    SubBlock,
    Subnet,
    make_space,
    sample_stratified,
    sample_uniform,
)
from compiler.tasks import Batches
from profilers import LayerSizes, Workload, attention_sizes, roofline_table
from profilers.runtimes.onnx_runtime import open_session
from targets import STATIC, Target, measure_fingerprint
from targets.errors import InputError
from tests.oracle import Masked
from tests.tiny import ALL_TYPES, LAYERS, UNITS, VOCABULARY, cut, some_batches, tiny_checkpoint

EVERYTHING = os.environ.get("PARETOC_CONTRACT") == "all"
LOWEST, HIGHEST = 17, 23
GRAPHS = (
    [(opset, task) for opset in range(LOWEST, HIGHEST + 1) for task in ("embedding", "classification")]
    if EVERYTHING
    else [(LOWEST, "classification"), (HIGHEST, "embedding")]
)


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in ALL_TYPES])
def model_type(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def checkpoint(model_type, tmp_path_factory) -> Checkpoint:
    return tiny_checkpoint(tmp_path_factory.mktemp(model_type), model_type)


@pytest.fixture(scope="module")
def exact(checkpoint) -> Checkpoint:
    """The same in float64."""
    return replace(checkpoint, model=copy.deepcopy(checkpoint.model).double())


def cases(architecture) -> dict[str, Subnet]:
    a, heads, last = architecture, range(architecture.heads), architecture.heads - 1
    most, fewer = a.queries, max(a.queries - 1, 1)
    return {
        "dense": cut(a, [heads] * LAYERS, [range(UNITS)] * LAYERS),
        "uneven": cut(a, [[last], [0], heads], [[0, 7, 47], range(5, 40), [11]], 1, most, fewer),
        "no attention in the first layer": cut(a, [[], [0], [last]], [[1, 5, 40], [], range(UNITS)], 1, fewer, most),
        "no first layer": cut(a, [[], [last], heads], [[], [4, 5], []], most, 1, fewer),
        "no middle layer": cut(a, [[0], [], heads], [[3], [], [1, 2]], fewer, most, 1),
        "no last layer": cut(a, [[0], heads, []], [range(UNITS), [], []], 1, fewer, 1),
        "no attention": cut(a, [[]] * LAYERS, [[1], range(UNITS), [2, 3]]),
        "no FFN": cut(a, [[0], heads, [last]], [[]] * LAYERS, fewer, 1, most),
        "nothing": cut(a, [[]] * LAYERS, [[]] * LAYERS),
    }


def inputs_of(
    checkpoint: Checkpoint, lengths: list[int], tokens: int, *, left: bool = False
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(tokens * 100 + len(lengths))
    ids = torch.randint(5, VOCABULARY, (len(lengths), tokens), generator=generator)
    place, real = torch.arange(tokens)[None], torch.tensor(lengths)[:, None]
    mask = (place >= tokens - real).long() if left else (place < real).long()
    ids[mask == 0] = checkpoint.tokenizer.pad_token_id
    types = (place >= tokens // 2).long() * mask
    return {n: {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}[n] for n in checkpoint.input_names}


def batch(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return inputs_of(checkpoint, [11, 4, 1], 11)


def orderings(architecture, seed: int) -> Ordering:
    rng = np.random.default_rng(seed)
    heads, queries, whole = architecture.heads, architecture.queries, architecture.apart
    slots = tuple(np.stack([rng.permutation(queries) for _ in range(heads)]) for _ in range(LAYERS))
    return Ordering(
        heads=tuple(rng.permutation(heads) for _ in range(LAYERS)),
        units=tuple(rng.permutation(UNITS) for _ in range(LAYERS)),
        queries=whole and QueryOrder(whole=whole, slots=slots),
    )


def tolerance(checkpoint: Checkpoint) -> float:
    """1e-10, but 1e-6 where a norm of the family computes in float32 whatever it is given."""
    kinds = {type(module).__name__ for module in checkpoint.model.modules()}
    return 1e-6 if any("RMSNorm" in kind for kind in kinds) else 1e-10


def assert_equal(checkpoint: Checkpoint, subnet: Subnet, close: float) -> None:
    inputs = batch(checkpoint)
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        sliced = SubnetRunner(checkpoint.model, checkpoint.architecture)(subnet, inputs)
        with Masked(checkpoint, subnet) as masked:
            expected = masked(**inputs)
    for ours, theirs in zip(sliced, expected, strict=True):
        a, b = (ours[real], theirs[real]) if ours.ndim == 3 else (ours, theirs)
        assert float((a - b).abs().max() / theirs.abs().max().clamp(min=1)) < close


def test_the_suite_tries_every_row():
    assert set(ALL_TYPES) == set(supported_model_types())


@pytest.mark.parametrize("space_name", OF_FULL_WIDTH)
def test_masked_equals_sliced_in_every_space(exact, space_name):
    rng = np.random.default_rng(3)
    space = make_space(space_name, exact.architecture, ordering=orderings(exact.architecture, 5))
    weigh = lambda counts: (counts.heads.sum(1) + counts.units.sum(1)).astype(float)  # noqa: E731
    drawn = [sample_uniform(space, rng, 3), sample_stratified(space, rng, 4, weigh)]
    for genome in np.concatenate([np.stack([space.largest, space.smallest, space.middle]), *drawn]):
        assert_equal(exact, space.subnet(genome), tolerance(exact))


def test_masked_equals_sliced_where_branches_and_layers_are_dropped(exact):
    for subnet in cases(exact.architecture).values():
        assert_equal(exact, subnet, tolerance(exact))


@pytest.mark.parametrize("space_name", ["medium", "large"])
def test_what_was_cut_is_cut_again(checkpoint, tmp_path, space_name):
    """A network of a cut network has the parameters that the dense model has at the same places, and no more than was left."""
    a = checkpoint.architecture
    for name in ("uneven", "no first layer"):
        parent = cases(a)[name]
        dense = dict(checkpoint.model.backbone.named_parameters())
        save_checkpoint(tmp_path / name, checkpoint, parent, slice_parameters(dense, a, parent))
        found = load_sliced(tmp_path / name)
        left, mine = dict(found.model.backbone.named_parameters()), found.architecture
        assert mine.shape == parent.shape
        space, rng = make_space(space_name, mine), np.random.default_rng(4)
        for genome in np.stack([space.largest, space.smallest, space.middle, *sample_uniform(space, rng, 4)]):
            again = space.subnet(genome)
            assert space.shape(genome) == again.shape
            sliced = slice_parameters(left, mine, again)
            expected = slice_parameters(dense, a, again.within(parent))
            assert {n: p.tolist() for n, p in sliced.items()} == {n: p.tolist() for n, p in expected.items()}
            assert sum(p.numel() for p in sliced.values()) == mine.parameters(again.shape)
        assert space.subnet(space.largest).within(parent) == parent


def test_width_is_a_space_of_families_that_declare_it(checkpoint):
    if checkpoint.architecture.family.stem is None:
        with pytest.raises(InputError, match="space 'width'"):
            make_space("width", checkpoint.architecture)
    else:
        assert make_space("width", checkpoint.architecture).layers == LAYERS


def test_gradients_through_the_slicer_equal_gradients_through_the_mask(exact):
    inputs = batch(exact)
    weights = torch.randn(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def gradients(run):
        exact.model.zero_grad()
        output = run()[-1].flatten()
        (output * weights[: len(output)]).sum().backward()
        named = exact.model.backbone.named_parameters()
        return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in named}

    for subnet in list(cases(exact.architecture).values())[1:4]:
        ours = gradients(lambda net=subnet: SubnetRunner(exact.model, exact.architecture)(net, inputs))
        with Masked(exact, subnet) as masked:
            theirs = gradients(lambda run=masked: run(**inputs))
        largest = max(float(gradient.abs().max()) for gradient in theirs.values())
        assert largest > 1e-3
        for name, gradient in ours.items():
            assert float((gradient - theirs[name]).abs().max()) < 100 * tolerance(exact) * largest, name


def test_counts_are_closed_forms(checkpoint):
    a = checkpoint.architecture
    dense = dict(checkpoint.model.backbone.named_parameters())
    for subnet in cases(a).values():
        sliced = slice_parameters(dense, a, subnet)
        total = sum(tensor.numel() for tensor in sliced.values())
        assert total == a.parameters(subnet.shape)
        assert [total] == parameter_counts(a, subnet.counts).tolist()
        skeleton = build_skeleton(checkpoint.model, a, subnet.shape)
        shapes = {name: tuple(p.shape) for name, p in skeleton.backbone.named_parameters()}
        assert shapes == {name: tuple(tensor.shape) for name, tensor in sliced.items()}


def test_costs_count_what_matrices_multiply(checkpoint):
    """Weights of an attention and of a unit, and operations of a call, against the model's own matrices."""
    a, dims = checkpoint.architecture, dimensions_of(checkpoint.architecture)
    size = {n: p.numel() for n, p in checkpoint.model.backbone.named_parameters()}
    attention, ffn = (
        sum(size[f"{m.module}.weight"] for layer in range(LAYERS) for m in a.branch(layer, piece).matrices)
        for piece in ("attention", "ffn")
    )
    assert dims.attention_weights[-1] * LAYERS == attention
    assert dims.weights_a_unit * a.ffn_units * LAYERS == ffn
    target, workload = Target.parse("null"), Workload(tokens=32, runtime="null")
    cost = CostModel.of(roofline_table(target, dims, workload, measure_fingerprint(target)), workload)
    scores = 4 * 32 * 32 * a.heads * a.queries * a.head_size * LAYERS
    dense = cases(a)["dense"]
    assert cost.operations(dense.counts).tolist() == [2 * 32 * (attention + ffn) + scores]


@pytest.fixture(scope="module")
def texts(checkpoint) -> Batches:
    return some_batches(checkpoint)


@pytest.fixture(scope="module")
def calibration(checkpoint, texts):
    return calibrate(checkpoint, texts)


def test_branches_are_ranked_by_what_they_lose(checkpoint, texts, calibration):
    ordering, ranked = rank_sub_blocks(checkpoint, calibration, sensitivities(checkpoint, texts))
    for layer in range(LAYERS):
        assert sorted(ordering.heads[layer]) == list(range(checkpoint.architecture.heads))
        assert sorted(ordering.units[layer]) == list(range(UNITS))
    for (_, piece), block in ranked.items():
        assert block.losses[-1] == 0 < block.losses[0]
        if piece == "ffn" or checkpoint.architecture.apart is None:
            assert (np.diff(block.losses) <= 1e-9 * block.losses[0]).all()


def test_query_heads_are_ranked_by_what_the_very_ones_left_lose(checkpoint, texts, calibration):
    """Against a solution by normal equations, and a size that has all of another loses no more."""
    a = checkpoint.architecture
    if a.apart is None:
        return
    sensitivity = sensitivities(checkpoint, texts)
    ordering, ranked = rank_sub_blocks(checkpoint, calibration, sensitivity)
    every = attention_sizes(a.apart)
    for layer in range(LAYERS):
        slots, losses = ordering.queries.slots[layer], ranked[layer, "attention"].losses
        assert np.array_equal(np.sort(slots, axis=1), np.tile(np.arange(a.queries), (a.heads, 1)))
        output, gram = a.branch(layer, "attention").output, damped(calibration.grams[layer, "attention"].matrix)
        weight = checkpoint.model.backbone.get_parameter(f"{output.module}.weight").detach().double()
        weight = torch.cat([weight, torch.zeros(len(weight), 1)], dim=1)
        metric = sensitivity[layer, "attention"]
        metric = metric + 0.1 * metric.diagonal().mean() * torch.eye(len(metric))
        for size, kept in enumerate(every):
            shape = [LayerSizes(size, 0)] * LAYERS
            stay = Subnet.first(tuple(shape), ordering).kept(layer)[0]
            columns = [*output.indices(stay, weight.shape[1] - 1), weight.shape[1] - 1]
            solved = torch.linalg.solve(gram[columns][:, columns], gram[columns] @ weight.T).T
            rest = weight.clone()
            rest[:, columns] -= solved
            expected = float((metric @ rest @ gram @ rest.T).trace())
            assert losses[size] == pytest.approx(expected, rel=1e-6, abs=1e-9 * losses[0])
            inside = [
                s for s, other in enumerate(every) if other.groups <= kept.groups and other.queries <= kept.queries
            ]
            assert (losses[inside] >= losses[size] - 1e-9 * losses[0]).all()


def _distance(checkpoint, subnet, parameters, texts) -> float:
    """Squared distance of what a network's tokens are to the dense model's, on average."""
    runner, total, count = SubnetRunner(checkpoint.model, checkpoint.architecture), 0.0, 0
    with torch.no_grad():
        for inputs in texts:
            real = inputs["attention_mask"].bool()
            ours, theirs = runner(subnet, inputs, parameters)[0][real], checkpoint.model(**inputs)[0][real]
            total, count = total + float((ours - theirs).square().sum()), count + int(real.sum())
    return total / count


def test_what_is_left_makes_up_for_what_is_gone(checkpoint, texts, calibration):
    """Re-solved projections come nearer to the dense model than sliced ones, on its Grams and on the network's own inputs."""
    a = checkpoint.architecture
    subnet = cut(
        a, [range(a.heads > 1, a.heads)] * LAYERS, [range(12, UNITS)] * LAYERS, *[max(a.queries - 1, 1)] * LAYERS
    )
    sliced = SubnetRunner(checkpoint.model, a).parameters(subnet)
    solved = Reconstructor(checkpoint, calibration).parameters(subnet)
    own_batch = one_batch(texts, checkpoint)
    sums = residual_sums(checkpoint, own_batch)
    in_pass = reconstruct(checkpoint, subnet, solved, own_batch, sums)
    assert {n: p.shape for n, p in in_pass.items()} == {n: p.shape for n, p in sliced.items()}
    before, dense_grams, own = (_distance(checkpoint, subnet, p, texts) for p in (sliced, solved, in_pass))
    assert dense_grams < 0.95 * before
    assert own < 0.95 * before
    whole = cases(a)["dense"]
    dense = SubnetRunner(checkpoint.model, a).parameters(whole)
    assert _distance(checkpoint, whole, reconstruct(checkpoint, whole, dense, own_batch, sums), texts) < 1e-3 * before


def test_gates_open_to_the_whole_network_and_shut_to_a_smaller_one(checkpoint, texts):
    a = checkpoint.architecture
    space = make_space("medium", a, unit_step=8)
    dense = {name: p.detach() for name, p in checkpoint.model.backbone.named_parameters()}
    network = GatedNetwork(checkpoint, space, gates_of(space), lambda net: slice_parameters(dense, a, net))
    inputs = next(iter(texts))
    shut = [
        (gate.piece == "attention" and gate.layer == 1) or (gate.piece == "ffn" and gate.layer == 0)
        for gate in network.gates
    ]
    openings = torch.tensor([0.0 if is_shut else 1.0 for is_shut in shut], requires_grad=True)
    subnet = cut(a, [range(a.heads), [], range(a.heads)], [[], range(UNITS), range(UNITS)])
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        theirs = SubnetRunner(checkpoint.model, a)(subnet, inputs)
    ours = network(openings, inputs)
    torch.testing.assert_close(ours[0][real], theirs[0][real], rtol=1e-4, atol=1e-4)
    (gradient,) = torch.autograd.grad(ours[-1].square().sum(), openings)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0


@dataclass
class Exported:
    checkpoint: Checkpoint
    bench: ModelWorkbench
    runner: SubnetRunner
    folder: Path

    def needs(self, precision: str) -> None:
        if precision not in self.bench.templates:
            pytest.skip("narrower precisions of the lowest opset are tried by `make contract`")

    def file(self, subnet: Subnet, precision: str = "fp32", exceptions: tuple[SubBlock, ...] = ()) -> Path:
        path = self.folder / f"{subnet.digest}-{precision}-{len(exceptions)}.onnx"
        if not path.exists():
            write_graph(self.bench.graph(subnet, self.runner.parameters(subnet), precision, exceptions), path)
        return path


@pytest.fixture(scope="module", params=GRAPHS, ids=lambda graph: f"opset{graph[0]}-{graph[1]}")
def exported(request, model_type, tmp_path_factory) -> Exported:
    opset, task = request.param
    folder = tmp_path_factory.mktemp(f"{model_type}-{opset}")
    checkpoint = tiny_checkpoint(folder / "model", model_type, task=task)
    proto, twin = export_dense(checkpoint, opset)
    parameters = {name: tensor.detach().numpy() for name, tensor in twin.backbone.named_parameters()}
    template = make_template(proto, parameters, checkpoint.architecture)
    narrower = ("int8", "fp16", STATIC) if opset == HIGHEST or EVERYTHING else ()
    narrow = {p: narrow_template(template, p, parameters, checkpoint.architecture) for p in narrower}
    bench = ModelWorkbench(checkpoint, {"fp32": template, **narrow}, some_batches(checkpoint))
    return Exported(checkpoint, bench, SubnetRunner(checkpoint.model, checkpoint.architecture), folder)


def odd_batches(checkpoint: Checkpoint) -> dict[str, dict[str, torch.Tensor]]:
    longest = min(64, checkpoint.architecture.max_tokens)
    return {
        "one token": inputs_of(checkpoint, [1], 1),
        "seven texts": inputs_of(checkpoint, [5, 17, 3, 17, 8, 1, 16], 17),
        "longest": inputs_of(checkpoint, [longest], longest),
        "heavy padding": inputs_of(checkpoint, [1, 2, longest, 1, 3, 1, 1], longest),
        "padding on the left": inputs_of(checkpoint, [13, 1, 6], 13, left=True),
    }


def difference(exported: Exported, path: Path, subnet: Subnet) -> float:
    """The largest of all odd batches, relative to the largest value where that is above 1."""
    session, worst = open_session(path, 1), 0.0
    for name, inputs in odd_batches(exported.checkpoint).items():
        ours = session.run(None, {key: tensor.numpy() for key, tensor in inputs.items()})
        with torch.no_grad():
            theirs = [tensor.numpy() for tensor in exported.runner(subnet, inputs)]
        real = inputs["attention_mask"].bool().numpy()
        first_is_read = exported.checkpoint.task.head and not exported.checkpoint.architecture.family.causal
        for a, b in zip(ours, theirs, strict=True):
            assert a.shape == b.shape
            if a.ndim == 3:
                a, b = a[real], b[real]  # noqa: PLW2901
            elif name == "padding on the left" and first_is_read:
                a, b = a[:1], b[:1]  # noqa: PLW2901  a head that reads the first place reads padding in the others
            assert np.isfinite(a).all()
            worst = max(worst, float(np.abs(a - b).max() / max(1.0, np.abs(b).max())))
    return worst


def test_files_answer_what_the_slicer_answers_on_odd_batches(exported):
    behind = any(branch.behind for branch in exported.checkpoint.architecture.branches(0))
    close = 3e-4 if behind else 1e-4  # such a norm makes what a few random units add as large as what all add
    for name, subnet in cases(exported.checkpoint.architecture).items():
        path = exported.file(subnet)
        assert difference(exported, path, subnet) < close, name
        assert check_attention(path, subnet.shape) == sum(sizes.heads > 0 for sizes in subnet.shape)


def test_files_hold_exactly_the_layers_parameters(exported):
    a, template = exported.checkpoint.architecture, exported.bench.templates["fp32"]
    for subnet in cases(a).values():
        expected = {n: t.numel() for n, t in exported.runner.parameters(subnet).items() if a.in_layers(n)}
        graph = exported.bench.graph(subnet, exported.runner.parameters(subnet), "fp32")
        bound = {template.bindings[name].parameter: array.size for name, array in graph.weights.items()}
        assert {n: size for n, size in bound.items() if a.in_layers(n)} == expected


@pytest.mark.parametrize("precision", ["fp32", "fp16", STATIC])
def test_files_for_gpus_have_what_tensorrt_takes(exported, precision):
    exported.needs(precision)
    subnet = next(iter(cases(exported.checkpoint.architecture).values()))
    assert check_coverage(exported.file(subnet, precision)).problems == ()


@pytest.mark.parametrize("precision", ["int8", STATIC, "fp16"])
def test_narrower_files_answer_nearly_the_same(exported, precision):
    exported.needs(precision)
    behind = any(branch.behind for branch in exported.checkpoint.architecture.branches(0))
    in_8_bits = 0.6 if behind else 0.3  # such a norm makes what a few units add, and lose, as large as what all add
    most = 0.02 if precision == "fp16" else in_8_bits
    for name in ("dense", "uneven", "no middle layer"):
        subnet = cases(exported.checkpoint.architecture)[name]
        path = exported.file(subnet, precision)
        feed = {key: tensor.numpy() for key, tensor in list(some_batches(exported.checkpoint))[-1].items()}
        coarse = open_session(path, 1).run(None, feed)[-1]
        fine = open_session(exported.file(subnet), 1).run(None, feed)[-1]
        assert 0 < np.linalg.norm(coarse - fine) < most * np.linalg.norm(fine), name
        check_attention(path, subnet.shape)


def test_half_precision_keeps_the_angles_of_positions(exported):
    exported.needs("fp16")
    path = exported.file(cases(exported.checkpoint.architecture)["dense"], "fp16")
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    angles = {kinds[node.input[0]] for node in graph.node if node.op_type in {"Cos", "Sin"}}
    assert angles == ({onnx.TensorProto.FLOAT} if exported.checkpoint.architecture.family.rotary else set())


@pytest.mark.parametrize("precision", ["int8", STATIC])
def test_branches_can_stay_in_fp32(exported, precision):
    """With every branch exempt nothing of the layers is in 8 bits, and what the tables lose is all that is lost."""
    exported.needs(precision)
    subnet = cases(exported.checkpoint.architecture)["uneven"]
    every = tuple(SubBlock(layer, piece) for layer in range(LAYERS) for piece in ("attention", "ffn"))
    template = exempt(exported.bench.templates[precision], exported.bench.templates["fp32"], every)
    layers = exported.checkpoint.architecture.in_layers
    graph = exported.bench.graph(subnet, exported.runner.parameters(subnet), precision, every)
    stored = {name: array.dtype for name, array in graph.weights.items() if layers(template.bindings[name].parameter)}
    assert set(stored.values()) == {np.dtype("float32")}
    path = exported.file(subnet, precision, every)
    assert 0 < difference(exported, path, subnet) < 1.5 * difference(exported, exported.file(subnet, precision), subnet)


def test_spaces_are_those_that_are_declared():
    assert set(SPACES) == {*OF_FULL_WIDTH, "width"}
