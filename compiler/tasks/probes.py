"""Random covectors of outputs: their second moment says what an error there costs.

Of scores and vectors that is the squared distance (the Gauss-Newton matrix), of classes the Fisher matrix of the network's own
predictions (Martens, "New insights and perspectives on the natural gradient method", JMLR 2020). Labels are not needed.
"""

import torch
from torch import Tensor, nn


def gaussian(values: Tensor, generator: torch.Generator) -> Tensor:
    """The sum of values [...] times standard normal numbers."""
    drawn = torch.randn(values.shape, generator=generator, device=generator.device)
    return (values * drawn.to(values.device)).sum()


def fisher(logits: Tensor, generator: torch.Generator) -> Tensor:
    """The sum of logits [rows, classes] times the scores of classes drawn from their own predictions."""
    chances = logits.detach().softmax(dim=-1)
    drawn = drawn_from(chances, generator)
    return (logits * (chances - nn.functional.one_hot(drawn, logits.shape[1]))).sum()


def bernoulli(logits: Tensor, generator: torch.Generator) -> Tensor:
    """The sum of logits [rows, labels] times the scores of labels drawn, each on its own, from their own predictions."""
    chances = logits.detach().sigmoid()
    drawn = torch.bernoulli(chances.to(generator.device), generator=generator)
    return (logits * (chances - drawn.to(logits.device))).sum()


def drawn_from(chances: Tensor, generator: torch.Generator) -> Tensor:
    """One column, int64 [rows], drawn from the chances [rows, columns] of every row.

    The generator draws on its own device. Elsewhere it draws places in the sums of chances, one a row: whole rows may be as long
    as all words.
    """
    if chances.device == generator.device:
        return torch.multinomial(chances, 1, generator=generator).squeeze(1)
    places = torch.rand(len(chances), 1, generator=generator, device=generator.device, dtype=torch.float64)
    sums = chances.double().cumsum(dim=1)
    return torch.searchsorted(sums, places.to(chances.device) * sums[:, -1:]).squeeze(1).clamp(max=chances.shape[1] - 1)
