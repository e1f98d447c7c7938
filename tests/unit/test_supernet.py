"""Super-network training against plain torch loops, separately computed gradients, and its own killed runs."""

import copy
import re

import numpy as np
import pytest
import torch
from torch.nn import functional

from compiler.families import Checkpoint
from compiler.slicing import SubnetRunner, has_bf16, slice_parameters
from compiler.spaces import Subnet, make_space
from compiler.supernet import (
    STRATEGIES,
    TrainingOptions,
    fine_tune,
    plan_step,
    polish,
    stratified_sampler,
    train_supernet,
    trainer,
    training,
    uniform_sampler,
)
from compiler.supernet.checkpoints import training_log
from compiler.supernet.examples import Examples, plan_batches
from compiler.supernet.losses import classification_loss, embedding_loss, regression_loss, task_loss
from compiler.supernet.words import words_only
from targets.errors import InputError
from tests.tiny import HEADS, LAYERS, UNITS, WORDS, tiny_checkpoint

MAX_TOKENS = 32
SMALL_SUBNET = Subnet.of([[0, 2], [], [1]], [[1, 5, 40], [3], []])


def cost(counts):
    return (12 * counts.heads.sum(1) + counts.units.sum(1)).astype(float)


def without_dropout(checkpoint: Checkpoint) -> Checkpoint:
    for module in checkpoint.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return checkpoint


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Checkpoint:
    return tiny_checkpoint(tmp_path_factory.mktemp("classifier"), task="classification")


@pytest.fixture(scope="module")
def steady_classifier(tmp_path_factory) -> Checkpoint:
    return without_dropout(tiny_checkpoint(tmp_path_factory.mktemp("steady"), task="classification"))


@pytest.fixture(scope="module")
def regressor(tmp_path_factory) -> Checkpoint:
    return tiny_checkpoint(tmp_path_factory.mktemp("regressor"), task="regression")


@pytest.fixture(scope="module")
def embedder(tmp_path_factory) -> Checkpoint:
    return without_dropout(tiny_checkpoint(tmp_path_factory.mktemp("embedder")))


def sentences(n: int, seed: int = 0) -> list[tuple[str]]:
    rng = np.random.default_rng(seed)
    return [(" ".join(rng.choice(WORDS, rng.integers(3, 15))),) for _ in range(n)]


TEXTS = sentences(30)
LABELS = np.random.default_rng(1).integers(0, 3, 30)


def run_supernet(
    checkpoint, folder, *, texts=TEXTS, labels=LABELS, space="medium", progress=lambda *_: None, **options
):
    options = {"batch_size": 4, "epochs": 1, "bf16": False, **options}
    return train_supernet(
        checkpoint, texts, labels, space=make_space(space, checkpoint.architecture), cost=cost,
        options=TrainingOptions(**options), max_tokens=MAX_TOKENS, work_dir=folder, progress=progress,
    )  # fmt: skip


def plan(strategy, space, *, step=3, total_steps=7, **options):
    return plan_step(strategy, space, stratified_sampler(space, cost), step=step, total_steps=total_steps, **options)


# plans


@pytest.mark.parametrize(
    ("strategy", "step", "expected"),
    [
        ("standard", 3, [("whole", "learn")]),
        ("random", 3, [("random", "learn")]),
        ("random-linear", 0, [("whole", "learn")]),
        ("random-linear", 6, [("random", "learn")]),
        ("sandwich", 3, [("whole", "learn"), ("smallest", "learn"), ("random", "learn"), ("random", "learn")]),
        ("kd", 0, [("whole", "learn")]),
        ("kd", 6, [("whole", "teach"), ("random", "distil")]),
        ("full", 3, [("whole", "learn"), ("smallest", "distil"), ("random", "distil"), ("random", "distil")]),
    ],
)
def test_each_strategy_plans_what_the_paper_says(classifier, strategy, step, expected):
    space = make_space("medium", classifier.architecture)
    smallest = space.subnet(space.smallest)

    def kind(subnet):
        return "whole" if subnet is None else "smallest" if subnet == smallest else "random"

    assert [(kind(turn.subnet), turn.role) for turn in plan(strategy, space, step=step)] == expected


def test_every_strategy_has_a_plan_that_depends_on_seed_and_step_alone(classifier):
    space = make_space("medium", classifier.architecture)
    for strategy in STRATEGIES:
        assert plan(strategy, space, step=6) == plan(strategy, space, step=6)
    for strategy in ("random", "sandwich", "full"):
        assert plan(strategy, space, step=3) != plan(strategy, space, step=4)
        assert plan(strategy, space, seed=0) != plan(strategy, space, seed=1)
        assert plan(strategy, space, total_steps=7) == plan(strategy, space, total_steps=700)


def test_an_unknown_strategy_is_refused_with_the_known_ones(classifier):
    with pytest.raises(InputError, match=r"'burger'.*sandwich"):
        plan("burger", make_space("medium", classifier.architecture))


@pytest.mark.parametrize("random_subnets", [0, 1, 5])
def test_sandwich_draws_as_many_random_subnets_as_asked(classifier, random_subnets):
    space = make_space("large", classifier.architecture)
    assert len(plan("sandwich", space, random_subnets=random_subnets)) == 2 + random_subnets


def test_random_linear_is_random_ever_more_often(classifier):
    space = make_space("small", classifier.architecture)
    random = np.array(
        [
            plan_step("random-linear", space, uniform_sampler(space), step=step, total_steps=400)[0].subnet is not None
            for step in range(400)
        ]
    )
    assert random[:100].mean() < 0.25
    assert 0.35 < random[100:300].mean() < 0.65
    assert random[300:].mean() > 0.75


def share_of_small(space, sampler) -> float:
    subnets = [plan_step("random", space, sampler, step=s, total_steps=150)[0].subnet for s in range(150)]
    units = [sum(len(layer) for layer in subnet.units) for subnet in subnets]
    return float(np.mean(np.array(units) < UNITS * LAYERS / 3))


def test_stratified_sampling_sees_small_networks_and_uniform_sampling_does_not(classifier):
    space = make_space("large", classifier.architecture)
    assert 0.2 < share_of_small(space, stratified_sampler(space, cost)) < 0.45
    assert share_of_small(space, uniform_sampler(space)) == 0


# losses


def test_distillation_has_the_gradient_of_the_papers_cross_entropy():
    torch.manual_seed(0)
    logits, teacher = torch.randn(5, 3, dtype=torch.float64, requires_grad=True), torch.randn(5, 3, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0, 1])
    for temperature in (1.0, 4.0, 10.0):
        soft = (teacher / temperature).softmax(-1)
        paper = temperature**2 * functional.cross_entropy(logits / temperature, soft)
        paper = paper + functional.cross_entropy(logits, labels)
        (expected,) = torch.autograd.grad(paper, logits)
        (ours,) = torch.autograd.grad(classification_loss(logits, labels, teacher, temperature), logits)
        torch.testing.assert_close(ours, expected)


def test_a_perfect_pupil_costs_nothing_and_the_teacher_gets_no_gradient():
    torch.manual_seed(0)
    teacher = torch.randn(4, 3, requires_grad=True)
    loss = classification_loss(teacher.detach().clone().requires_grad_(), None, teacher, 10.0)
    assert abs(loss.item()) < 1e-5
    loss.backward()
    assert teacher.grad is None
    score = torch.randn(4, 1)
    assert float(regression_loss(score, score[:, 0], score)) == 0
    assert float(regression_loss(score, score[:, 0] + 1, score + 2)) == pytest.approx(5)


def test_embedding_loss_ignores_padding_and_length_of_vectors():
    torch.manual_seed(0)
    tokens, sentence = torch.randn(2, 4, 8), torch.randn(2, 8)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    changed = tokens.clone()
    changed[1, 2:] = 99.0
    assert float(embedding_loss((changed, 3 * sentence), mask, (tokens, sentence))) == pytest.approx(0, abs=1e-6)
    changed[0, 0] += 1
    assert float(embedding_loss((changed, sentence), mask, (tokens, sentence))) == pytest.approx(1 / 6)


@pytest.mark.parametrize("task", ["classification", "regression", "embedding"])
def test_nothing_to_learn_from_is_an_error(task):
    outputs = (torch.randn(2, 3, 1), torch.randn(2, 1))
    with pytest.raises(ValueError, match=r"teacher"):
        task_loss(task, 10.0)(outputs, torch.ones(2, 3), None, None)


# examples


def test_every_epoch_sees_every_example_once_and_batches_have_similar_lengths():
    lengths = np.random.default_rng(0).integers(3, 60, 400)
    batches = plan_batches(lengths, batch_size=8, epochs=2.5, seed=3)
    assert len(batches) == 125
    for epoch in (batches[:50], batches[50:100]):
        assert sorted(np.concatenate(epoch)) == list(range(400))
    assert np.mean([np.ptp(lengths[rows]) for rows in batches]) < 5
    assert not np.array_equal(batches[0], batches[50])


def test_batches_are_what_the_tokenizer_makes_of_their_texts(classifier):
    examples = Examples(classifier, TEXTS, LABELS, max_tokens=10)
    rows = np.array([4, 0, 17])
    batch = examples.batch(rows)
    expected = classifier.tokenizer(
        [TEXTS[row][0] for row in rows], truncation=True, max_length=10, padding=True, return_tensors="pt"
    )
    assert batch.pop("labels").tolist() == LABELS[rows].tolist()
    assert {k: v.tolist() for k, v in batch.items()} == {k: v.tolist() for k, v in expected.items()}


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
def test_networks_that_know_only_the_words_there_are_say_the_same(tmp_path, family):
    checkpoint = tiny_checkpoint(tmp_path, family, task="classification")
    network = copy.deepcopy(checkpoint.model)
    everything = {name: p.detach().clone() for name, p in network.backbone.named_parameters()}
    examples = Examples(checkpoint, TEXTS[:5], LABELS[:5], max_tokens=MAX_TOKENS)
    table, rows = f"{checkpoint.architecture.word_table}.weight", np.arange(5)

    def logits():
        return network(**{name: ids for name, ids in examples.batch(rows).items() if name != "labels"})[0]

    expected = logits()
    words = examples.renumbered()
    with words_only([network], checkpoint.architecture, words):
        assert torch.equal(logits(), expected)
        part = dict(network.backbone.named_parameters())[table]
        assert part.shape[0] == len(words) < len(everything[table])
        with torch.no_grad():
            part += 1
    after = dict(network.backbone.named_parameters())
    assert list(after) == list(everything)
    everything[table][words] += 1
    assert all(torch.equal(after[name], tensor) for name, tensor in everything.items())


# gradients


def make_trainer(checkpoint, folder, strategy, *, accumulation=1, temperature=10.0, bf16=False, random_subnets=2):
    space = make_space("medium", checkpoint.architecture)
    examples = Examples(checkpoint, TEXTS, LABELS, max_tokens=MAX_TOKENS)
    options = TrainingOptions(bf16=bf16, accumulation=accumulation)
    run = training._Run(checkpoint, TEXTS, LABELS, options, MAX_TOKENS, folder, lambda *_: None)
    made = trainer.SubnetTrainer(
        model=trainer.SuperNetwork(copy.deepcopy(checkpoint.model), checkpoint.architecture),
        arguments=run._arguments(10), examples=examples, batches=[np.arange(6)],
        planner=lambda step: plan(strategy, space, step=step, random_subnets=random_subnets),
        loss=task_loss(checkpoint.task, temperature), teacher=None, progress=lambda *_: None,
    )  # fmt: skip
    made.current_gradient_accumulation_steps = accumulation
    return made


FIRST_SIX = (np.arange(6),)


def gradients(network):
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in network.named_parameters()}


def step_gradients(checkpoint, folder, strategy, *, batches=FIRST_SIX, **options):
    made = make_trainer(checkpoint, folder, strategy, accumulation=len(batches), **options)
    for rows in batches:
        made.training_step(made.model, made._own_part(rows))
    return gradients(made.model.network)


@pytest.mark.parametrize("strategy", ["sandwich", "full"])
def test_a_sandwich_steps_gradient_is_the_sum_of_separate_gradients(steady_classifier, tmp_path, strategy):
    ours = step_gradients(steady_classifier, tmp_path, strategy)
    space = make_space("medium", steady_classifier.architecture)
    batch = Examples(steady_classifier, TEXTS, LABELS, max_tokens=MAX_TOKENS).batch(np.arange(6))
    labels = batch.pop("labels")
    expected = {name: torch.zeros_like(gradient) for name, gradient in ours.items()}
    everything = Subnet.of([range(HEADS)] * LAYERS, [range(UNITS)] * LAYERS)
    with torch.no_grad():
        (teacher,) = steady_classifier.model(**batch)
    for i, subnet in enumerate([everything, *(turn.subnet for turn in plan("sandwich", space, step=0)[1:])]):
        network = copy.deepcopy(steady_classifier.model)
        (logits,) = SubnetRunner(network, steady_classifier.architecture)(subnet, batch)
        classification_loss(logits, labels, teacher if strategy == "full" and i else None, 10.0).backward()
        for name, gradient in gradients(network).items():
            expected[name] += gradient
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5, msg=name)


def test_accumulated_gradients_are_those_of_one_larger_batch(steady_classifier, tmp_path):
    whole = step_gradients(steady_classifier, tmp_path / "a", "sandwich", batches=[np.arange(6)])
    halves = step_gradients(steady_classifier, tmp_path / "b", "sandwich", batches=[np.arange(3), np.arange(3, 6)])
    for name, gradient in whole.items():
        torch.testing.assert_close(halves[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_temperature_and_number_of_random_subnets_change_the_gradient(steady_classifier, tmp_path):
    base = step_gradients(steady_classifier, tmp_path, "full")
    for options in ({"temperature": 2.0}, {"random_subnets": 1}):
        other = step_gradients(steady_classifier, tmp_path, "full", **options)
        assert any(not torch.allclose(other[name], base[name], rtol=1e-3) for name in base), options
    sandwich = step_gradients(steady_classifier, tmp_path, "sandwich")
    hotter = step_gradients(steady_classifier, tmp_path, "sandwich", temperature=2.0)
    assert all(torch.equal(sandwich[name], hotter[name]) for name in sandwich)


def test_bf16_really_computes_in_bf16_on_this_cpu(steady_classifier, tmp_path):
    if not has_bf16():
        pytest.skip("this processor has no bf16 arithmetic")
    seen = {}
    for bf16 in (False, True):
        made = make_trainer(steady_classifier, tmp_path, "full", bf16=bf16)
        for name in ("pooler.dense", "encoder.layer.0.intermediate.dense"):
            linear = made.model.network.backbone.base_model.get_submodule(name)
            linear.register_forward_hook(lambda _, __, out, bf16=bf16: seen.setdefault(bf16, set()).add(out.dtype))
        model = made.accelerator.prepare_model(made.model)
        made.training_step(model, made._own_part(np.arange(6)))
        assert {p.grad.dtype for p in made.model.parameters() if p.grad is not None} == {torch.float32}
        assert model(_inputs(made))[0].dtype == torch.float32
    assert seen == {False: {torch.float32}, True: {torch.bfloat16}}


@pytest.mark.parametrize(("bf16", "longest", "fused"), [(True, 128, False), (True, 8, True), (False, 128, True)])
def test_attention_of_short_texts_is_written_out_in_bf16(classifier, tmp_path, monkeypatch, bf16, longest, fused):
    if not has_bf16():
        pytest.skip("this processor has no bf16 arithmetic")
    calls, kernel = [], functional.scaled_dot_product_attention
    monkeypatch.setattr(functional, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or kernel(*a, **k))
    monkeypatch.setattr(training, "WRITTEN_OUT_TOKENS", longest)
    run_supernet(classifier, tmp_path, bf16=bf16)
    assert bool(calls) == fused
    assert classifier.model.backbone.config._attn_implementation == "sdpa"


def test_attention_written_out_has_the_gradient_of_the_fused_kernel(steady_classifier, tmp_path):
    flat = {}
    for bf16, written_out in ((False, False), (True, False), (True, True)):
        made = make_trainer(steady_classifier, tmp_path, "full", bf16=bf16)
        if written_out:
            training._write_attention_out(made.model)
        made.training_step(made.accelerator.prepare_model(made.model), made._own_part(np.arange(6)))
        flat[bf16, written_out] = torch.cat([g.flatten() for g in gradients(made.model.network).values()])
    exact = flat[False, False]
    fused, ours = (float((flat[True, way] - exact).norm() / exact.norm()) for way in (False, True))
    assert ours < max(1.5 * fused, 0.01)


def _inputs(made):
    return {name: tensor for name, tensor in made.examples.batch(np.arange(2)).items() if name != "labels"}


# whole runs


def test_standard_training_is_ordinary_training(steady_classifier, tmp_path):
    options = {"batch_size": 10, "epochs": 1, "strategy": "standard", "learning_rate": 1e-3, "warmup_share": 0.34}
    ours = run_supernet(steady_classifier, tmp_path / "supernet", **options)
    tuned = fine_tune(
        steady_classifier, TEXTS, LABELS, options=TrainingOptions(bf16=False, **options),
        max_tokens=MAX_TOKENS, work_dir=tmp_path / "dense", progress=lambda *_: None,
    )  # fmt: skip
    expected = _plain_loop(copy.deepcopy(steady_classifier.model).train(), steady_classifier)
    words, start = "bert.embeddings.word_embeddings.weight", dict(steady_classifier.model.backbone.named_parameters())
    read = {0, *(word for (text,) in TEXTS for word in steady_classifier.tokenizer(text)["input_ids"])}
    unread = [word for word in range(len(start[words])) if word not in read]
    assert unread
    torch.testing.assert_close(expected[words][unread], start[words][unread] * (1 - 1.5e-5))  # no more than decayed
    expected[words][unread] = start[words][unread].detach()
    for name, parameter in expected.items():
        assert torch.equal(ours[name], tuned[name]), name
        torch.testing.assert_close(ours[name], parameter, rtol=1e-5, atol=1e-6, msg=name)
    moved = [name for name, p in steady_classifier.model.backbone.named_parameters() if not torch.equal(p, ours[name])]
    assert len(moved) > 30


def _plain_loop(network, checkpoint):
    examples = Examples(checkpoint, TEXTS, LABELS, max_tokens=MAX_TOKENS)
    named = dict(network.backbone.named_parameters())
    plain = [name for name in named if name.endswith("bias") or "LayerNorm" in name]
    optimiser = torch.optim.AdamW(
        [
            {"params": [named[name] for name in named if name not in plain], "weight_decay": 0.01},
            {"params": [named[name] for name in plain], "weight_decay": 0.0},
        ],
        lr=1e-3,
        fused=True,
    )
    batches = plan_batches(examples.lengths, batch_size=10, epochs=1, seed=0)
    assert len(batches) == 3
    for rows, share in zip(batches, (0.0, 1.0, 0.5), strict=True):  # one step of warm-up, then linear to 0
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * share
        batch = examples.batch(rows)
        labels = batch.pop("labels")
        functional.cross_entropy(network(**batch)[0], labels).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    return {name: parameter.detach() for name, parameter in named.items()}


def test_the_checkpoint_and_the_global_generators_stay_as_they_are(classifier, tmp_path):
    before = copy.deepcopy(classifier.model.state_dict())
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    said = []
    trained = run_supernet(classifier, tmp_path, strategy="random", progress=lambda *what: said.append(what))
    assert torch.equal(torch.rand(3), expected)
    assert not classifier.model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.model.state_dict().items())
    assert set(trained) == {name for name, _ in classifier.model.backbone.named_parameters()}
    assert [share for share, _ in said] == pytest.approx(np.arange(1, 9) / 8)
    assert re.fullmatch(r"step 8 of 8, loss [\d.]+", said[-1][1])


def test_the_log_has_the_loss_of_every_step_of_a_short_run(classifier, tmp_path):
    said = []
    run_supernet(classifier, tmp_path, strategy="random", warmup_share=0.25, progress=lambda _, text: said.append(text))
    rows = training_log(tmp_path)
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert [f"{row['loss']:.3g}" for row in rows] == [text.rpartition(" ")[2] for text in said]
    rates = [0, 0.5, *np.linspace(1, 1 / 6, 6)]
    assert [row["learning_rate"] for row in rows] == pytest.approx([5e-5 * rate for rate in rates])


def test_a_long_run_is_logged_in_a_few_rows(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "_LOG_ROWS", 3)
    said = []
    run_supernet(classifier, tmp_path, strategy="random", progress=lambda _, text: said.append(text))
    rows, losses = training_log(tmp_path), [float(text.rpartition(" ")[2]) for text in said]
    assert [row["step"] for row in rows] == [2, 4, 6, 8]
    assert [row["loss"] for row in rows] == pytest.approx(np.reshape(losses, (4, 2)).mean(axis=1), rel=0.01)


def test_dropout_can_be_switched_off(classifier, steady_classifier, tmp_path):
    on, off, never = (
        run_supernet(checkpoint, tmp_path / name, epochs=0.5, **options)
        for name, checkpoint, options in (
            ("on", classifier, {}), ("off", classifier, {"dropout": 0.0}), ("never", steady_classifier, {})
        )
    )  # fmt: skip
    assert all(torch.equal(off[name], never[name]) for name in off)
    assert not all(torch.equal(on[name], never[name]) for name in on)


class Killed(Exception):  # noqa: N818  it stands for a signal
    pass


@pytest.mark.parametrize("options", [{"strategy": "full", "accumulation": 3}, {"strategy": "kd", "bf16": True}])
def test_a_killed_run_ends_with_the_same_bits(classifier, tmp_path, monkeypatch, options):
    options = {"epochs": 3, "learning_rate": 1e-3, "random_subnets": 1, **options}
    expected = run_supernet(classifier, tmp_path / "whole", **options)

    def kill_after(steps):
        def progress(_, text):
            step = int(text.split()[1])
            monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0 if step % 3 == 1 else 1e9)
            if step == steps:
                raise Killed

        return progress

    for steps in (4, 7):
        with pytest.raises(Killed):
            run_supernet(classifier, tmp_path / "killed", progress=kill_after(steps), **options)
    half_written = tmp_path / "killed" / "checkpoint-6"
    half_written.mkdir()
    (half_written / "trainer_state.json").write_text('{"global')
    seen = []
    ours = run_supernet(classifier, tmp_path / "killed", progress=lambda _, text: seen.append(text), **options)
    assert seen[0].startswith("step 6 of ")
    for name, tensor in expected.items():
        assert torch.equal(ours[name], tensor), name
    finished = run_supernet(
        classifier, tmp_path / "killed", progress=lambda *_: pytest.fail("trained again"), **options
    )
    assert all(torch.equal(finished[name], tensor) for name, tensor in expected.items())


def test_a_loss_that_is_not_finite_stops_at_its_step_and_keeps_the_last_good_state(regressor, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0)
    scores = np.random.default_rng(0).random(30)
    examples = Examples(regressor, TEXTS, scores, max_tokens=MAX_TOKENS)
    scores[plan_batches(examples.lengths, batch_size=4, epochs=1, seed=0)[4]] = np.nan
    with pytest.raises(InputError, match=r"step 5 of 8: the loss is nan\n.*learning rate"):
        run_supernet(regressor, tmp_path, labels=scores, strategy="sandwich")
    from safetensors.torch import load_file

    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]
    assert all(torch.isfinite(p).all() for p in load_file(tmp_path / "checkpoint-4" / "model.safetensors").values())


def test_a_gradient_that_is_not_finite_stops_too(classifier, tmp_path, monkeypatch):
    def bad(outputs, *_):
        return (outputs[0].sum() * 0).sqrt()  # 0 with an infinite slope

    monkeypatch.setattr(training, "task_loss", lambda *_: bad)
    with pytest.raises(InputError, match=r"step 1 of 8: the gradient is nan"):
        run_supernet(classifier, tmp_path, strategy="standard")


def test_no_examples_and_no_labels_are_refused(classifier, embedder, tmp_path):
    with pytest.raises(InputError, match="no examples"):
        run_supernet(classifier, tmp_path, texts=[], labels=None)
    options = {"options": TrainingOptions(), "max_tokens": 8, "work_dir": tmp_path, "progress": lambda *_: None}
    for checkpoint in (classifier, embedder):
        with pytest.raises(InputError, match="labels"):
            fine_tune(checkpoint, TEXTS, None, **options)


def toy_task(n, seed):
    """Class 0 has good words, class 1 bad ones."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    words = [["good great warm win rise quick", "bad awful cold lose fall slow"][label].split() for label in labels]
    return [(" ".join([*rng.choice(WORDS[:20], 3), *rng.choice(own, 3)]),) for own in words], labels


def test_small_networks_inside_a_super_network_learn_a_separable_task(tmp_path):
    checkpoint = tiny_checkpoint(tmp_path / "model", task="classification", labels=2)
    texts, labels = toy_task(256, seed=0)
    trained = run_supernet(
        checkpoint, tmp_path / "run", texts=texts, labels=labels, strategy="full", epochs=6, batch_size=16,
        learning_rate=3e-3,
    )  # fmt: skip
    texts, labels = toy_task(100, seed=1)
    batch = Examples(checkpoint, texts, labels, max_tokens=MAX_TOKENS).batch(np.arange(100))
    batch.pop("labels")
    runner = SubnetRunner(checkpoint.model, checkpoint.architecture)
    space = make_space("medium", checkpoint.architecture)
    for genome in (space.smallest, space.middle, space.largest):
        subnet = space.subnet(genome)
        with torch.no_grad():
            (logits,) = runner(subnet, batch, slice_parameters(trained, checkpoint.architecture, subnet))
        assert (logits.argmax(1).numpy() == labels).mean() > 0.9


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_embedding_super_network_learns_from_the_frozen_dense_model(embedder, tmp_path, strategy):
    trained = run_supernet(embedder, tmp_path, labels=None, strategy=strategy, epochs=0.5)
    assert all(torch.isfinite(tensor).all() for tensor in trained.values())
    if strategy == "standard":  # it is its own teacher: nothing to learn but weight decay
        for name, parameter in embedder.model.backbone.named_parameters():
            torch.testing.assert_close(trained[name], parameter, rtol=1e-3, atol=1e-3)


def embedding_error(checkpoint, subnet, parameters):
    batch = Examples(checkpoint, sentences(40, seed=9), None, max_tokens=MAX_TOKENS).batch(np.arange(40))
    runner = SubnetRunner(checkpoint.model, checkpoint.architecture)
    with torch.no_grad():
        return float(
            embedding_loss(runner(subnet, batch, parameters), batch["attention_mask"], checkpoint.model(**batch))
        )


def test_polish_brings_a_subnet_closer_to_its_teacher(embedder, tmp_path):
    dense = dict(embedder.model.backbone.named_parameters())
    sliced = slice_parameters(dense, embedder.architecture, SMALL_SUBNET)
    before = {name: tensor.detach().clone() for name, tensor in sliced.items()}
    options = TrainingOptions(epochs=12, learning_rate=3e-3, batch_size=8, bf16=False)
    (polished,) = polish(
        embedder, dense, [SMALL_SUBNET], [sliced], texts=sentences(120), labels=None, options=options,
        max_tokens=MAX_TOKENS, work_dir=tmp_path, progress=lambda *_: None,
    )  # fmt: skip
    assert {name: tensor.shape for name, tensor in polished.items()} == {n: t.shape for n, t in sliced.items()}
    assert all(torch.equal(sliced[name], tensor) for name, tensor in before.items())
    assert embedding_error(embedder, SMALL_SUBNET, polished) < 0.7 * embedding_error(embedder, SMALL_SUBNET, sliced)


def test_polish_takes_labels_too_and_refuses_parameters_of_another_network(classifier, tmp_path):
    dense = dict(classifier.model.backbone.named_parameters())
    sliced = slice_parameters(dense, classifier.architecture, SMALL_SUBNET)
    common = {
        "options": TrainingOptions(epochs=1, batch_size=10, bf16=False), "max_tokens": MAX_TOKENS,
        "work_dir": tmp_path / "run", "progress": lambda *_: None, "texts": TEXTS,
    }  # fmt: skip
    (with_labels,) = polish(classifier, dense, [SMALL_SUBNET], [sliced], labels=LABELS, **common)
    common["work_dir"] = tmp_path / "other"
    (without,) = polish(classifier, dense, [SMALL_SUBNET], [sliced], labels=None, **common)
    assert not torch.equal(with_labels["classifier.weight"], without["classifier.weight"])
    with pytest.raises(ValueError, match="do not fit"):
        polish(classifier, dense, [SMALL_SUBNET], [dense], labels=None, **common)


def test_polished_side_by_side_each_ends_as_if_it_were_alone(classifier, tmp_path):
    """Gradients above the clipping norm, and of different size: none may slow another."""
    dense = dict(classifier.model.backbone.named_parameters())
    space = make_space("medium", classifier.architecture, unit_step=1)
    subnets = [SMALL_SUBNET, space.subnet(space.largest)]
    sliced = [slice_parameters(dense, classifier.architecture, subnet) for subnet in subnets]
    common = {
        "options": TrainingOptions(epochs=1, batch_size=10, bf16=False, dropout=0.0, learning_rate=1e-3), "texts": TEXTS,
        "labels": LABELS, "max_tokens": MAX_TOKENS, "progress": lambda *_: None,
    }  # fmt: skip
    together = polish(classifier, dense, subnets, sliced, work_dir=tmp_path / "both", **common)
    for row, subnet in enumerate(subnets):
        (alone,) = polish(classifier, dense, [subnet], [sliced[row]], work_dir=tmp_path / str(row), **common)
        assert any(not torch.equal(alone[name], sliced[row][name]) for name in alone)
        for name, tensor in alone.items():
            torch.testing.assert_close(together[row][name], tensor, rtol=1e-5, atol=1e-6)
