"""How each task is served: its part of the HTTP server, and what other servers make of its graph."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from compiler.families import Checkpoint

Facts = Callable[[Checkpoint], Mapping[str, Any]]
"""Constants of a route's part of the server, by name, from the checkpoint that is served."""


def _none(_: Checkpoint) -> Mapping[str, Any]:
    return {}


def _labels(checkpoint: Checkpoint) -> Mapping[str, Any]:
    return {"LABELS": list(checkpoint.label_names)}


def _mask(checkpoint: Checkpoint) -> Mapping[str, Any]:
    return {"MASK_TOKEN": checkpoint.tokenizer.mask_token}


def _dimensions(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """The smaller dimensions that embeddings may be cut to (none are known to be trained), and whether they have unit length."""
    recipe = checkpoint.model.recipe
    return {"DIMENSIONS": [], "NORMALIZED": recipe is not None and recipe.normalize}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tei:
    """How Text Embeddings Inference serves a task: what its requests must say, and what is left to whoever asks."""

    requests: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How a task is served.

    `file` names its part of the HTTP server, routes/`file`.py.txt, which answers `paths`; the first takes `example`, a JSON body.
    `outputs` are those of the graph that the part's `read` is given, in order. `tei` is None where Text Embeddings Inference
    does not know the task.
    """

    file: str
    paths: tuple[str, ...]
    example: str = '{"inputs": ["a text", "another one"]}'
    outputs: tuple[str, ...] = ("logits",)
    facts: Facts = field(default=_none)
    tei: Tei | None = None


_RAW = ('"raw_scores": true',)

ROUTES: Mapping[str, Route] = {
    "classification": Route(file="classification", paths=("/classify",), facts=_labels, tei=Tei()),
    "multi_label": Route(
        file="multi_label", paths=("/classify",), facts=_labels,
        tei=Tei(requests=_RAW, note="Its scores are then logits, of which whoever asks takes the sigmoid. "),
    ),
    "regression": Route(file="regression", paths=("/score",), tei=Tei(requests=_RAW)),
    "embedding": Route(
        file="embedding", paths=("/embed", "/v1/embeddings", "/v1/models"), outputs=("sentence_embedding",),
        facts=_dimensions, tei=Tei(),
    ),
    "reranking": Route(
        file="reranking", paths=("/rerank", "/v1/rerank", "/v2/rerank"), tei=Tei(),
        example='{"query": "a question", "texts": ["a text", "another one"]}',
    ),
    "token_classification": Route(file="token_classification", paths=("/tag",), facts=_labels),
    "question_answering": Route(
        file="question_answering", paths=("/answer",), outputs=("start_logits", "end_logits"),
        example='{"question": "a question", "context": "a text that answers it"}',
    ),
    "masked_lm": Route(file="masked_lm", paths=("/score",), facts=_mask),
    "causal_lm": Route(file="causal_lm", paths=("/score",)),
}  # fmt: skip
"""By the name of the task."""
