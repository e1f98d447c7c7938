"""Stage "finalise": the networks that are kept get their final weights, and are judged as they will be served."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from torch import Tensor

from compiler.evaluation import Quality
from compiler.execution import on_host
from compiler.pipeline.choice import choose, shortfalls
from compiler.pipeline.jobs import Score
from compiler.pipeline.judge import Judge
from compiler.pipeline.learned import Learned
from compiler.pipeline.networks import Evaluated, Finalist
from compiler.pipeline.stages.context import Context
from compiler.pipeline.stages.profile import Profiled
from compiler.pipeline.stages.search import Searched
from compiler.spaces import Form
from targets.errors import InputError

_Scored = tuple[Quality, Quality, Mapping[str, np.ndarray]]
"""Quality on validation and test, and decisions by split."""


def finalise(context: Context, profiled: Profiled, learned: Learned, searched: Searched) -> tuple[Finalist, ...]:
    """The dense network, then those that are kept, fastest first."""
    with context.stages("final weights"):
        chosen = _chosen(context, profiled, searched)
        judge, weights = Judge(learned, context.bench, context.store), learned.weights
        weights.finish(list(dict.fromkeys((one.subnet, one.trained) for one in chosen)), context.monitor.progress)
        for one in chosen:
            weights.log(one.subnet, one.trained, one.id)

        def final(one: Evaluated) -> Mapping[str, Tensor]:
            return weights.final(one.subnet, one.trained)

        scores = weights.of_each(
            lambda one: _scored(judge, one, partial(final, one)), chosen,
            job=lambda one, threads: Score(subnet=one.subnet, form=one.form, share=one.trained).job(threads),
        )  # fmt: skip

        def read_dense() -> Mapping[str, Tensor]:
            return on_host(weights.dense)

        whole, *elsewhere = ((one, _scored(judge, one, read_dense)) for one in _dense(profiled, searched))
        finalist = partial(_finalist, learned, whole[1])
        kept = [finalist(one, partial(final, one), score) for one, score in zip(chosen, scores, strict=True)]
        kept += [finalist(one, read_dense, score) for one, score in elsewhere]
        return finalist(whole[0], read_dense, whole[1]), *sorted(kept, key=lambda one: one.latency_s)


def _chosen(context: Context, profiled: Profiled, searched: Searched) -> list[Evaluated]:
    """The networks of the front that are kept. InputError where it has the dense one alone."""
    options, whole = context.options, searched.dense
    candidates = [f for f in searched.front if (f.subnet.shape, f.subnet.width) != (whole.shape, None)]
    if not candidates:
        raise InputError("the search found no sub-network beside the dense one\ngive it more --evaluations")
    chosen = choose(candidates, profiled.limits, options.winners, along=options.objectives[0])
    dense_s = float(profiled.pricing.of(Form("fp32")).of(whole.counts)["latency"][0])
    context.notes.say(*shortfalls(chosen, profiled.limits, options.winners, dense_s))
    return chosen


def _dense(profiled: Profiled, searched: Searched) -> list[Evaluated]:
    """The whole network in fp32, then in the other forms searched: what a candidate of theirs has to beat."""
    others = [form for form in searched.forms if form != Form("fp32")]
    perfect = Quality(metric=1.0, others={})
    named = [("dense", Form("fp32")), *((_dense_name(form), form) for form in others)]
    return [profiled.pricing.evaluated(name, searched.dense, form, perfect) for name, form in named]


def _dense_name(form: Form) -> str:
    return f"dense-{form.precision}-part" if form.exceptions else f"dense-{form.precision}"


def _scored(judge: Judge, network: Evaluated, read: Callable[[], Mapping[str, Tensor]]) -> _Scored:
    """From the store where these very weights were scored before."""
    stored = judge.finished(network.subnet, network.form, read())
    decided = {name: each["decisions"] for name, each in stored.items() if each["decisions"] is not None}
    decisions = {name: np.array(each, dtype=np.int64) for name, each in decided.items()}
    validation, test = (Quality.from_json(stored[name]["quality"]) for name in ("validation", "test"))
    return validation, test, decisions


def _finalist(
    learned: Learned, dense: _Scored, network: Evaluated, read: Callable[[], Mapping[str, Tensor]], scored: _Scored
) -> Finalist:
    """A network with its scores, and with what it decides otherwise than the dense model."""
    validation, test, decisions = scored
    subject, splits = learned.subject, learned.splits
    names = subject.data.label_names or subject.checkpoint.label_names
    changes = {split: splits[split].changes(own, dense[2][split], names) for split, own in decisions.items()}
    return Finalist(
        **network.values(), read=read, validation=validation, test=test, decisions=decisions, changes=changes
    )
