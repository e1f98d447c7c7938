"""Weights worth searching: the dense model, and how a sub-network gets its weights at each effort."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from compiler.costing import CostModel
from compiler.evaluation import Batches, encode
from compiler.oneshot import (
    Calibration,
    Reconstructor,
    SubBlock,
    calibrate,
    rank_sub_blocks,
    reconstruct,
    sensitivities,
)
from compiler.oneshot.reconstruction import one_batch, residual_sums
from compiler.pipeline.monitor import Monitor
from compiler.pipeline.options import Options
from compiler.pipeline.subject import Subject, as_arrays, as_tensors, detached
from compiler.slicing import slice_parameters
from compiler.spaces import Ordering, Subnet, make_space
from compiler.store import Store, key_of
from compiler.supernet import TrainingOptions, fine_tune, polish, together, train_supernet

PARAMETERS_AT_ONCE = 200_000_000
"""Polished in one job at most: each takes sixteen bytes, with its gradient and the optimiser's two moments."""

CALIBRATION_TEXTS = 1000
CALIBRATION_TOKENS = 16_000
Parameters = Mapping[str, Tensor]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """Runs training stages of one run: stored results first, working folders in the store otherwise.

    `log` has a row for about every hundredth of each training: stage, step, loss, learning rate, norm of the gradient.
    """

    subject: Subject
    store: Store
    options: Options
    monitor: Monitor
    log: list[dict[str, Any]] = field(default_factory=list)

    def training_options(self, **changes: Any) -> TrainingOptions:
        """The run's options of any training: nothing that only a super-network knows."""
        epochs = self.options.epochs
        values: dict[str, Any] = {"seed": self.options.seed}
        return TrainingOptions(**{**values, **({} if epochs is None else {"epochs": epochs}), **changes})

    def supernet_options(self) -> TrainingOptions:
        """The run's options of super-network training."""
        names = ("strategy", "sampling", "temperature", "random_subnets")
        return self.training_options(**{name: getattr(self.options, name) for name in names})

    def stage(self, name: str, about: dict[str, Any], train: Callable[[Path], Parameters]) -> dict[str, Tensor]:
        """Trained parameters, from the store where this very training was finished before; `log` gets its rows."""
        key = key_of(about)
        stored = self.store.get_arrays(name, key)
        if stored is None:
            stored = self._trained(name, key, train)
        self.log.extend({"stage": name, **row} for row in self.store.get(f"{name}-log", key) or ())
        return as_tensors(stored)

    def _trained(self, name: str, key: str, train: Callable[[Path], Parameters]) -> dict[str, Any]:
        """Train and store; the working folder, with the optimiser's state, has then served."""
        from compiler.supernet.trainer import training_log

        folder = self.store.folder(name, key)
        arrays = as_arrays(train(folder))
        self.store.put(f"{name}-log", key, training_log(folder))
        self.store.put_arrays(name, key, arrays)
        shutil.rmtree(folder, ignore_errors=True)
        return arrays

    def progress(self, fraction: float, _: str) -> None:
        """Pass a trainer's progress on."""
        self.monitor.progress(fraction)


def fine_tuned(trainer: Trainer) -> dict[str, Tensor]:
    """The dense baseline: ordinary fine-tuning on the train split."""
    subject, options = trainer.subject, trainer.training_options()
    return trainer.stage(
        "fine-tuned",
        subject.key(training=repr(options)),
        lambda folder: together(
            fine_tune,
            subject.checkpoint,
            subject.data.train.texts,
            subject.data.train.labels,
            options=options,
            max_tokens=subject.max_tokens,
            work_dir=folder,
            progress=trainer.progress,
        ),
    )


def calibration_batches(subject: Subject, seed: int) -> Batches:
    """A few texts of the train split, about sixteen thousand tokens at most."""
    texts = subject.data.train.texts
    rows = np.random.default_rng(seed).permutation(len(texts))[:CALIBRATION_TEXTS]
    chosen = [texts[row] for row in rows]
    length = encode(subject.checkpoint, chosen[:64], max_tokens=subject.max_tokens).tokens / min(64, len(chosen))
    count = max(16, int(CALIBRATION_TOKENS / length))
    return encode(subject.checkpoint, chosen[:count], max_tokens=subject.max_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """What calibration text gave: Grams, importance order, and the loss of every size."""

    batches: Batches
    calibration: Calibration
    ordering: Ordering
    blocks: Mapping[tuple[int, str], SubBlock]

    def ordered(self, order: str) -> Ordering:
        """Heads and units by "importance", or by "index" as in the paper's published code."""
        if order == "importance":
            return self.ordering
        heads, units = self.ordering.heads, self.ordering.units
        return Ordering.by_index(len(heads), len(heads[0]), len(units[0]))

    def losses(self, local: float) -> dict[tuple[int, str], Floats]:
        """What each size of each sub-block loses, as a share of what all lose together when they are gone.

        `local` is how much of it is counted where it arises; the rest at the network's output, to first order. That is
        the better guide while little is cut, and blind to what later layers make of large errors.
        """
        whole = [
            sum(float(b.losses[0]) for b in self.blocks.values()),
            sum(float(b.local[0]) for b in self.blocks.values()),
        ]
        return {
            key: (1 - local) * block.losses / whole[0] + local * block.local / whole[1]
            for key, block in self.blocks.items()
        }


def rank(subject: Subject, monitor: Monitor, seed: int) -> Ranking:
    """Calibrate on the (trained) dense model and rank heads and units."""
    batches = calibration_batches(subject, seed)
    calibration = calibrate(subject.checkpoint, batches, lambda f: monitor.progress(f / 2))
    sensitivity = sensitivities(subject.checkpoint, batches, seed=seed)
    monitor.progress(0.7)
    ordering, blocks = rank_sub_blocks(subject.checkpoint, calibration, sensitivity)
    monitor.progress(1.0)
    return Ranking(batches=batches, calibration=calibration, ordering=ordering, blocks=blocks)


class Weights:
    """Gives a sub-network its weights: cheaply while searching, as well as the effort allows when it is kept."""

    def __init__(self, trainer: Trainer, ranking: Ranking, supernet: Parameters | None) -> None:
        self.trainer, self.ranking, self.supernet = trainer, ranking, supernet
        self.subject = trainer.subject
        self.dense = detached(dict(self.subject.checkpoint.model.backbone.named_parameters()))
        self._reconstructor = Reconstructor(self.subject.checkpoint, ranking.calibration)
        self._targets: Any = None

    def searched(self, subnet: Subnet) -> dict[str, Tensor]:
        """Weights to judge a candidate with."""
        if self.supernet is not None:
            return slice_parameters(self.supernet, self.subject.checkpoint.architecture, subnet)
        return self._reconstructor.parameters(subnet)

    def corrected(self, subnet: Subnet) -> dict[str, Tensor]:
        """Weights to ship or to polish: re-solved layer after layer, unless they were trained."""
        parameters = self.searched(subnet)
        return parameters if self.supernet is not None else self._reconstructed(subnet, parameters)

    def _reconstructed(self, subnet: Subnet, parameters: Parameters) -> dict[str, Tensor]:
        checkpoint = self.subject.checkpoint
        if self._targets is None:
            batch = one_batch(self.ranking.batches, checkpoint)
            self._targets = batch, residual_sums(checkpoint, batch)
        return reconstruct(checkpoint, subnet, parameters, *self._targets)

    def polished(self, starts: Mapping[Subnet, Parameters]) -> dict[Subnet, Parameters]:
        """Weights to ship: sub-networks distilled from the dense one, as many in one job as memory allows."""
        finished: dict[Subnet, Parameters] = {}
        for job in _jobs(starts):
            finished |= self._distilled(job)
        return finished

    def _distilled(self, starts: Mapping[Subnet, Parameters]) -> dict[Subnet, Parameters]:
        subject, trainer = self.subject, self.trainer
        epochs = 0.5 * trainer.training_options().epochs
        options = trainer.training_options(epochs=epochs, dropout=0.0, temperature=2.0)
        digests = [[subnet.digest, _digest(parameters)] for subnet, parameters in starts.items()]
        about = subject.key(training=repr(options), subnets=digests, dense=_digest(self.dense))
        train = subject.data.train

        def job(folder: Path) -> Parameters:
            trained = together(
                polish,
                subject.checkpoint,
                self.dense,
                list(starts),
                list(starts.values()),
                texts=train.texts,
                labels=train.labels,
                options=options,
                max_tokens=subject.max_tokens,
                work_dir=folder,
                progress=trainer.progress,
            )
            return {f"{row}/{name}": tensor for row, own in enumerate(trained) for name, tensor in own.items()}

        stored = trainer.stage("polished", about, job)
        return {
            subnet: {name: stored[f"{row}/{name}"] for name in parameters}
            for row, (subnet, parameters) in enumerate(starts.items())
        }


def _jobs(starts: Mapping[Subnet, Parameters]) -> Iterator[dict[Subnet, Parameters]]:
    """Sub-networks in groups of so many parameters at most, one at least."""
    group: dict[Subnet, Parameters] = {}
    total = 0
    for subnet, parameters in starts.items():
        count = sum(tensor.numel() for tensor in parameters.values())
        if group and total + count > PARAMETERS_AT_ONCE:
            yield group
            group, total = {}, 0
        group[subnet] = parameters
        total += count
    if group:
        yield group


def _digest(parameters: Parameters) -> str:
    import hashlib

    digest = hashlib.sha256()
    for name, tensor in sorted(parameters.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def supernet_weights(
    trainer: Trainer, ordering: Ordering, unit_step: int, cost: CostModel, start: Parameters
) -> dict[str, Tensor]:
    """Train the super-network from the weights the run began with, its heads and units in this order."""
    subject, options = trainer.subject, trainer.supernet_options()
    space = make_space(trainer.options.space, subject.checkpoint.architecture, ordering=ordering, unit_step=unit_step)
    orders = [[int(i) for i in order] for order in (*ordering.heads, *ordering.units)]
    trained = {n: p.detach().clone() for n, p in subject.checkpoint.model.backbone.named_parameters()}
    about = subject.key(training=repr(options), space=trainer.options.space, unit_step=unit_step, order=key_of(orders))

    def train(folder: Path) -> Parameters:
        subject.set_dense(start)
        try:
            return together(
                train_supernet,
                subject.checkpoint,
                subject.data.train.texts,
                subject.data.train.labels,
                space=space,
                cost=cost.latency_s,
                options=options,
                max_tokens=subject.max_tokens,
                work_dir=folder,
                progress=trainer.progress,
            )
        finally:
            subject.set_dense(trained)

    return trainer.stage("supernet", about, train)
