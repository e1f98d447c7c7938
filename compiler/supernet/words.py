"""Training without the words that no text reads: their rows of the embedding table have no gradient.

A table is most of a small model, and of a multilingual one: without this its gradient, its moments and their norm cost a
quarter of a step of MiniLM's sub-networks, and most of the memory.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from compiler.families import Architecture, TaskModel


@contextmanager
def words_only(networks: Sequence[TaskModel], architecture: Architecture, words: Tensor) -> Iterator[None]:
    """Networks that know these words alone, int64 [words], each numbered by its place; inside the block.

    After it they know all again. Of those that were not among them nothing has changed: no weight decay either.
    """
    name = architecture.word_table
    whole = [_table(network, name) for network in networks]
    for network, table in zip(networks, whole, strict=True):
        _put(network, name, table, table.weight.detach()[words.to(table.weight.device)])
    yield
    for network, table in zip(networks, whole, strict=True):
        part = _table(network, name).weight.detach()
        rows = table.weight.detach().to(part.device, copy=True)
        rows[words.to(part.device)] = part
        _put(network, name, table, rows)


def _table(network: TaskModel, name: str) -> nn.Embedding:
    table = network.backbone.get_submodule(name)
    assert isinstance(table, nn.Embedding)  # noqa: S101  every row of the families table names one
    return table


def _put(network: TaskModel, name: str, like: nn.Embedding, rows: Tensor) -> None:
    table = nn.Embedding(len(rows), rows.shape[1], padding_idx=like.padding_idx, _weight=rows)
    table.requires_grad_(like.weight.requires_grad)
    network.backbone.set_submodule(name, table)
