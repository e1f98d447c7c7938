"""Token ids of texts, by a tokenizer that is left as it was."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tokenizers import Encoding


def tokenised(tokenizer: Any, texts: Sequence[tuple[str, ...]], *, max_tokens: int) -> list[Encoding]:
    """Token ids, mask and types of single texts or pairs, cut at `max_tokens` on the tokenizer's own side, not padded."""
    with unchanged(tokenizer) as backend:
        backend.enable_truncation(max_tokens, direction=tokenizer.truncation_side)
        backend.no_padding()
        found: list[Encoding] = backend.encode_batch([text if len(text) == 2 else text[0] for text in texts])
        return found


@contextmanager
def unchanged(tokenizer: Any) -> Iterator[Any]:
    """The backend of a fast tokenizer, which gets its truncation and padding back: every call sets them anew."""
    backend = tokenizer.backend_tokenizer
    truncation, padding = backend.truncation, backend.padding
    try:
        yield backend
    finally:
        if truncation is None:
            backend.no_truncation()
        else:
            backend.enable_truncation(**truncation)
        if padding is None:
            backend.no_padding()
        else:
            backend.enable_padding(**padding)
