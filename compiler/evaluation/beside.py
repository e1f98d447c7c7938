"""What finished embedding models are good for, beside how like they are: figures on pairs of texts, and on fewer dimensions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compiler.families import Checkpoint
from compiler.tasks import Batches, Run, encode
from compiler.tasks.vector_pairs import VectorPairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Both sides of pairs as batches, each with its own prompt where the model has one for it."""

    pairs: VectorPairs
    first: Batches
    second: Batches
    dimensions: tuple[int, ...] = ()

    @classmethod
    def of(
        cls, checkpoint: Checkpoint, pairs: VectorPairs, *, max_tokens: int, dimensions: Sequence[int] = ()
    ) -> "Beside":
        """The pairs as a model reads them."""
        names = pairs.prompts if pairs.directed else ((), ())
        sides = [
            encode(_Prompted(checkpoint, known), [(text,) for text in texts], max_tokens=max_tokens)
            for known, texts in zip(names, (pairs.first, pairs.second), strict=True)
        ]
        return cls(pairs=pairs, first=sides[0], second=sides[1], dimensions=tuple(dimensions))

    def figures(self, run: Run) -> Mapping[str, float]:
        """Figures of a network by name (`VectorPairs.figures`)."""
        return self.pairs.figures(self.first.outputs(run), self.second.outputs(run), self.dimensions)


@dataclass(frozen=True, slots=True)
class _Prompted:
    """A model as a reader of texts with one of its prompts of these names; its own default where it has none of them.

    A graph leaves out so many tokens as its default prompt has: a model that does not pool its prompts has no other.
    """

    checkpoint: Checkpoint
    names: tuple[str, ...]

    @property
    def tokenizer(self) -> Any:
        return self.checkpoint.tokenizer

    @property
    def input_names(self) -> tuple[str, ...]:
        return self.checkpoint.input_names

    @property
    def prompt(self) -> str:
        recipe = self.checkpoint.model.recipe
        if recipe is None or not recipe.include_prompt:
            return self.checkpoint.prompt
        known = dict(recipe.prompts)
        return next((known[name] for name in self.names if name in known), self.checkpoint.prompt)
