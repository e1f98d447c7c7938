"""What each process of the tests of data-parallel training runs: WORK_DIR, and how this rank's plans are seeded."""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers.training_args import OptimizerNames

from compiler.data import Split
from compiler.families import Checkpoint
from compiler.spaces import make_space
from compiler.supernet import strategies, training
from tests.tiny import WORDS, tiny_checkpoint

EXAMPLES, BATCH = 37, 4


def texts() -> list[tuple[str]]:
    rng = np.random.default_rng(0)
    return [(" ".join(rng.choice(WORDS, rng.integers(3, 15))),) for _ in range(EXAMPLES)]


def cost(counts):
    return (12 * counts.heads.sum(1) + counts.units.sum(1)).astype(float)


def plain_descent(run, total_steps: int, arguments=training._Run._arguments):
    """Steps as long as their gradients: Adam and clipping would hide a wrong scale, and blow up rounding near 0."""
    made = arguments(run, total_steps)
    made.optim, made.max_grad_norm = OptimizerNames.SGD, 0
    return made


def train(checkpoint: Checkpoint, folder: Path, rank: int, *, same_plans: bool) -> dict[str, torch.Tensor]:
    """Ten steps, one of them on a single example, of which one rank gets none."""
    training._Run._arguments = plain_descent
    labels = np.random.default_rng(1).integers(0, 3, EXAMPLES)
    if not same_plans:
        training.plan_step = lambda *of, seed, **named: strategies.plan_step(*of, seed=seed + rank, **named)
    return training.train_supernet(
        checkpoint, Split(texts=tuple(texts()), labels=labels), space=make_space("medium", checkpoint.architecture), cost=cost,
        options=training.TrainingOptions(
            strategy="full", epochs=1, batch_size=BATCH, learning_rate=1e-4, bf16=False, dropout=0.0
        ),
        max_tokens=32, work_dir=folder / f"work-{same_plans}", progress=lambda *_: None,
    )  # fmt: skip


def main() -> None:
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    checkpoint = tiny_checkpoint(folder / f"model-{rank}", task="classification")
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    for same_plans in (True, False):
        trained = train(checkpoint, folder, rank, same_plans=same_plans)
        save_file(trained, folder / f"{same_plans}-{rank}.safetensors")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
