"""A transformers model with what its task reads off it: logits, a score, or a sentence embedding."""

from typing import Any

import torch
from torch import Tensor, nn

from compiler.families.embedding import Dense, EmbeddingRecipe, LayerNorm, Step
from compiler.families.table import family_of


def pool(token_embeddings: Tensor, attention_mask: Tensor, pooling: str, left_out: int = 0) -> Tensor:
    """[batch, tokens, hidden] and [batch, tokens] to [batch, hidden]; padding never counts.

    The first `left_out` tokens, those of a prompt, do not count either: there, and for "cls", padding is on the right.
    """
    length = attention_mask.sum(dim=1) if left_out else attention_mask
    if left_out:
        position = torch.arange(attention_mask.shape[1], device=attention_mask.device)
        attention_mask = attention_mask * (position >= left_out).to(attention_mask.dtype)
    if pooling == "cls":
        return token_embeddings[:, 0] if not left_out else _at(token_embeddings, left_out * (length > left_out))
    mask = attention_mask.unsqueeze(-1).to(token_embeddings.dtype)
    if pooling == "lasttoken":
        place = torch.arange(attention_mask.shape[1], device=attention_mask.device)
        return _at(token_embeddings * mask, (attention_mask * place).argmax(dim=1))
    if pooling == "max":
        highest = token_embeddings.masked_fill(mask == 0, torch.finfo(token_embeddings.dtype).min).amax(dim=1)
        return highest * (length > left_out).unsqueeze(-1) if left_out else highest
    if pooling == "weightedmean":
        place = torch.arange(1, mask.shape[1] + 1, device=mask.device)  # whole numbers: halving a Range of floats fails
        mask = mask * place.to(mask.dtype).view(1, -1, 1)
    summed = (token_embeddings * mask).sum(dim=1)
    counted = mask.sum(dim=1).clamp(min=1e-9)
    return summed / (counted.sqrt() if pooling == "mean_sqrt_len_tokens" else counted)


def _at(token_embeddings: Tensor, position: Tensor) -> Tensor:
    """[batch, tokens, hidden] at one token [batch] of each text: [batch, hidden]."""
    rows = position.view(-1, 1, 1).expand(-1, 1, token_embeddings.shape[-1])
    return torch.gather(token_embeddings, 1, rows).squeeze(1)


class _Weighted(nn.Module):
    """A step with weights of its own. They are buffers: nothing trains, prunes or quantises them."""

    def __init__(self, step: Dense | LayerNorm) -> None:
        super().__init__()
        self.step = step
        for name, array in step.tensors.items():
            self.register_buffer(name.replace(".", "_"), torch.tensor(array), persistent=False)


class _Dense(_Weighted):
    def forward(self, vector: Tensor) -> Tensor:
        step: Any = self.step
        bias = None if step.bias is None else self.linear_bias
        mapped: Tensor = nn.functional.linear(vector, self.linear_weight, bias)  # type: ignore[arg-type]
        mapped = getattr(nn, step.activation)()(mapped)
        if step.residual is None:
            return mapped
        shortcut: Tensor = vector if step.residual == "input" else nn.functional.linear(vector, self.residual_weight)  # type: ignore[arg-type]
        return mapped + shortcut


class _LayerNorm(_Weighted):
    def forward(self, vector: Tensor) -> Tensor:
        size = (vector.shape[-1],)
        return nn.functional.layer_norm(vector, size, self.norm_weight, self.norm_bias)  # type: ignore[arg-type]


class _Normalize(nn.Module):
    def forward(self, vector: Tensor) -> Tensor:
        return nn.functional.normalize(vector, dim=-1)


def _module(step: Step) -> nn.Module:
    if isinstance(step, Dense):
        return _Dense(step)
    return _LayerNorm(step) if isinstance(step, LayerNorm) else _Normalize()


class TaskModel(nn.Module):
    """`backbone` is the transformers model, `outputs` the names of what is read off it; a `recipe` makes sentence embeddings of that.

    Parameter names everywhere in paretoc are the backbone's own, as they stand in its checkpoint. `explicit_positions` gives the
    backbone the places of tokens [batch, tokens]: left to itself, transformers makes them [1, tokens], and ONNX's rotary
    embedding takes those for a batch of 1.
    """

    explicit_positions = False

    def __init__(
        self, backbone: nn.Module, recipe: EmbeddingRecipe | None = None, outputs: tuple[str, ...] = ("logits",)
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.causal = family_of(backbone.config.model_type).causal  # type: ignore[union-attr, arg-type]
        self.recipe = recipe
        self.output_names = outputs
        if recipe is not None:
            list(recipe.sizes(backbone.config.hidden_size))  # type: ignore[union-attr, arg-type]
        self.steps = nn.Sequential(*(_module(step) for step in (recipe.steps if recipe else ())))

    def read(self, outputs: Any, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """The task's outputs from the backbone's: those of its head, or ([batch, tokens, hidden], [batch, dimensions])."""
        recipe = self.recipe
        if recipe is None:
            return tuple(getattr(outputs, name) for name in self.output_names)
        tokens = outputs.last_hidden_state
        left_out = 0 if recipe.include_prompt else recipe.prompt_tokens
        pooled = [pool(tokens, attention_mask, pooling, left_out) for pooling in recipe.poolings]
        vector = self.steps(pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=-1))
        return tokens, vector if recipe.dimensions is None else vector[:, : recipe.dimensions]

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Task outputs for a padded batch: inputs are int64 [batch, tokens], the mask is 1 where a token is real."""
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        if self.explicit_positions:
            inputs["position_ids"] = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        if self.causal:
            inputs["use_cache"] = False
        return self.read(self.backbone(**inputs), attention_mask)
