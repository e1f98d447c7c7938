"""Names and forms of stored weights that transformers changes when it loads a class, read by its own rules and without data."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import nn


class Conversions:
    """Transformers' rules for one class of models: what a stored weight is called there, and what it is split into."""

    def __init__(self, skeleton: nn.Module) -> None:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming

        model: Any = skeleton
        rules = get_model_conversion_mapping(model, add_legacy=False)
        self._model = model
        self._renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
        self._converters = [rule for rule in rules if isinstance(rule, WeightConverter)]

    def parts(self, name: str, shape: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
        """What a stored weight becomes, in order: shapes by name. Itself alone where no rule is for it, or the rule cannot take it."""
        from transformers.core_model_loading import rename_source_key

        renamed, pattern = rename_source_key(name, self._renamings, self._converters)
        if pattern is None:
            return {renamed: shape}
        rule: Any = deepcopy(next(each for each in self._converters if pattern in each.source_patterns))
        rule.add_tensor(renamed, name, pattern, torch.empty(shape, device="meta"))
        try:
            made = rule.convert(renamed, model=self._model, config=self._model.config)
        except (RuntimeError, IndexError, ValueError):
            return {renamed: shape}
        return {part: tuple(tensor.shape) for part, tensor in made.items()}
