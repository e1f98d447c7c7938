"""Traffic of a run: how long the texts are that the device will really be asked about."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compiler.evaluation import encode
from compiler.pipeline.options import Options
from compiler.pipeline.subject import Subject
from profilers.traffic import Traffic
from targets.errors import InputError

_SAMPLED = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Traffic as a run uses it: lengths to profile, how much each weighs, and lengths to replay on finished files.

    Of p50 the objective is the expected latency; of p90 and p99 that of the length which so many requests do not exceed.
    """

    traffic: Traffic
    knots: tuple[int, ...]
    weights: tuple[float, ...]
    replayed: tuple[int, ...]

    @classmethod
    def of(cls, traffic: Traffic, batch: int, percentile: str) -> "Demand":
        """What batches of this traffic, padded to their longest, ask of a device."""
        padded = traffic.padded(batch)
        if percentile != "p50":
            tail = padded.quantile(float(percentile[1:]) / 100)
            return cls(traffic=traffic, knots=(tail,), weights=(1.0,), replayed=(tail,))
        knots = padded.knots()
        weights = map(float, padded.weights(knots))
        return cls(traffic=traffic, knots=tuple(knots), weights=tuple(weights), replayed=padded.replayed())


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
