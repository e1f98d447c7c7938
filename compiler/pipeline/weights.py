"""How a sub-network gets its weights at each effort."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from compiler.families.checkpoint import digest_of
from compiler.oneshot import Reconstructor, reconstruct, restore_output
from compiler.oneshot.reconstruction import RESOLVED_TOKENS, one_batch, residual_sums
from compiler.pipeline.ranking import Ranking, ranking_about
from compiler.pipeline.subject import as_arrays, as_tensors, detached
from compiler.pipeline.training import Parameters, Trainer, supernet_about
from compiler.slicing import slice_parameters
from compiler.spaces import Subnet
from compiler.store import key_of
from compiler.supernet import TrainingOptions, polish, together

PARAMETERS_AT_ONCE = 200_000_000
"""Polished in one job at most: each takes sixteen bytes, with its gradient and the optimiser's two moments."""

NARROW_TOKENS = 4_000
"""Calibration tokens that a narrow candidate is corrected on while searching: it has to run for that."""


class Weights:
    """Gives a sub-network its weights: cheaply while searching, as well as the effort allows when it is kept."""

    def __init__(self, trainer: Trainer, ranking: Ranking, supernet: Parameters | None) -> None:
        self.trainer, self.ranking, self.supernet = trainer, ranking, supernet
        self.subject = trainer.subject
        self.dense = detached(dict(self.subject.checkpoint.model.backbone.named_parameters()))
        self._reconstructor = Reconstructor(self.subject.checkpoint, ranking.calibration)
        self._targets: dict[int, Any] = {}

    @property
    def about(self) -> str:
        """What the weights of any sub-network depend on."""
        if self.supernet is None:
            return key_of(["re-solved", ranking_about(self.trainer)])
        return key_of(["super-network", supernet_about(self.trainer, self.ranking.ordered(self.trainer.options.order))])

    def searched(self, subnet: Subnet) -> dict[str, Tensor]:
        """Weights to judge a candidate with."""
        if self.supernet is not None:
            sliced = slice_parameters(self.supernet, self.subject.checkpoint.architecture, subnet)
            return self._restored(subnet, sliced)
        if subnet.residual is not None:
            sliced = slice_parameters(self.dense, self.subject.checkpoint.architecture, subnet)
            return self._reconstructed(subnet, sliced, NARROW_TOKENS)
        return self._reconstructor.parameters(subnet)

    def _restored(self, subnet: Subnet, parameters: Parameters) -> dict[str, Tensor]:
        """Those of a narrow network with its output fitted to the dense model's embeddings; all others as they are."""
        checkpoint = self.subject.checkpoint
        if subnet.residual is None or checkpoint.architecture.restoring is None:
            return dict(parameters)
        return restore_output(checkpoint, subnet, parameters, *self._targets_on(NARROW_TOKENS))

    def corrected(self, subnet: Subnet) -> dict[str, Tensor]:
        """Weights to ship or to polish: re-solved layer after layer, unless they were trained."""
        parameters = self.searched(subnet)
        return parameters if self.supernet is not None else self._reconstructed(subnet, parameters, RESOLVED_TOKENS)

    def _reconstructed(self, subnet: Subnet, parameters: Parameters, tokens: int) -> dict[str, Tensor]:
        return reconstruct(self.subject.checkpoint, subnet, parameters, *self._targets_on(tokens))

    def _targets_on(self, tokens: int) -> Any:
        """About so many tokens as one batch, and the dense model's residual sums on them."""
        if tokens not in self._targets:
            checkpoint, narrow = self.subject.checkpoint, self.ranking.ordering.residual is not None
            batch = one_batch(self.ranking.batches, checkpoint, tokens)
            self._targets[tokens] = batch, residual_sums(checkpoint, batch, narrow=narrow)
        return self._targets[tokens]

    def polished(self, starts: Mapping[Subnet, Parameters]) -> dict[Subnet, Parameters]:
        """Weights to ship: sub-networks distilled from the dense one, as many in one job as memory allows.

        They learn side by side and apart: each is stored alone, and what was polished before in other company is not
        polished again.
        """
        store, keys = self.trainer.store, self._polish_keys(starts)
        stored = {subnet: store.get_arrays("polished", key) for subnet, key in keys.items()}
        finished: dict[Subnet, Parameters] = {
            s: as_tensors(arrays) for s, arrays in stored.items() if arrays is not None
        }
        for job in _jobs({subnet: start for subnet, start in starts.items() if subnet not in finished}):
            with self.trainer.logged("polished", key_of([keys[subnet] for subnet in job])) as folder:
                for subnet, trained in zip(job, self._distilled(job, folder), strict=True):
                    store.put_arrays("polished", keys[subnet], as_arrays(trained))
                    finished[subnet] = trained
        return finished

    def _polish_options(self) -> TrainingOptions:
        epochs = 0.5 * self.trainer.training_options().epochs
        return self.trainer.training_options(epochs=epochs, dropout=0.0, temperature=2.0)

    def _polish_keys(self, starts: Mapping[Subnet, Parameters]) -> dict[Subnet, str]:
        about = self.subject.key(training=repr(self._polish_options()), dense=digest_of(self.dense))
        return {subnet: key_of([about, subnet.digest, digest_of(start)]) for subnet, start in starts.items()}

    def _distilled(self, starts: Mapping[Subnet, Parameters], folder: Path) -> list[dict[str, Tensor]]:
        """One job, from its last checkpoint where it was killed."""
        subject, train = self.subject, self.subject.data.train
        return together(
            polish,
            subject.checkpoint,
            self.dense,
            list(starts),
            list(starts.values()),
            texts=train.texts,
            labels=train.labels,
            options=self._polish_options(),
            max_tokens=subject.max_tokens,
            work_dir=folder,
            progress=self.trainer.progress,
        )


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
