"""What the device is asked: how many sequences of how many tokens at once, on how many threads, in which runtime."""

from dataclasses import asdict, dataclass
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

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `Workload(**data)` inverts it where nothing is replayed.

        Lengths and opset are left out where they are as ever.
        """
        usual = {"lengths": (), "opset": DEFAULT_OPSET}
        return {name: value for name, value in asdict(self).items() if name not in usual or value != usual[name]}
