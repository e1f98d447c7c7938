"""Traffic of a run: how long the texts are that the device will really be asked about."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compiler.evaluation import encode
from compiler.pipeline.options import Options
from compiler.pipeline.subject import Subject
from profilers.traffic import Traffic, between
from targets.errors import InputError

_SAMPLED = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Traffic as a run uses it: lengths to profile, how much each weighs, and lengths to replay on finished files.

    Of p50 the objective is the expected latency; of p90 and p99 that of the length which so many requests do not exceed.
    """

    traffic: Traffic
    percentile: str
    knots: tuple[int, ...]
    weights: tuple[float, ...]
    replayed: tuple[int, ...]

    @classmethod
    def of(cls, traffic: Traffic, batch: int, percentile: str) -> "Demand":
        """What batches of this traffic, padded to their longest, ask of a device."""
        padded = traffic.padded(batch)
        knots = padded.knots()
        if percentile == "p50":
            weights, replayed = padded.weights(knots), padded.replayed()
        else:
            tail = padded.quantile(float(percentile[1:]) / 100)
            weights, replayed = between(knots, [tail])[0], (tail,)
        return cls(
            traffic=traffic, percentile=percentile, knots=tuple(knots), weights=tuple(map(float, weights)),
            replayed=replayed,
        )  # fmt: skip

    def at(self, batch: int) -> "Demand":
        """The same requests in batches of another size; the knots stay."""
        return Demand.of(self.traffic, batch, self.percentile)

    def expected(self, batch: int) -> "Demand":
        """The same requests in batches of another size, all of them: throughput is a mean whatever the percentile."""
        return Demand.of(self.traffic, batch, "p50")


def _lengths(subject: Subject) -> Traffic:
    """Tokens of the data's own texts, or of two thousand of them."""
    texts = subject.data.train.texts
    rows = np.random.default_rng(0).permutation(len(texts))[:_SAMPLED]
    batches = encode(subject.checkpoint, [texts[row] for row in rows], max_tokens=subject.max_tokens)
    return Traffic.of(int(length) for batch in batches for length in batch["attention_mask"].sum(dim=1))


def find_demand(options: Options, subject: Subject) -> Demand | None:
    """The traffic asked for, if any. InputError where the model has no positions for its longest text."""
    if options.traffic is None:
        return None
    traffic = _lengths(subject) if options.traffic == "data" else Traffic.read(Path(options.traffic))
    limit = subject.checkpoint.architecture.max_tokens
    if traffic.tokens[-1] > limit:
        raise InputError(f"the traffic holds texts of {traffic.tokens[-1]} tokens, the model's limit is {limit}")
    return Demand.of(traffic, options.batch, options.percentile)
