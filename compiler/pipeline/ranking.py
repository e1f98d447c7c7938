"""Which heads and units matter, by one look at calibration text; stored, since nothing of it depends on a device."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compiler.execution import placed
from compiler.families import PIECES, Architecture
from compiler.oneshot import (
    Calibration,
    SubBlock,
    calibrate,
    ordering_of,
    rank_sub_blocks,
    residual_order,
    sensitivities,
)
from compiler.oneshot.calibration import Gram
from compiler.oneshot.reconstruction import one_batch, residual_sums
from compiler.oneshot.sensitivity import SENSITIVITY_TOKENS
from compiler.pipeline.calibration_texts import CALIBRATION_TEXTS, CALIBRATION_TOKENS, calibration_count
from compiler.pipeline.subject import Subject
from compiler.pipeline.training import Trainer
from compiler.spaces import Ordering
from compiler.spaces.subnet import IntArray
from compiler.tasks import Batches

Floats = NDArray[np.float64]
_RANKED = ("order", "losses", "local", "slots")
Key = tuple[int, str]
"""A sub-block: its layer, and "attention" or "ffn"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """What calibration text gave: Grams, importance order, and the loss of every size."""

    batches: Batches
    calibration: Calibration
    ordering: Ordering
    blocks: Mapping[Key, SubBlock]

    def ordered(self, order: str) -> Ordering:
        """Heads and units by "importance", or by "index" as in the paper's published code."""
        if order == "importance":
            return self.ordering
        heads, units, queries = self.ordering.heads, self.ordering.units, self.ordering.queries
        if queries is not None:
            queries = replace(queries, slots=tuple(np.sort(slots, axis=1) for slots in queries.slots))
        return Ordering(heads=tuple(map(np.sort, heads)), units=tuple(map(np.sort, units)), queries=queries)

    def losses(self, local: float) -> dict[Key, Floats]:
        """What each size of each sub-block loses, as a share of what all lose together when they are gone.

        `local` is how much of it is counted where it arises; the rest at the network's output, to first order. That is
        the better guide while little is cut, and blind to what later layers make of large errors.
        """
        whole = [
            sum(float(b.losses[0]) for b in self.blocks.values()),
            sum(float(b.local[0]) for b in self.blocks.values()),
        ]

        def shared(block: SubBlock) -> Floats:
            """Both kinds; of one that does not count at all nothing is taken, since sizes that are not there lose infinitely much."""
            parts = zip((1 - local, local), (block.losses, block.local), whole, strict=True)
            counted = [weight * values / total for weight, values, total in parts if weight]
            return counted[0] if len(counted) == 1 else counted[0] + counted[1]

        return {key: shared(block) for key, block in self.blocks.items()}


def calibration_batches(subject: Subject, seed: int) -> Batches:
    """A few texts of the train split, about sixteen thousand tokens at most."""
    train = subject.data.train
    chosen = train.take(np.random.default_rng(seed).permutation(len(train))[:CALIBRATION_TEXTS])
    count = calibration_count(subject.checkpoint, chosen.texts, subject.max_tokens)
    return subject.task.encode(
        subject.checkpoint, chosen.take(np.arange(min(count, len(chosen)))), max_tokens=subject.max_tokens
    )


def ranking_about(trainer: Trainer) -> dict[str, Any]:
    """What a ranking depends on."""
    return trainer.subject.key(
        texts=CALIBRATION_TEXTS, tokens=CALIBRATION_TOKENS, seed=trainer.options.seed, dense=trainer.dense_about
    )


def rank(trainer: Trainer) -> Ranking:
    """Calibrate on the (trained) dense model and rank heads and units; read from the store where that was done before."""
    subject, seed, monitor = trainer.subject, trainer.options.seed, trainer.monitor
    device = subject.compute.device
    batches = calibration_batches(subject, seed).on(device)

    def ranked() -> dict[str, Tensor]:
        calibration = calibrate(subject.checkpoint, batches, lambda f: monitor.progress(f / 2))
        sensitivity = sensitivities(subject.checkpoint, batches, seed=seed)
        monitor.progress(0.7)
        _, blocks = rank_sub_blocks(subject.checkpoint, calibration, sensitivity)
        return _packed(calibration, blocks)

    packed = trainer.stored("ranking", ranking_about(trainer), ranked)
    ranking = _unpacked(placed(packed, device), batches, subject.checkpoint.architecture)
    if trainer.options.space != "width":
        return ranking
    return replace(ranking, ordering=replace(ranking.ordering, residual=_residual_order(trainer, batches)))


def _residual_order(trainer: Trainer, batches: Batches) -> IntArray:
    """Residual dimensions, the most important first; from the store where they were ordered before."""
    checkpoint, seed = trainer.subject.checkpoint, trainer.options.seed

    def ordered() -> dict[str, Tensor]:
        sums = residual_sums(checkpoint, one_batch(batches, checkpoint, SENSITIVITY_TOKENS))
        order = residual_order(sums, sensitivities(checkpoint, batches, seed=seed))
        return {"order": torch.from_numpy(order)}

    return trainer.stored("residual-order", {**ranking_about(trainer), "of": "dimensions"}, ordered)["order"].numpy()


def _packed(calibration: Calibration, blocks: Mapping[Key, SubBlock]) -> dict[str, Tensor]:
    """Everything by name. Grams in single precision: they are damped by far more when they are solved."""
    packed: dict[str, Tensor] = {}
    for (layer, piece), block in blocks.items():
        name = f"{layer}/{piece}"
        parts = {part: getattr(block, part) for part in _RANKED}
        packed |= {f"{name}/{part}": torch.from_numpy(array) for part, array in parts.items() if array is not None}
    for (layer, piece), gram in calibration.grams.items():
        name = f"{layer}/{piece}"
        packed[f"{name}/gram"] = gram.matrix.float()
        packed[f"{name}/variance"] = torch.tensor(gram.variance, dtype=torch.float64)
    return packed


def _unpacked(packed: Mapping[str, Tensor], batches: Batches, architecture: Architecture) -> Ranking:
    names: dict[Key, str] = {
        (layer, piece): f"{layer}/{piece}" for layer in range(architecture.layers) for piece in PIECES
    }
    grams = {
        key: Gram(matrix=packed[f"{name}/gram"], variance=float(packed[f"{name}/variance"]))
        for key, name in names.items()
        if f"{name}/gram" in packed
    }
    blocks = {
        key: SubBlock(**{p: packed[f"{name}/{p}"].cpu().numpy() for p in _RANKED if f"{name}/{p}" in packed})
        for key, name in names.items()
    }
    return Ranking(
        batches=batches,
        calibration=Calibration(grams=grams, tokens=batches.tokens),
        ordering=ordering_of(blocks, architecture),
        blocks=blocks,
    )
