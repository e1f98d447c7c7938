"""How an embedding model turns token embeddings into one vector, read from the sentence-transformers files beside it."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from targets.errors import InputError

POOLINGS = ("mean", "cls", "max", "mean_sqrt_len_tokens")
_LEGACY = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRecipe:
    """Pooling over tokens, normalisation to unit length, a prompt put before every text, and the length limit."""

    pooling: str = "mean"
    normalize: bool = False
    prompt: str = ""
    max_tokens: int | None = None
    lower_case: bool = False

    def overridden(self, *, pooling: str | None, prompt: str | None) -> "EmbeddingRecipe":
        """The recipe with the user's `--pooling` and `--prompt` in place of what the files say."""
        recipe = self
        if pooling is not None:
            recipe = replace(recipe, pooling=_supported(pooling))
        return recipe if prompt is None else replace(recipe, prompt=prompt)


def _supported(pooling: str) -> str:
    if pooling not in POOLINGS:
        raise InputError(f"pooling {pooling!r} is not supported; supported: {', '.join(POOLINGS)}")
    return pooling


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path.name} beside the model is not valid JSON: {error}") from None
    return content


def _pooling(config: dict[str, Any]) -> str:
    mode = config.get("pooling_mode")
    modes = [mode] if isinstance(mode, str) else list(mode or [])
    modes = modes or [name for key, name in _LEGACY.items() if config.get(key)] or ["mean"]
    if len(modes) > 1:
        raise InputError(f"concatenated poolings ({', '.join(modes)}) are not supported; choose one with --pooling")
    return _supported(modes[0])


def _module_kinds(folder: Path) -> list[tuple[str, str]]:
    modules: Any = _json(folder / "modules.json")
    return [(str(m["type"]).rsplit(".", 1)[-1], str(m.get("path", ""))) for m in modules]


def _prompt(config: dict[str, Any]) -> str:
    name = config.get("default_prompt_name")
    return str(config.get("prompts", {}).get(name, "")) if name else ""


def read_recipe(folder: Path) -> EmbeddingRecipe:
    """The recipe in a sentence-transformers folder; mean pooling without normalisation for a plain checkpoint.

    Modules that add parameters of their own (Dense, ...) are refused by name: they would be lost.
    """
    kinds = _module_kinds(folder)
    unknown = [kind for kind, _ in kinds if kind not in {"Transformer", "Pooling", "Normalize"}]
    if unknown:
        raise InputError(
            f"the embedding model has a {unknown[0]} module, which is not supported\n"
            "supported: Transformer, Pooling, Normalize"
        )
    pooling_path = next((path for kind, path in kinds if kind == "Pooling"), "1_Pooling")
    transformer = _json(folder / "sentence_bert_config.json")
    return EmbeddingRecipe(
        pooling=_pooling(_json(folder / pooling_path / "config.json")),
        normalize=any(kind == "Normalize" for kind, _ in kinds),
        prompt=_prompt(_json(folder / "config_sentence_transformers.json")),
        max_tokens=transformer.get("max_seq_length"),
        lower_case=bool(transformer.get("do_lower_case", False)),
    )
