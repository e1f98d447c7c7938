"""Search spaces by name."""

from collections.abc import Callable

from compiler.families import Architecture
from compiler.spaces.large import Large
from compiler.spaces.space import Layer, Medium, Small, Space, Sublayer, Width
from compiler.spaces.subnet import Ordering
from targets.errors import InputError

SPACES: dict[str, Callable[..., Space]] = {
    "small": Small,
    "medium": Medium,
    "layer": Layer,
    "sublayer": Sublayer,
    "large": Large,
    "width": Width,
}

OF_FULL_WIDTH = ("small", "medium", "layer", "sublayer", "large")
"""Spaces whose networks all have the dense model's residual stream."""


def make_space(name: str, architecture: Architecture, *, ordering: Ordering | None = None, unit_step: int = 1) -> Space:
    """The named space over a checkpoint; index order where no ordering is given. InputError lists the known names."""
    if name not in SPACES:
        raise InputError(f"unknown space {name!r}; known: {', '.join(SPACES)}")
    if name == "width" and not architecture.stem:
        of_head = "with this head" if architecture.family.stem else f"of type {architecture.family.name}"
        raise InputError(
            f"space 'width' is not there for models {of_head}: their residual dimensions are not cut\n"
            f"spaces of this model: {', '.join(OF_FULL_WIDTH)}"
        )
    shape = architecture.shape
    return SPACES[name](
        full=shape,
        ordering=ordering or Ordering.by_index(shape, architecture.apart),
        unit_step=unit_step,
        hidden_size=architecture.hidden_size,
    )
