"""The recipe of an embedding model: how texts become tokens, and token embeddings one vector.

It is the one source of what the graph computes, of the files beside it and of every way to serve it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from targets.errors import InputError

POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""Poolings over tokens, in the order in which sentence-transformers' older files concatenate them."""

ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid")
"""Activations of a Dense module: classes of torch.nn, as made without arguments."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Normalize:
    """The vector brought to unit length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """A linear map with an activation: [in] to [out]. `residual` is None, "input", or "matrix" (`shortcut`, [out, in])."""

    weight: Array = field(repr=False, compare=False)
    bias: Array | None = field(repr=False, compare=False)
    activation: str
    residual: str | None = None
    shortcut: Array | None = field(default=None, repr=False, compare=False)
    digest: str = ""

    @property
    def tensors(self) -> dict[str, Array]:
        """Weights under the names that sentence-transformers gives them."""
        named = {"linear.weight": self.weight, "linear.bias": self.bias, "residual.weight": self.shortcut}
        return {name: array for name, array in named.items() if array is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNorm:
    """Layer normalisation with torch's epsilon: [size] to [size]."""

    weight: Array = field(repr=False, compare=False)
    bias: Array = field(repr=False, compare=False)
    digest: str = ""

    @property
    def tensors(self) -> dict[str, Array]:
        """Weights under the names that sentence-transformers gives them."""
        return {"norm.weight": self.weight, "norm.bias": self.bias}


Step = Normalize | Dense | LayerNorm
"""What happens to the pooled vector."""


def digest(arrays: Sequence[Array | None]) -> str:
    """Sha-256 of the weights of a step, which its place in a recipe's repr stands for."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRecipe:
    """How an embedding model is read: what is done to texts, how tokens are pooled, what happens to the vector.

    `poolings` are concatenated. `prompts` are (name, text); the one named `default_prompt` stands before every text, and
    with `include_prompt` off its first `prompt_tokens` tokens are left out of the pooling. `lower_case` says that the
    tokenizer lower-cases first. None stands for what tokenizer or model say. `dimensions` are the first ones, which are kept.
    """

    poolings: tuple[str, ...] = ("mean",)
    steps: tuple[Step, ...] = ()
    prompts: tuple[tuple[str, str], ...] = ()
    default_prompt: str | None = None
    include_prompt: bool = True
    prompt_tokens: int = 0
    max_tokens: int | None = None
    lower_case: bool = False
    truncation_side: str | None = None
    similarity: str | None = None
    dimensions: int | None = None

    @property
    def prompt(self) -> str:
        """The text that stands before every text."""
        return dict(self.prompts).get(self.default_prompt or "", "")

    @property
    def normalize(self) -> bool:
        """Whether vectors have unit length."""
        return bool(self.steps) and isinstance(self.steps[-1], Normalize) and self.dimensions is None

    @property
    def in_graph(self) -> str:
        """The part that a graph depends on: two recipes with the same have the same graph."""
        left_out = 0 if self.include_prompt else self.prompt_tokens
        return repr((self.poolings, self.steps, left_out, self.dimensions))

    def overridden(self, *, pooling: str | None, prompt: str | None) -> "EmbeddingRecipe":
        """The recipe with the user's `--pooling` and `--prompt` in place of what the files say."""
        recipe = self if pooling is None else replace(self, poolings=read_poolings(pooling))
        return recipe if prompt is None else _prompted(recipe, prompt)

    def sizes(self, hidden: int) -> Iterator[int]:
        """Dimensions of the pooled vector and after every step. InputError where a step does not take what it is given."""
        size = hidden * len(self.poolings)
        yield size
        for step in self.steps:
            taken = size if isinstance(step, Normalize) else step.weight.shape[-1]
            if taken != size:
                raise InputError(
                    f"the embedding model's {type(step).__name__} module takes {taken} dimensions, the one before it gives "
                    f"{size}\nhere {' and '.join(self.poolings)} pooling gives {hidden * len(self.poolings)}"
                )
            size = len(step.weight) if isinstance(step, Dense) else size
            yield size


def read_poolings(pooling: str) -> tuple[str, ...]:
    """The poolings in a text, separated by commas or plus signs. InputError where one is unknown."""
    names = tuple(part.strip() for part in pooling.replace("+", ",").split(","))
    return known_poolings(names)


def known_poolings(names: Sequence[str]) -> tuple[str, ...]:
    """The poolings themselves. InputError where there are none, or one is unknown."""
    for name in names or ("",):
        if name not in POOLINGS:
            raise InputError(f"pooling {name!r} is not supported\nsupported: {', '.join(POOLINGS)}")
    return tuple(names)


def _prompted(recipe: EmbeddingRecipe, prompt: str) -> EmbeddingRecipe:
    """The recipe with another default prompt, under the name it has there or a new one; the other prompts stay."""
    if not prompt:
        return replace(recipe, default_prompt=None)
    if any("\ud800" <= character <= "\udfff" for character in prompt):
        raise InputError("the prompt is not UTF-8: it could not be written into the files of a model")
    named = next((name for name, text in recipe.prompts if text == prompt), None)
    if named is not None:
        return replace(recipe, default_prompt=named)
    name = "default"
    while name in dict(recipe.prompts):
        name += "_"
    return replace(recipe, prompts=(*recipe.prompts, (name, prompt)), default_prompt=name)
