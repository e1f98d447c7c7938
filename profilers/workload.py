"""What the device is asked: how many sequences of how many tokens at once, on how many threads, in which runtime."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

OPSETS = range(17, 24)
"""Of ONNX: LayerNormalization came with the first, the standard Attention with the last."""

DEFAULT_OPSET = OPSETS[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One way of asking. `tokens` counts padding; `threads` is ignored on a GPU.

    With `lengths` a call is one of each length in turn, instead of `tokens`, and lasts their mean: traffic, replayed.
    `opset` is that of the graphs that are asked: other operators take other times.
    """

    batch: int = 1
    tokens: int = 128
    threads: int = 1
    precision: str = "fp32"
    runtime: str = "onnxruntime"
    lengths: tuple[int, ...] = ()
    opset: int = DEFAULT_OPSET

    def __str__(self) -> str:
        tokens = f"{self.tokens} tokens" if not self.lengths else f"{len(self.lengths)} lengths in turn"
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        opset = "" if self.opset == DEFAULT_OPSET else f", opset {self.opset}"
        return f"batch {self.batch}, {tokens}, {threads}, {self.precision}, {self.runtime}{opset}"

    @property
    def each(self) -> tuple["Workload", ...]:
        """The same asked at one length: of a call of several lengths one for each."""
        if not self.lengths:
            return (self,)
        return tuple(replace(self, tokens=tokens, lengths=()) for tokens in self.lengths)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Workload":
        """Inverse of `to_json`; TypeError where the data have other names."""
        return cls(**{**data, "lengths": tuple(data.get("lengths", ()))})

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; lengths and opset are left out where they are as ever."""
        usual = {"lengths": [], "opset": DEFAULT_OPSET}
        values = {**asdict(self), "lengths": list(self.lengths)}
        return {name: value for name, value in values.items() if name not in usual or value != usual[name]}
