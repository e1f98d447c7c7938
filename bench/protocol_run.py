"""One task and seed of the protocol: the dense network once, a super-network a cell, then one search after another."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from paired import Array, loss
from protocol_plan import Cell, Run, Search

from compiler.costing import CostModel, Costs
from compiler.evaluation import Quality
from compiler.export import ModelWorkbench
from compiler.pipeline import Monitor, Options
from compiler.pipeline.choice import choose
from compiler.pipeline.learned import Learned
from compiler.pipeline.networks import Evaluated
from compiler.pipeline.pricing import Pricing
from compiler.pipeline.ranking import rank
from compiler.pipeline.search_loop import SearchLoop, dense_subnet
from compiler.pipeline.subject import detached, load_subject
from compiler.pipeline.training import Parameters, Trainer, fine_tuned, supernet_weights
from compiler.pipeline.weights import Resolved, Shared, Weights
from compiler.spaces import Counts, Form, Space, make_space
from compiler.store import DiskStore, Store

TEST_EXAMPLES = 2000
"""Of the test set, at most, always the same ones; only QNLI's is larger."""

POLISHED = 8
HALF = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A network that a search kept, with the weights it ends with: its metrics, and its outputs on the test examples."""

    found: Evaluated
    validation: Quality
    test: Quality
    outputs: Array


class Bench:
    """The dense network of one task and seed, and everything that its cells share."""

    def __init__(self, options: Options, cost: CostModel, store: DiskStore, monitor: Monitor) -> None:
        self.options, self.cost, self.store, self.monitor = options, cost, store, monitor
        self.subject = load_subject(options)
        backbone = self.subject.checkpoint.model.backbone
        self.start = {name: p.clone() for name, p in detached(dict(backbone.named_parameters())).items()}
        monitor.stage("fine-tune dense model")
        self.subject.set_dense(fine_tuned(self._trainer(options, store)))
        self.dense = {name: p.clone() for name, p in detached(dict(backbone.named_parameters())).items()}
        monitor.stage("rank heads and units")
        self.ranking = rank(self._trainer(options, store))
        self.validation = self.subject.yardstick(self.subject.search_split())
        self.test = self.subject.yardstick(self.subject.data.test.some(TEST_EXAMPLES))
        self.dense_outputs = self.subject.dense_outputs(self.test.batches)
        on_validation = self.subject.dense_outputs(self.validation.batches)
        self.dense_quality = self.validation.score(on_validation), self.test.score(self.dense_outputs)

    def _trainer(self, options: Options, store: Store) -> Trainer:
        return Trainer(subject=self.subject, store=store, options=options, monitor=self.monitor)

    def record(self, run: Run) -> dict[str, Any]:
        """Everything that one search found, and how long its parts took."""
        cell, search = run.cell, run.search
        options = replace(
            self.options, space=cell.space, strategy=cell.strategy, sampling=cell.sampling, order=cell.order,
            search=search.method, objectives=(search.objective,),
        )  # fmt: skip
        times, scratch = [time.monotonic()], self.store.root / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        with self._loop(cell, options, scratch) as loop:
            times.append(time.monotonic())
            self.monitor.stage(f"search {search}")
            front = loop.search(options, {}, self.monitor, seeded=search.seeded)
            times.append(time.monotonic())
            self.monitor.stage("test")
            members = self._members(loop, front, search)
            picks = {objective: self._pick(members, loop, objective) for objective in ("params", "latency")}
            times.append(time.monotonic())
        return {
            **self._facts(loop),
            "evaluated": _columns(loop, list(loop.found.values())),
            "kept": {
                **_columns(loop, [m.found for m in members]),
                "final_error": [m.validation.error for m in members],
                "test_error": [m.test.error for m in members],
                "test_others": [dict(m.test.others) for m in members],
                "shape": [[list(sizes) for sizes in m.found.subnet.shape] for m in members],
            },
            "half": picks,
            "seconds": dict(zip(("train", "search", "test"), np.diff(times).round(1).tolist(), strict=True)),
        }

    def _facts(self, loop: SearchLoop) -> dict[str, Any]:
        validation, test = self.dense_quality
        dense = loop.pricing.evaluated("dense", dense_subnet(loop.shapes), Form("fp32"), validation)
        return {
            "metric": self.subject.metric.name,
            "latency_source": str(self.cost.estimate(dense.subnet.shape).source),
            "dense": {"latency_s": dense.latency_s, "params": dense.parameters, "error": validation.error,
                      "test_error": test.error, "test_others": dict(test.others)},
            "constant_test_error": self._constant_error(),
            "examples": {"train": len(self.subject.data.train), "validation": len(self.validation.batches),
                         "test": len(self.test.batches)},
        }  # fmt: skip

    def _constant_error(self) -> float:
        """Of always giving the class most frequent in training, or one score: the reference of a gain."""
        labels, width = self.subject.data.train.labels, self.dense_outputs.shape[1]
        assert labels is not None  # noqa: S101  every task here has them
        constant = np.zeros_like(self.dense_outputs)
        if width > 1:
            constant[:, np.bincount(labels).argmax()] = 1
        return self.test.score(constant).error

    @contextmanager
    def _loop(self, cell: Cell, options: Options, scratch: Path) -> Iterator[SearchLoop]:
        """A search of the cell's super-network; what only this search can use goes to the empty scratch folder."""
        subject, ordering = self.subject, self.ranking.ordered(cell.order)
        self.monitor.stage(f"train {cell}")
        trained = supernet_weights(self._trainer(options, self.store), ordering, self.start)
        space = make_space(cell.space, subject.checkpoint.architecture, ordering=ordering, unit_step=cell.unit_step)
        trainer = self._trainer(options, DiskStore(scratch))
        if cell.start == "plain":
            yield self._new_loop(cell, space, Shared(trainer, self.ranking, trained))
            return
        try:
            subject.set_dense(trained)
            yield self._new_loop(cell, space, Resolved(trainer, rank(trainer)))
        finally:
            subject.set_dense(self.dense)

    def _new_loop(self, cell: Cell, space: Space, weights: Weights) -> SearchLoop:
        subject = self.subject
        costs = {"fp32": Costs(architecture=subject.checkpoint.architecture, latency=self.cost)}
        bench = ModelWorkbench(subject.checkpoint, {})
        learned = Learned(
            subject=subject, weights=weights, search=self.validation, validation=self.validation, test=self.test
        )
        loop = SearchLoop(learned, space, Pricing(costs), ("fp32",), bench, self.store)
        loop.judge.about = subject.key(
            cell=asdict(cell), examples=len(self.validation.batches), training=repr(weights.trainer.supernet_options())
        )
        return loop

    def _members(self, loop: SearchLoop, front: Sequence[Evaluated], search: Search) -> list[Member]:
        """The front with the weights it was judged by (re-solved in one pass where it starts from that), or its polished winners."""
        weights = loop.learned.weights
        if not search.polish:
            judged = isinstance(weights, Shared)  # by the very weights it ends with
            return [
                self._member(loop, found, weights.corrected(found.subnet), found.quality if judged else None)
                for found in front
            ]
        chosen = choose(front, {}, POLISHED, along=search.objective)
        weights.finish([(found.subnet, found.trained) for found in chosen])
        return [self._member(loop, found, weights.final(found.subnet, found.trained)) for found in chosen]

    def _member(
        self, loop: SearchLoop, found: Evaluated, parameters: Parameters, validation: Quality | None = None
    ) -> Member:
        run = loop.judge.run(found.subnet, parameters, found.form)
        outputs = self.test.outputs(run)
        validation = validation or self.validation.quality(run)
        return Member(found=found, validation=validation, test=self.test.score(outputs), outputs=outputs)

    def _pick(self, members: Sequence[Member], loop: SearchLoop, objective: str) -> dict[str, Any] | None:
        """Of the members of half the cost at most, the one of least validation error: what it loses on test."""
        shares = _columns(loop, [m.found for m in members])[objective]
        rows = [row for row, share in enumerate(shares) if share <= HALF]
        if not rows:
            return None
        best = min(rows, key=lambda row: members[row].validation.error)
        return {
            "member": best,
            "share": shares[best],
            "test_error": members[best].test.error,
            **loss(self.test, self.dense_outputs, members[best].outputs),
        }


def _columns(loop: SearchLoop, found: Sequence[Evaluated]) -> dict[str, list[float]]:
    """Validation error, and latency and encoder parameters relative to the dense network's, in the order of evaluation."""
    a = loop.subject.checkpoint.architecture
    dense = loop.pricing.costs["fp32"].of(Counts.of([dense_subnet(loop.shapes).shape]))
    relative: dict[str, Callable[[Evaluated], float]] = {
        "error": lambda f: f.quality.error,
        "latency": lambda f: f.latency_s / float(dense["latency"][0]),
        "params": lambda f: (f.parameters - a.stem_parameters) / (float(dense["params"][0]) - a.stem_parameters),
    }
    return {name: [round(of(f), 6) for f in found] for name, of in relative.items()}
