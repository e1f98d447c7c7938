"""How a task is served: its part of the HTTP server, and what other servers make of its graph."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Facts = Callable[[Any], Mapping[str, Any]]
"""Constants of a route's part of the server, by name, from the checkpoint that is served."""


def _none(_: Any) -> Mapping[str, Any]:
    return {}


def labels(checkpoint: Any) -> Mapping[str, Any]:
    """The names of a head's outputs, in their order."""
    return {"LABELS": list(checkpoint.label_names)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tei:
    """How Text Embeddings Inference serves a task: what its requests must say, and what is left to whoever asks."""

    requests: tuple[str, ...] = ()
    note: str = ""


RAW = ('"raw_scores": true',)
"""What requests say to TEI for scores as the graph gives them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How a task is served.

    `file` names its part of the HTTP server, compiler/export/routes/`file`.py.txt, which answers `paths`; the first takes `example`,
    a JSON body. `outputs` are those of the graph that the part's `read` is given, in order. `tei` is None where Text Embeddings
    Inference does not know the task.
    """

    file: str
    paths: tuple[str, ...]
    example: str = '{"inputs": ["a text", "another one"]}'
    outputs: tuple[str, ...] = ("logits",)
    facts: Facts = field(default=_none)
    tei: Tei | None = None
