"""The scale of a regression model's scores: its last layer can move and stretch them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


@dataclass(frozen=True, slots=True)
class ScoreScale:
    """Mean and standard deviation of scores, in the unit of the labels."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, labels: NDArray[Any]) -> Self:
        """That of labels [examples], of which those that are not finite do not count; where all are the same, they are moved."""
        known = labels[np.isfinite(labels)]
        return cls(float(np.mean(known)), float(np.std(known)) or 1.0)

    def of_head(self, backbone: nn.Module) -> Self:
        """The scale as a network's last layer can have it: one without a bias stretches scores and moves none.

        Standard scores are then labels over their root mean square. ValueError where the network has no score to move.
        """
        if _last_layer(backbone).bias is not None:
            return self
        return type(self)(0.0, float(np.hypot(self.mean, self.deviation)))

    def standard(self, labels: NDArray[Any]) -> NDArray[np.float64]:
        """Labels [examples] in standard deviations from the mean."""
        return (np.asarray(labels, dtype=np.float64) - self.mean) / self.deviation

    def give(self, backbone: nn.Module) -> None:
        """Make a network that answers standard scores answer on this scale. ValueError if it has no score to move."""
        self._stretch(backbone, self.deviation, self.mean)

    def take(self, backbone: nn.Module) -> None:
        """Make a network that answers on this scale answer standard scores: `give` undone."""
        self._stretch(backbone, 1 / self.deviation, -self.mean / self.deviation)

    @contextmanager
    def taken(self, backbones: Sequence[nn.Module]) -> Iterator[None]:
        """Networks answer standard scores inside the block."""
        for backbone in backbones:
            self.take(backbone)
        yield
        for backbone in backbones:
            self.give(backbone)

    @staticmethod
    @torch.no_grad()
    def _stretch(backbone: nn.Module, factor: float, offset: float) -> None:
        last = _last_layer(backbone)
        if last.bias is None and offset:
            raise ValueError("a regression head without a bias stretches scores and moves none: take the scale of_head")
        last.weight.mul_(factor)
        if last.bias is not None:
            last.bias.mul_(factor).add_(offset)


def _last_layer(backbone: nn.Module) -> Any:
    """The linear layer of a head that gives its one score; its bias may be None. ValueError where there is none."""
    encoder = f"{backbone.base_model_prefix}."
    head = [module for name, module in backbone.named_modules() if not name.startswith(encoder)]
    last = [module for module in head if isinstance(module, nn.Linear)][-1:]
    if not last or last[0].out_features != 1:
        raise ValueError("a regression head ends with one score")
    return last[0]
