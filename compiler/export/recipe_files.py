"""The files that sentence-transformers reads, written from the recipe in words that every supported version of it knows."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from compiler.families.embedding import POOLINGS, Dense, EmbeddingRecipe, LayerNorm, Step
from compiler.families.recipe_files import CONFIG, MODULES, legacy_keys
from compiler.families.transformer_module import FILES


def write_recipe_files(folder: Path, recipe: EmbeddingRecipe, *, hidden: int, max_tokens: int) -> None:
    """modules.json, the settings of the Transformer and of the model, and a folder for each module with files.

    `max_tokens` is the longest text; the recipe's own limit may be above the model's positions.
    """
    modules: list[tuple[str, str]] = [("Transformer", "")]
    for number, step in enumerate((None, *recipe.steps), start=1):
        kind = "Pooling" if step is None else type(step).__name__
        modules.append((kind, f"{number}_{kind}"))
        own = folder / f"{number}_{kind}"
        own.mkdir(parents=True, exist_ok=True)
        settings = _pooling(recipe, hidden) if step is None else _settings(step)
        if settings:
            _write(own / "config.json", settings)
        if isinstance(step, Dense | LayerNorm):
            tensors = {name: torch.tensor(array) for name, array in step.tensors.items()}
            save_file(tensors, own / "model.safetensors", metadata={"format": "pt"})
    _write(folder / MODULES, _listed(modules))
    _write(folder / FILES[0], {"max_seq_length": max_tokens, "do_lower_case": recipe.lower_case})
    _write(folder / CONFIG, _config(recipe))


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _listed(modules: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """The classes under the names that versions 5 and 6 import."""
    return [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(modules)
    ]


def _pooling(recipe: EmbeddingRecipe, hidden: int) -> dict[str, Any]:
    """One flag a pooling, which says all but an unusual order of concatenation: version 5 reads nothing else."""
    order = [POOLINGS.index(name) for name in recipe.poolings]
    if order != sorted(set(order)):
        return {
            "embedding_dimension": hidden,
            "pooling_mode": list(recipe.poolings),
            "include_prompt": recipe.include_prompt,
        }
    flags = {key: name in recipe.poolings for name, key in legacy_keys().items()}
    return {"word_embedding_dimension": hidden, **flags, "include_prompt": recipe.include_prompt}


def _settings(step: Step) -> dict[str, Any]:
    """The config.json of a step; Normalize has none."""
    if isinstance(step, LayerNorm):
        return {"dimension": len(step.weight)}
    if not isinstance(step, Dense):
        return {}
    kind = "linear" if step.activation == "Identity" else "activation"
    residual = {"use_residual": True} if step.residual is not None else {}
    return {
        "in_features": step.weight.shape[1],
        "out_features": len(step.weight),
        "bias": step.bias is not None,
        "activation_function": f"torch.nn.modules.{kind}.{step.activation}",
        **residual,
    }


def _config(recipe: EmbeddingRecipe) -> dict[str, Any]:
    kept = {} if recipe.dimensions is None else {"truncate_dim": recipe.dimensions}
    return {
        "model_type": "SentenceTransformer",
        "prompts": dict(recipe.prompts),
        "default_prompt_name": recipe.default_prompt,
        "similarity_fn_name": recipe.similarity,
        **kept,
    }
