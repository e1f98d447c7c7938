"""Parameters with several names: the table of words that is the head of a language model, too."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def tied_names(model: nn.Module) -> dict[str, str]:
    """Other names of a model's parameters that have several: by each, the one under which it is counted and stored."""
    first: dict[int, str] = {}
    named = model.named_parameters(remove_duplicate=False)
    found = [(name, first.setdefault(id(parameter), name)) for name, parameter in named]
    return {name: own for name, own in found if name != own}


def assign(model: nn.Module, parameters: Mapping[str, Tensor]) -> Any:
    """Make tensors the parameters of a model, by the names they are stored under; one with several names stays one.

    Returns what `load_state_dict` says of missing and unexpected names.
    """
    given = dict(parameters)
    for alias, name in tied_names(model).items():
        if name in given:
            tensor, learns = given[name], model.get_parameter(name).requires_grad
            one = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, requires_grad=learns)
            given[name] = given[alias] = one
    return model.load_state_dict(given, strict=False, assign=True)
