"""Random covectors of outputs: their second moment says what an error there costs.

Of scores and vectors that is the squared distance (the Gauss-Newton matrix), of classes the Fisher matrix of the network's own
predictions (Martens, "New insights and perspectives on the natural gradient method", JMLR 2020). Labels are not needed.
"""

import torch
from torch import Tensor, nn


def gaussian(values: Tensor, generator: torch.Generator) -> Tensor:
    """The sum of values [...] times standard normal numbers."""
    return (values * torch.randn(values.shape, generator=generator)).sum()


def fisher(logits: Tensor, generator: torch.Generator) -> Tensor:
    """The sum of logits [rows, classes] times the scores of classes drawn from their own predictions."""
    chances = logits.detach().softmax(dim=-1)
    drawn = torch.multinomial(chances, 1, generator=generator).squeeze(1)
    return (logits * (chances - nn.functional.one_hot(drawn, logits.shape[1]))).sum()


def bernoulli(logits: Tensor, generator: torch.Generator) -> Tensor:
    """The sum of logits [rows, labels] times the scores of labels drawn, each on its own, from their own predictions."""
    chances = logits.detach().sigmoid()
    return (logits * (chances - torch.bernoulli(chances, generator=generator))).sum()
