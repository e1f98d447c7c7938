"""How good candidates are while searching: run as slices or as they will be served, every score kept in the store."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from compiler.evaluation import Quality, Yardstick, outdone
from compiler.execution import on_host, placed
from compiler.export import ModelWorkbench, graph_run
from compiler.families.checkpoint import digest_of
from compiler.pipeline.learned import Learned
from compiler.slicing import SubnetRunner, bf16_where_it_is, cast_once, has_bf16
from compiler.spaces import Form, Subnet
from compiler.store import Store, key_of
from compiler.tasks import Run
from targets import STATIC

AS_SERVED = ("int8", STATIC)
"""Precisions whose networks are judged as the files that ship; the others follow fp32 closely and are judged in it."""

_LOOKS = ("looked-at", "evaluated")  # where the store has qualities: at a first look, and on all examples


class Judge:
    """Gives a candidate the weights to search with, and judges it by the yardstick of the search."""

    def __init__(self, learned: Learned, bench: ModelWorkbench, store: Store) -> None:
        self.learned, self.bench, self.store = learned, bench, store
        self.about = learned.about
        checkpoint, self.device = learned.subject.checkpoint, learned.subject.compute.device
        self.runner = SubnetRunner(checkpoint.model, checkpoint.architecture)

    def run(self, subnet: Subnet, parameters: Mapping[str, Tensor], form: Form) -> Run:
        """A candidate with given weights: as the dense model's slice, a quantised one as it will be served."""
        if form.precision in AS_SERVED:
            return self.served(subnet, parameters, form)
        judged, device = self.learned.subject.task.judged, self.device
        weights = cast_once(placed(parameters, device), self.runner.architecture)
        return lambda inputs: judged(self.runner(subnet, placed(inputs, device), weights))

    def served(self, subnet: Subnet, parameters: Mapping[str, Tensor], form: Form) -> Run:
        """A network as it will be served, under ONNX Runtime on as many threads as PyTorch has here."""
        graph = self.bench.graph(subnet, on_host(parameters), *judged_in(form))
        return graph_run(graph, torch.get_num_threads(), self.learned.subject.task.judged)

    def quality(self, subnet: Subnet, form: Form, share: float = 1.0, rival: Quality | None = None) -> Quality:
        """How good a sub-network is while searching, on all examples unless a rival outdoes it before.

        From the store where it was evaluated before, for whatever target: what was judged once is never judged otherwise.
        """
        looks = self._looks(subnet, form, share)
        first = next(looks)
        short = None if rival is None else outdone(self.learned.search, first, rival)
        return next(looks) if short is None else short

    def finished(self, subnet: Subnet, form: Form, parameters: Mapping[str, Tensor]) -> dict[str, Any]:
        """Quality and decisions of a network as it will be served, by split, as JSON values.

        From the store where these very weights were scored before.
        """
        subject, splits = self.learned.subject, self.learned.splits
        beside = [sorted(subject.pairs), subject.embedding_dims]
        about = subject.key(examples=[len(split.batches) for split in splits.values()], beside=beside)
        key = key_of([about, subnet.digest, digest_of(parameters), str(judged_in(form))])
        stored: dict[str, Any] | None = self.store.get("judged", key)
        if stored is None:
            run = self.served(subnet, parameters, form)
            stored = self.store.put("judged", key, {name: _scored(split, run) for name, split in splits.items()})
        return stored

    def _looks(self, subnet: Subnet, form: Form, share: float) -> Iterator[Quality]:
        """At a first look and on all examples: stored, or computed when it is asked for."""
        key = key_of([self.about, subnet.digest, share, str(judged_in(form)), has_bf16(self.device)])
        stored = [self.store.get(kind, key) for kind in _LOOKS]
        missing = stored.index(None) if None in stored else len(stored)
        yield from map(Quality.from_json, stored[:missing])
        if missing == len(stored):
            return
        weights = self.learned.weights.searched(subnet, share)
        with bf16_where_it_is(self.device):
            run = self.run(subnet, weights, form)

        def in_bf16(inputs: Mapping[str, Tensor]) -> Tensor:
            with bf16_where_it_is(self.device):
                return run(inputs)

        for i, quality in enumerate(self.learned.search.looks(in_bf16)):
            if i >= missing:
                yield Quality.from_json(self.store.put(_LOOKS[i], key, quality.to_json()))


def _scored(split: Yardstick, run: Run) -> dict[str, Any]:
    quality, decisions = split.judged(run)
    return {"quality": quality.to_json(), "decisions": None if decisions is None else decisions.tolist()}


def judged_in(form: Form) -> Form:
    """The form that a network's quality is taken in: of those that are judged alike, all find it in the store."""
    return form if form.precision in AS_SERVED else Form("fp32")
