"""Sizes of a network as people read them: heads, query heads of each where those are cut apart, FFN units."""

from typing import Any

from compiler.families import Architecture
from compiler.spaces import Shape
from profilers import attention_sizes


def shape_json(architecture: Architecture, shape: Shape, width: int | None) -> dict[str, Any]:
    """A network's sizes as `front.json` has them (`compiler.report.schema.Shape`)."""
    kept = [attention_sizes(architecture.whole_heads)[sizes.heads] for sizes in shape]
    return {
        "heads": [heads.groups for heads in kept],
        **({} if architecture.apart is None else {"queries": [heads.queries for heads in kept]}),
        "ffn_units": [sizes.ffn_units for sizes in shape],
        **({} if width is None else {"hidden_size": width}),
    }
