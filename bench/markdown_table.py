"""How the tables of the pages are written."""

from collections.abc import Iterable, Sequence

NAMES = {
    "trec": "TREC", "mrpc": "MRPC", "stsb": "STS-B", "banking77": "Banking77", "rte": "RTE", "cola": "CoLA", "sst2": "SST-2",
    "qnli": "QNLI",
}  # fmt: skip
"""Of the tasks, in the order of tables."""


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in (header, ["---"] * len(header), *rows))


def share(value: float, low: float, high: float) -> str:
    """A share with its interval."""
    return f"{value:.1%} ({low:.1%} to {high:.1%})"
