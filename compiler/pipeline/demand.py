"""Traffic of a run: how long the texts are that the device will really be asked about."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compiler.pipeline.options import Options
from compiler.pipeline.subject import Subject
from compiler.tasks import encode
from profilers.traffic import Traffic
from targets.errors import InputError

_SAMPLED = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Traffic as a run uses it: what stands for it, in profiles and on finished files alike.

    Of p50 the objective is the expected latency; of p90 and p99 that of the length which so many requests do not exceed.
    """

    traffic: Traffic
    percentile: str

    def lengths(self, batch: int) -> tuple[int, ...]:
        """Lengths to ask in turn, of batches that are padded to their longest; of a tail the one it ends at."""
        if self.percentile == "p50":
            return self.expected(batch)
        return (self.traffic.padded(batch).quantile(float(self.percentile[1:]) / 100),)

    def expected(self, batch: int) -> tuple[int, ...]:
        """Lengths of all requests: throughput is a mean whatever the percentile."""
        return self.traffic.padded(batch).replayed()


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
    return Demand(traffic=traffic, percentile=options.percentile)
