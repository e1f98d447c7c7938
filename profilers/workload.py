"""What the device is asked: how many sequences of how many tokens at once, on how many threads, in which runtime."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One way of asking. `tokens` counts padding; `threads` is ignored on a GPU.

    With `lengths` a call is one of each length in turn, instead of `tokens`, and lasts their mean: traffic, replayed.
    """

    batch: int = 1
    tokens: int = 128
    threads: int = 1
    precision: str = "fp32"
    runtime: str = "onnxruntime"
    lengths: tuple[int, ...] = ()

    def __str__(self) -> str:
        tokens = f"{self.tokens} tokens" if not self.lengths else f"{len(self.lengths)} lengths in turn"
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"batch {self.batch}, {tokens}, {threads}, {self.precision}, {self.runtime}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `Workload(**data)` inverts it where nothing is replayed."""
        values = asdict(self)
        return values if self.lengths else {name: value for name, value in values.items() if name != "lengths"}
