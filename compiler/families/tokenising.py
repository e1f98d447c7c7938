"""A recipe and a tokenizer that agree: limits, casing and the tokens of a prompt."""

import copy
from dataclasses import replace
from typing import Any

from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as Normalizers

from compiler.families.embedding import EmbeddingRecipe
from compiler.tasks.tokenising import tokenised
from targets.errors import InputError


def fitted(recipe: EmbeddingRecipe | None, tokenizer: Any, positions: int) -> tuple[EmbeddingRecipe | None, Any]:
    """A recipe and a tokenizer that agree: casing lies in the tokenizer, lengths in the recipe.

    `positions` are those of the model. The tokenizer that was given is not changed. InputError where they do not go together.
    """
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise InputError(
            f"{type(tokenizer).__name__} has no tokenizer.json, by which texts are tokenised: it is not supported"
        )
    if recipe is None:
        return None, tokenizer
    if recipe.lower_case or recipe.truncation_side is not None:
        tokenizer = _of_recipe(recipe, tokenizer)
    count = 0
    if recipe.prompt:
        count = _prompt_tokens(recipe.prompt, tokenizer, longest_text(recipe, tokenizer, positions))
    return replace(recipe, prompt_tokens=0 if recipe.include_prompt else count), tokenizer


def longest_text(recipe: EmbeddingRecipe | None, tokenizer: Any, positions: int) -> int:
    """Tokens of the longest text: the recipe's limit, else the tokenizer's, never more than the model's positions."""
    limit = recipe.max_tokens if recipe is not None and recipe.max_tokens else tokenizer.model_max_length
    longest = int(min(positions, limit))
    if longest <= tokenizer.num_special_tokens_to_add():
        raise InputError(f"the model reads {longest} tokens of a text, which leaves none for its words")
    return longest


def _of_recipe(recipe: EmbeddingRecipe, tokenizer: Any) -> Any:
    own = copy.deepcopy(tokenizer)
    if recipe.truncation_side is not None:
        own.truncation_side = recipe.truncation_side
    backend = own.backend_tokenizer
    normalizer: Any = backend.normalizer
    given: Any = normalizer if isinstance(normalizer, Normalizers) else [normalizer]
    if recipe.lower_case and not any(isinstance(part, Lowercase) for part in given):
        backend.normalizer = Normalizers([Lowercase(), *filter(None, given)])
    return own


def _prompt_tokens(prompt: str, tokenizer: Any, longest: int) -> int:
    """Tokens at the front of a text that are the prompt's, counted as sentence-transformers does.

    InputError where it leaves no token for the text itself: all texts would be one.
    """
    (encoding,) = tokenised(tokenizer, [(prompt,)], max_tokens=longest)
    if len(encoding.ids) >= longest:
        raise InputError(f"the prompt takes all of the {longest} tokens that the model reads: no text would be left")
    ends = bool(encoding.ids) and encoding.ids[-1] in tokenizer.all_special_ids
    return len(encoding.ids) - int(ends)
