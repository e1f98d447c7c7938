"""Files and folders of networks with fewer residual dimensions: the same answers as the slicer's, wherever they are loaded."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from compiler.export import (
    ModelWorkbench,
    compare_with_fresh_export,
    load_model,
    load_sliced,
    narrow_template,
    save_checkpoint,
)
from compiler.export.dense import export_dense
from compiler.export.files import check_graph, write_graph
from compiler.export.template import make_template
from compiler.oneshot.reconstruction import one_batch, reconstruct, residual_sums, restore_output
from compiler.slicing import SubnetRunner, with_restoring
from compiler.spaces import Subnet
from compiler.tasks import encode
from profilers.runtimes.onnx_runtime import open_session
from targets.errors import InputError
from tests.cli import texts
from tests.parity.test_export import CASES, SUBNETS, Exported, compare, shapes
from tests.parity.test_reload import LOAD, alone
from tests.tiny import HIDDEN, tiny_checkpoint

KEPT = (0, 2, 3, 5, 8, 9, 12, 13, 17, 20, 21, 22, 25, 28, 30, 31)
NARROW = {name: replace(subnet, residual=KEPT) for name, subnet in SUBNETS.items()} | {
    "two dimensions": replace(SUBNETS["uneven"], residual=(4, 29)),
    "of full width": SUBNETS["no last layer"],
}


@pytest.fixture(scope="module", params=CASES, ids=" ".join)
def exported(request, tmp_path_factory) -> Exported:
    """Cut from an export that ends in a map to the dense model's embeddings, where there is no head to read the stream."""
    folder = tmp_path_factory.mktemp(request.param[0])
    checkpoint = tiny_checkpoint(folder / "model", request.param[0], task=request.param[1])
    proto, twin = export_dense(checkpoint, restoring=checkpoint.model.recipe is not None)
    parameters = {name: tensor.detach().numpy() for name, tensor in twin.backbone.named_parameters()}
    template = make_template(proto, parameters, checkpoint.architecture)
    return Exported(checkpoint, template, SubnetRunner(checkpoint.model, checkpoint.architecture), folder)


def bench_of(exported: Exported, **more) -> ModelWorkbench:
    """Ranges of activations are taken on texts of the lengths that the tests ask about."""
    checkpoint = exported.checkpoint
    return ModelWorkbench(
        checkpoint,
        {"fp32": exported.template, **more},
        encode(checkpoint, [(text,) for text in texts(60)], max_tokens=40),
    )


@pytest.mark.parametrize("subnet", NARROW.values(), ids=NARROW)
def test_file_answers_what_the_slicer_answers(exported, subnet):
    path = exported.folder / f"{subnet.digest}.onnx"
    write_graph(bench_of(exported).graph(subnet, exported.runner.parameters(subnet), "fp32"), path)
    check_graph(path)
    session = open_session(path, 1)
    for inputs in shapes(exported.checkpoint).values():
        compare(session, exported.runner, subnet, inputs)


@pytest.mark.parametrize("exported", [CASES[0], CASES[-1]], indirect=True, ids=" ".join)
def test_file_equals_a_fresh_export(exported):
    subnet = NARROW["no FFN, then no attention"]
    assert compare_with_fresh_export(bench_of(exported), subnet, exported.runner.parameters(subnet)) < 1e-5


@pytest.mark.parametrize("precision", ["fp16", "int8", "int8-static"])
@pytest.mark.parametrize("exported", [CASES[0], CASES[-1]], indirect=True, ids=" ".join)
def test_narrower_precisions_answer_about_the_same(exported, precision):
    checkpoint, subnet = exported.checkpoint, NARROW["uneven"]
    whole = checkpoint.whole
    if checkpoint.model.recipe is not None:
        whole = with_restoring(whole, checkpoint.architecture)
    weights = {n: p.detach().numpy() for n, p in whole.backbone.named_parameters()}
    template = narrow_template(exported.template, precision, weights, checkpoint.architecture)
    graph = bench_of(exported, **{precision: template}).graph(subnet, exported.runner.parameters(subnet), precision)
    session, inputs = open_session(graph, 1), shapes(checkpoint)["seven texts"]
    ours = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})[-1]
    with torch.no_grad():
        theirs = exported.runner(subnet, inputs)[-1].numpy()
    assert ours.shape == theirs.shape
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > (0.999 if precision == "fp16" else 0.95)


@pytest.mark.parametrize("exported", CASES[:1], indirect=True, ids=" ".join)
def test_programs_of_a_narrowed_workbench_are_narrow(exported):
    bench = bench_of(exported).narrowed(16)
    program = bench(exported.checkpoint.architecture.shape)
    assert (bench.dimensions.hidden_size, program.dimensions.hidden_size) == (16, 16)
    graph = program.graph("fp32")
    inputs = {name: tensor.numpy() for name, tensor in shapes(exported.checkpoint)["one text"].items()}
    assert open_session(graph, 1).run(None, inputs)[0].shape[-1] == HIDDEN
    assert {array.shape[-1] for array in graph.weights.values()} <= {16, 32, 48}
    module = program.module()
    sizes = {tuple(p.shape) for n, p in module.backbone.named_parameters() if "LayerNorm" in n}
    assert sizes == {(16,)}


# --- the folder


def saved(folder, model_type, task, subnet):
    checkpoint = tiny_checkpoint(folder / "dense", model_type, task=task)
    runner = SubnetRunner(checkpoint.model, checkpoint.architecture)
    parameters = runner.parameters(subnet)
    if task == "embedding":  # places of the kept dimensions alone would not tell a lost matrix from one that is there
        last = checkpoint.architecture.restoring
        parameters[f"{last}.weight"] = torch.randn(
            parameters[f"{last}.weight"].shape, generator=torch.Generator().manual_seed(5)
        )
    save_checkpoint(folder / "cut", checkpoint, subnet, parameters)
    inputs = checkpoint.tokenizer(texts(5), padding=True, return_tensors="pt")
    with torch.no_grad():
        outputs = runner(subnet, {name: inputs[name] for name in checkpoint.input_names}, parameters)[0]
    if task == "embedding":
        outputs = outputs * inputs["attention_mask"][..., None]
    return folder / "cut", outputs.numpy()


@pytest.mark.parametrize(("model_type", "task"), CASES)
def test_transformers_loads_trains_and_saves_it_without_paretoc(tmp_path, model_type, task):
    folder, expected = saved(tmp_path, model_type, task, NARROW["no FFN, then no attention"])
    auto = "AutoModel" if task == "embedding" else "AutoModelForSequenceClassification"
    found = alone(LOAD, folder, auto, tmp_path / "trained")
    np.testing.assert_allclose(found["outputs"], expected, atol=1e-5)
    assert found["moved"] > 0
    assert found["same"]


@pytest.mark.parametrize("task", ["embedding", "classification"])
@pytest.mark.parametrize("name", ["uneven", "no last layer", "nothing"])
def test_our_own_loader_rebuilds_it(tmp_path, task, name):
    folder, expected = saved(tmp_path, "bert", task, NARROW[name])
    loaded = load_sliced(folder)
    assert loaded.architecture.shape == NARROW[name].shape
    inputs = loaded.tokenizer(texts(5), padding=True, return_tensors="pt")
    with torch.no_grad():
        found = loaded.model(**inputs)[0]
    if task == "embedding":
        found = found * inputs["attention_mask"][..., None]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_a_narrow_network_is_not_compiled_again(tmp_path):
    folder, _ = saved(tmp_path, "bert", "embedding", NARROW["uneven"])
    with pytest.raises(InputError, match=r"keeps 16 of 32 residual dimensions.*\ncompile the model it came from"):
        load_model(folder, task="embedding")


@pytest.mark.parametrize("wrong", [[0, 40], [*range(16), 32], [3, 3]])
def test_dimensions_of_another_model_are_refused(tmp_path, wrong):
    folder, _ = saved(tmp_path, "bert", "embedding", NARROW["uneven"])
    about = json.loads((folder / "subnet.json").read_text(encoding="utf-8"))
    (folder / "subnet.json").write_text(json.dumps(about | {"residual": wrong}), encoding="utf-8")
    with pytest.raises(InputError, match=r"subnet\.json"):
        load_sliced(folder)


# --- weights without training


@pytest.fixture(
    scope="module", params=[("bert", "embedding"), ("electra", "embedding"), ("distilbert", "classification")]
)
def calibrated(request, tmp_path_factory):
    checkpoint = tiny_checkpoint(tmp_path_factory.mktemp("model"), request.param[0], task=request.param[1])
    batches = encode(checkpoint, [(text,) for text in texts(120)], max_tokens=40)
    batch = one_batch(batches, checkpoint, 4000)
    return checkpoint, batch, residual_sums(checkpoint, batch, narrow=True)


def off(checkpoint, subnet, parameters, batch) -> float:
    """Squared distance of a network's output to the dense model's, as a share of that one's variance."""
    with torch.no_grad():
        ours = SubnetRunner(checkpoint.model, checkpoint.architecture)(subnet, batch, parameters)[-1]
        theirs = checkpoint.model(**batch)[-1]
    return float((ours - theirs).square().mean() / theirs.var(dim=0).mean())


def test_what_is_left_is_corrected_for_what_is_gone(calibrated):
    checkpoint, batch, sums = calibrated
    everything = Subnet.of([range(4)] * 3, [range(48)] * 3, range(24))
    sliced = SubnetRunner(checkpoint.model, checkpoint.architecture).parameters(everything)
    fitted = reconstruct(checkpoint, everything, sliced, batch, sums)
    assert {n: t.shape for n, t in fitted.items()} == {n: t.shape for n, t in sliced.items()}
    assert off(checkpoint, everything, fitted, batch) < 0.6 * off(checkpoint, everything, sliced, batch)


@pytest.mark.parametrize("calibrated", [("bert", "embedding"), ("electra", "embedding")], indirect=True)
def test_the_output_alone_can_be_fitted(calibrated):
    checkpoint, batch, sums = calibrated
    subnet = replace(SUBNETS["uneven"], residual=KEPT)
    sliced = SubnetRunner(checkpoint.model, checkpoint.architecture).parameters(subnet)
    fitted = restore_output(checkpoint, subnet, sliced, batch, sums)
    changed = {name for name in sliced if not torch.equal(sliced[name], fitted[name])}
    assert changed == {f"{checkpoint.architecture.restoring}.{kind}" for kind in ("weight", "bias")}
    assert off(checkpoint, subnet, fitted, batch) < off(checkpoint, subnet, sliced, batch)
