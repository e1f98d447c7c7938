"""A transformers model with what its task reads off it: logits, a score, or a sentence embedding."""

from typing import Any

import torch
from torch import Tensor, nn

from compiler.families.embedding import EmbeddingRecipe


def auto_class(task: str) -> str:
    """The name of transformers' class that loads a model for a task."""
    return "AutoModel" if task == "embedding" else "AutoModelForSequenceClassification"


def pool(token_embeddings: Tensor, attention_mask: Tensor, pooling: str) -> Tensor:
    """[batch, tokens, hidden] and [batch, tokens] to [batch, hidden]; padding never counts."""
    if pooling == "cls":
        return token_embeddings[:, 0]
    mask = attention_mask.unsqueeze(-1).to(token_embeddings.dtype)
    if pooling == "max":
        return token_embeddings.masked_fill(mask == 0, torch.finfo(token_embeddings.dtype).min).amax(dim=1)
    summed = (token_embeddings * mask).sum(dim=1)
    length = mask.sum(dim=1).clamp(min=1e-9)
    return summed / (length.sqrt() if pooling == "mean_sqrt_len_tokens" else length)


class TaskModel(nn.Module):
    """`backbone` is the transformers model; `recipe` is given for the embedding task only.

    Parameter names everywhere in paretoc are the backbone's own, as they stand in its checkpoint.
    """

    def __init__(self, backbone: nn.Module, recipe: EmbeddingRecipe | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.recipe = recipe

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of what `forward` returns, in order: those under which Optimum's and sentence-transformers' loaders look."""
        return ("logits",) if self.recipe is None else ("last_hidden_state", "sentence_embedding")

    def read(self, outputs: Any, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """The task's outputs from the backbone's: ([batch, labels],) or ([batch, tokens, hidden], [batch, hidden])."""
        if self.recipe is None:
            return (outputs.logits,)
        tokens = outputs.last_hidden_state
        pooled = pool(tokens, attention_mask, self.recipe.pooling)
        return tokens, nn.functional.normalize(pooled, dim=-1) if self.recipe.normalize else pooled

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Task outputs for a padded batch: inputs are int64 [batch, tokens], the mask is 1 where a token is real."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        return self.read(self.backbone(**inputs), attention_mask)
