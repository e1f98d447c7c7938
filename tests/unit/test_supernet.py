"""Super-network training as a whole: against plain torch loops, and its own killed runs."""

import copy
import re

import numpy as np
import pytest
import torch
from torch.nn import functional

from compiler.slicing import SubnetRunner, slice_parameters
from compiler.spaces import make_space
from compiler.supernet import STRATEGIES, TrainingOptions, fine_tune, trainer
from compiler.supernet.checkpoints import training_log
from compiler.supernet.examples import Examples, plan_batches
from compiler.supernet.words import words_only
from targets.errors import InputError
from tests.tiny import WORDS, tiny_checkpoint
from tests.training import LABELS, MAX_TOKENS, TEXTS, run_supernet, split


def test_every_epoch_sees_every_example_once_and_batches_have_similar_lengths():
    lengths = np.random.default_rng(0).integers(3, 60, 400)
    batches = plan_batches(lengths, batch_size=8, epochs=2.5, seed=3)
    assert len(batches) == 125
    for epoch in (batches[:50], batches[50:100]):
        assert sorted(np.concatenate([batch.rows for batch in epoch])) == list(range(400))
    assert [batch.epoch for batch in batches] == [0] * 50 + [1] * 50 + [2] * 25
    assert np.mean([np.ptp(lengths[batch.rows]) for batch in batches]) < 5
    assert not np.array_equal(batches[0].rows, batches[50].rows)


def test_batches_are_what_the_tokenizer_makes_of_their_texts(classifier):
    examples = Examples(classifier, split(TEXTS, LABELS), max_tokens=10)
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
    examples = Examples(checkpoint, split(TEXTS[:5], LABELS[:5]), max_tokens=MAX_TOKENS)
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


def test_standard_training_is_ordinary_training(steady_classifier, tmp_path):
    options = {"batch_size": 10, "epochs": 1, "strategy": "standard", "learning_rate": 1e-3, "warmup_share": 0.34}
    ours = run_supernet(steady_classifier, tmp_path / "supernet", **options)
    tuned = fine_tune(
        steady_classifier, split(TEXTS, LABELS), options=TrainingOptions(bf16=False, **options),
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
    examples = Examples(checkpoint, split(TEXTS, LABELS), max_tokens=MAX_TOKENS)
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
    for (rows, _), share in zip(batches, (0.0, 1.0, 0.5), strict=True):  # one step of warm-up, then linear to 0
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


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    """A masked language model: every epoch hides other words."""
    return tiny_checkpoint(tmp_path_factory.mktemp("masked"), task="masked_lm")


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("classifier", {"strategy": "full", "accumulation": 3}),
        ("classifier", {"strategy": "kd", "bf16": True}),
        ("masked", {"strategy": "full", "labels": None}),
    ],
)
def test_a_killed_run_ends_with_the_same_bits(model, request, tmp_path, monkeypatch, options):
    classifier = request.getfixturevalue(model)
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
    examples = Examples(regressor, split(TEXTS, scores), max_tokens=MAX_TOKENS)
    scores[plan_batches(examples.lengths, batch_size=4, epochs=1, seed=0)[4].rows] = np.nan
    with pytest.raises(InputError, match=r"step 5 of 8: the loss is nan\n.*learning rate"):
        run_supernet(regressor, tmp_path, labels=scores, strategy="sandwich")
    from safetensors.torch import load_file

    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]
    assert all(torch.isfinite(p).all() for p in load_file(tmp_path / "checkpoint-4" / "model.safetensors").values())


def test_a_gradient_that_is_not_finite_stops_too(classifier, tmp_path, monkeypatch):
    def bad(_, outputs, *__, **___):
        return (outputs[0].sum() * 0).sqrt()  # 0 with an infinite slope

    monkeypatch.setattr(type(classifier.task), "loss", bad)
    with pytest.raises(InputError, match=r"step 1 of 8: the gradient is nan"):
        run_supernet(classifier, tmp_path, strategy="standard")


def test_no_examples_and_no_labels_are_refused(classifier, embedder, tmp_path):
    with pytest.raises(InputError, match="no examples"):
        run_supernet(classifier, tmp_path, texts=[], labels=None)
    options = {"options": TrainingOptions(), "max_tokens": 8, "work_dir": tmp_path, "progress": lambda *_: None}
    for checkpoint in (classifier, embedder):
        with pytest.raises(InputError, match="labels"):
            fine_tune(checkpoint, split(TEXTS, None), **options)


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
    batch = Examples(checkpoint, split(texts, labels), max_tokens=MAX_TOKENS).batch(np.arange(100))
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
