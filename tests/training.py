"""What tests of training train: a few sentences, their labels, and short ways to say the rest."""

import numpy as np

from compiler.data import Split
from compiler.spaces import Subnet, make_space
from compiler.supernet import TrainingOptions, plan_step, stratified_sampler, train_supernet
from tests.tiny import WORDS

MAX_TOKENS = 32
SMALL_SUBNET = Subnet.of([[0, 2], [], [1]], [[1, 5, 40], [3], []])


def cost(counts):
    return (12 * counts.heads.sum(1) + counts.units.sum(1)).astype(float)


def sentences(n: int, seed: int = 0) -> list[tuple[str]]:
    rng = np.random.default_rng(seed)
    return [(" ".join(rng.choice(WORDS, rng.integers(3, 15))),) for _ in range(n)]


TEXTS = sentences(30)
LABELS = np.random.default_rng(1).integers(0, 3, 30)


def split(texts, labels=None) -> Split:
    return Split(texts=tuple(texts), labels=None if labels is None else np.asarray(labels))


def run_supernet(
    checkpoint, folder, *, texts=TEXTS, labels=LABELS, space="medium", progress=lambda *_: None, **options
):
    options = {"batch_size": 4, "epochs": 1, "bf16": False, **options}
    return train_supernet(
        checkpoint, split(texts, labels), space=make_space(space, checkpoint.architecture), cost=cost,
        options=TrainingOptions(**options), max_tokens=MAX_TOKENS, work_dir=folder, progress=progress,
    )  # fmt: skip


def plan(strategy, space, *, step=3, total_steps=7, **options):
    return plan_step(strategy, space, stratified_sampler(space, cost), step=step, total_steps=total_steps, **options)
