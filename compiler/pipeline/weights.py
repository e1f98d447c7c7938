"""How a sub-network gets its weights: re-solved, cut from a super-network, or trained on its own."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from compiler.execution import Item, Job, Progress, Result, placed
from compiler.families.checkpoint import digest_of
from compiler.oneshot import Reconstructor, reconstruct, restore_output
from compiler.oneshot.reconstruction import RESOLVED_TOKENS, one_batch, residual_sums
from compiler.pipeline.jobs import Correct
from compiler.pipeline.monitor import part
from compiler.pipeline.ranking import Ranking, ranking_about
from compiler.pipeline.subject import as_arrays, as_tensors, detached
from compiler.pipeline.training import Parameters, Trainer, supernet_about
from compiler.search import SHARES
from compiler.slicing import slice_parameters
from compiler.spaces import Subnet
from compiler.store import key_of
from compiler.supernet import TrainingOptions, polish, together, train_alone

BYTES_AT_ONCE = 3_200_000_000
"""Of what is polished in one job, at most: sixteen a parameter, with its gradient and the optimiser's two moments, and four in
the table of words: few of them are read."""

POLISHED_EXAMPLES = 32_000
"""Seen by each network in a polish, at most, where the run was not told its epochs: minutes, however much data there are."""

NARROW_TOKENS = 4_000
"""Calibration tokens that a narrow candidate is corrected on while searching: it has to run for that."""


_MADE = 0.1  # of the time of final weights, what correcting takes where they are polished afterwards

Kept = tuple[Subnet, float]
"""A sub-network, and the share of a full training that its own weights have had."""


class Weights(ABC):
    """Gives a sub-network its weights: cheaply while searching, as well as the effort allows when it is kept.

    `share` is how much of a full training those of its own have had (`compiler.search.Method.share`); others are finished
    before the search begins.
    """

    def __init__(self, trainer: Trainer, ranking: Ranking) -> None:
        self.trainer, self.ranking = trainer, ranking
        self.subject = trainer.subject
        self.dense = detached(dict(self.subject.checkpoint.model.backbone.named_parameters()))
        self._targets: dict[int, Any] = {}
        self._making_targets = threading.Lock()
        self._polish_keys: dict[Kept, str] = {}

    @property
    @abstractmethod
    def about(self) -> str:
        """What the weights of any sub-network depend on, beside its heads, units and share."""

    @abstractmethod
    def searched(self, subnet: Subnet, share: float = 1.0) -> dict[str, Tensor]:
        """Weights to judge a candidate with."""

    def corrected(self, subnet: Subnet, share: float = 1.0) -> dict[str, Tensor]:
        """Weights to ship or to polish."""
        return self.searched(subnet, share)

    @property
    def parameters_each(self) -> int | None:
        """Weights of the largest network that is worked on; None where each takes the whole machine."""
        return sum(parameter.numel() for parameter in self.dense.values())

    @property
    def polishes(self) -> bool:
        """Whether corrected weights are distilled before they ship."""
        return self.subject.effort != "fast"

    def finish(self, kept: Sequence[Kept], progress: Progress = lambda _: None) -> None:
        """Make the weights that these networks ship with. `final` reads them back: together they may not fit into memory."""
        made = _MADE if self.polishes else 1.0
        self.of_each(
            self._make, kept, part(progress, 0.0, made),
            job=lambda one, threads: Correct(subnet=one[0], share=one[1]).job(threads),
        )  # fmt: skip
        self._targets.clear()  # a gigabyte and more of a large model
        if self.polishes:
            self._polish(kept, part(progress, made, 1 - made))

    def _make(self, kept: Kept) -> None:
        corrected = self.corrected(*kept)
        if self.polishes:
            self._polish_keys[kept] = key_of([self._polish_about, kept[0].digest, digest_of(corrected)])

    def final(self, subnet: Subnet, share: float = 1.0) -> Parameters:
        """Weights to ship, of a network that was finished."""
        if not self.polishes:
            return self.corrected(subnet, share)
        if (subnet, share) not in self._polish_keys:  # of another process
            self._make((subnet, share))
        arrays = self.trainer.store.get_arrays("polished", self._polish_keys[subnet, share])
        assert arrays is not None  # noqa: S101  `finish` put it there
        return as_tensors(arrays)

    def of_each(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        progress: Progress = lambda _: None,
        *,
        job: Callable[[Item, int], Job],
    ) -> list[Result]:
        """What `work` makes of every network, which may ask for its weights: several at once where these can be had so.

        `job` is the same work for another process.
        """
        return self.trainer.executor.each(work, items, job=job, parameters=self.parameters_each, progress=progress)

    def log(self, subnet: Subnet, share: float, name: str) -> None:  # noqa: B027  most have none
        """Put the losses of a kept network's own training, where it had one, under its name into the log of the run."""

    def _targets_on(self, tokens: int) -> Any:
        """About so many tokens as one batch, and the dense model's residual sums on them."""
        with self._making_targets:
            if tokens not in self._targets:
                checkpoint, narrow = self.subject.checkpoint, self.ranking.ordering.residual is not None
                batch = one_batch(self.ranking.batches, checkpoint, tokens)  # where the ranking's batches are
                self._targets[tokens] = batch, residual_sums(checkpoint, batch, narrow=narrow)
            return self._targets[tokens]

    def _polish(self, kept: Sequence[Kept], progress: Progress) -> None:
        """Distil sub-networks from the dense one, as many in one job as memory allows.

        They learn side by side and apart: each is stored alone, and what was polished before in other company is not
        polished again.
        """
        store, keys = self.trainer.store, self._polish_keys
        missing = [one for one in kept if store.get_arrays("polished", keys[one]) is None]
        done = 0
        for job in self._jobs(missing):
            told = part(progress, done / len(missing), len(job) / len(missing))
            done += len(job)
            job_key = key_of([keys[one] for one in job])
            with self.trainer.working("polished", job_key) as folder:
                if all(store.get_arrays("polished", keys[one]) is not None for one in job):  # by another run meanwhile
                    continue
                starts = {subnet: start for (subnet, _), start in job.items()}
                for one, trained in zip(job, self._distilled(starts, folder, told), strict=True):
                    store.put_arrays("polished", keys[one], as_arrays(trained))
                    store.put("polished-job", keys[one], job_key)
        for job_key in dict.fromkeys(store.get("polished-job", keys[one]) for one in kept):
            self.trainer.recall("polished", job_key or "", "polished")

    def _jobs(self, kept: Sequence[Kept]) -> Iterator[dict[Kept, Parameters]]:
        """Corrected sub-networks in groups of so many bytes at most, one at least."""
        words = None if self.subject.task.word_outputs else f"{self.subject.checkpoint.architecture.word_table}.weight"
        group: dict[Kept, Parameters] = {}
        total = 0
        for one in kept:
            start = self.corrected(*one)
            held = sum(tensor.numel() * (4 if name == words else 16) for name, tensor in start.items())
            if group and total + held > BYTES_AT_ONCE:
                yield group
                group, total = {}, 0
            group[one] = start
            total += held
        if group:
            yield group

    def _polish_options(self) -> TrainingOptions:
        task, train = self.subject.task, self.subject.data.train
        epochs = task.polish_share * self.trainer.training_options().epochs
        if self.trainer.options.epochs is None:
            most = task.at_most(POLISHED_EXAMPLES, max_tokens=self.subject.max_tokens)
            epochs = min(epochs, most / len(task.examples(train)))
        return self.trainer.training_options(
            epochs=epochs, learning_rate=task.polish_rate, dropout=0.0, temperature=2.0
        )

    @cached_property
    def _polish_about(self) -> Any:
        return self.subject.key(training=repr(self._polish_options()), dense=digest_of(self.dense))

    def _distilled(
        self, starts: Mapping[Subnet, Parameters], folder: Path, progress: Progress
    ) -> list[dict[str, Tensor]]:
        """One job, from its last checkpoint where it was killed."""
        subject = self.subject
        return together(
            polish,
            subject.checkpoint,
            self.dense,
            list(starts),
            list(starts.values()),
            split=subject.data.train,
            options=self._polish_options(),
            max_tokens=subject.max_tokens,
            work_dir=folder,
            progress=lambda fraction, _: progress(fraction),
        )


class Resolved(Weights):
    """The dense network's, output projections re-solved for what is left; layer after layer where a network is kept."""

    def __init__(self, trainer: Trainer, ranking: Ranking) -> None:
        super().__init__(trainer, ranking)
        self._reconstructor = Reconstructor(self.subject.checkpoint, ranking.calibration)

    @property
    def about(self) -> str:
        """The ranking's calibration text, and the dense network."""
        return key_of(["re-solved", ranking_about(self.trainer)])

    def searched(self, subnet: Subnet, share: float = 1.0) -> dict[str, Tensor]:  # noqa: ARG002  nothing is trained
        """Each sub-block re-solved alone; a narrow network layer after layer, on a few tokens: it has to run for that."""
        if subnet.residual is None:
            return self._reconstructor.parameters(subnet)
        sliced = slice_parameters(self.dense, self.subject.checkpoint.architecture, subnet)
        return self._reconstructed(subnet, sliced, NARROW_TOKENS)

    def corrected(self, subnet: Subnet, share: float = 1.0) -> dict[str, Tensor]:
        """On the network's own activations, from the store where that was done before."""
        about = {"weights": self.about, "subnet": subnet.digest}
        return self.trainer.stored("final", about, lambda: self._corrected(subnet, share))

    def _corrected(self, subnet: Subnet, share: float) -> dict[str, Tensor]:
        return self._reconstructed(subnet, self.searched(subnet, share), RESOLVED_TOKENS)

    def _reconstructed(self, subnet: Subnet, parameters: Parameters, tokens: int) -> dict[str, Tensor]:
        return reconstruct(self.subject.checkpoint, subnet, parameters, *self._targets_on(tokens))


class Shared(Weights):
    """Cut from a trained super-network."""

    def __init__(self, trainer: Trainer, ranking: Ranking, supernet: Parameters) -> None:
        super().__init__(trainer, ranking)
        self.supernet = placed(supernet, self.subject.compute.device)

    @property
    def about(self) -> str:
        """The super-network."""
        return key_of(["super-network", supernet_about(self.trainer, self.ranking.ordered(self.trainer.options.order))])

    def searched(self, subnet: Subnet, share: float = 1.0) -> dict[str, Tensor]:  # noqa: ARG002  it was trained with all others
        """A slice; a narrow one with its output fitted to the dense model's embeddings."""
        checkpoint = self.subject.checkpoint
        sliced = slice_parameters(self.supernet, checkpoint.architecture, subnet)
        if subnet.residual is None or checkpoint.architecture.restoring is None:
            return sliced
        return restore_output(checkpoint, subnet, sliced, *self._targets_on(NARROW_TOKENS))


class Apart(Weights):
    """Trained on the labels, each sub-network on its own: standard NAS in arXiv 2405.02267.

    It starts from a slice of the weights the run began with. Each rung is a training with a schedule of its own, from the
    weights that the rung below ended with: every network is judged annealed and could ship as it is, and weights are all
    that has to be kept of the many that are trained.
    """

    def __init__(self, trainer: Trainer, ranking: Ranking, start: Parameters) -> None:
        super().__init__(trainer, ranking)
        self.start = start

    @property
    def about(self) -> str:
        """How a full training goes."""
        return key_of(["apart", self.trainer.subject.key(training=repr(self.trainer.training_options()), rungs=SHARES)])

    def searched(self, subnet: Subnet, share: float = 1.0) -> dict[str, Tensor]:
        """As the rung of this share left them; rungs below it are trained where they are not in the store."""
        about = self._rung_about(subnet, share)
        with self.trainer.working("apart", key_of(about)) as folder:
            return self.trainer.stored("apart", about, lambda: self._trained(subnet, share, folder))

    @property
    def parameters_each(self) -> None:
        """Each is a training, which takes the whole machine."""

    @property
    def polishes(self) -> bool:
        """They ship as they were trained."""
        return False

    def log(self, subnet: Subnet, share: float, name: str) -> None:
        """Rung after rung."""
        for rung in (rung for rung in SHARES if rung <= share):
            key = key_of(self._rung_about(subnet, rung))
            self.trainer.recall("apart", key, f"{name} to {self._epochs * rung:.3g} epochs")

    @property
    def _epochs(self) -> float:
        return self.trainer.training_options().epochs

    def _rung_about(self, subnet: Subnet, share: float) -> dict[str, Any]:
        return {"weights": self.about, "subnet": subnet.digest, "share": share}

    def _cut(self, subnet: Subnet) -> dict[str, Tensor]:
        return slice_parameters(self.start, self.subject.checkpoint.architecture, subnet)

    def _trained(self, subnet: Subnet, share: float, folder: Path) -> dict[str, Tensor]:
        """One rung, from its last checkpoint where it was killed."""
        subject, rung = self.subject, SHARES.index(share)
        below = SHARES[rung - 1] if rung else 0.0
        start = self.searched(subnet, below) if rung else self._cut(subnet)
        seed = self.trainer.options.seed * len(SHARES) + rung  # no rung sees the examples in another's order
        return together(
            train_alone,
            subject.checkpoint,
            subnet,
            start,
            split=subject.data.train,
            options=self.trainer.training_options(epochs=self._epochs * (share - below), seed=seed),
            max_tokens=subject.max_tokens,
            work_dir=folder,
            progress=lambda *_: None,
        )
