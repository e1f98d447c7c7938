"""A CrossEncoder of sentence-transformers: a classifier or a score of pairs whose limits stand in files beside its own."""

import copy
from pathlib import Path
from typing import Any

from compiler.families.recipe_files import CONFIG, read_modules
from compiler.families.transformer_module import read_transformer
from targets.errors import InputError
from targets.json_file import read_json


def limited(folder: Path, tokenizer: Any) -> Any:
    """The tokenizer with the maximum length and truncation side of a CrossEncoder's files; itself for any other folder.

    InputError where the files give every text a prompt or lower case, which no classifier here has.
    """
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    modules = read_modules(folder)
    if not modules or not isinstance(config, dict) or config.get("model_type") != "CrossEncoder":
        return tokenizer
    settings = read_transformer(modules[0].folder, "sequence-classification")
    prompts = config.get("prompts") or {}
    if settings["lower_case"] or (isinstance(prompts, dict) and prompts.get(config.get("default_prompt_name"))):
        raise InputError(f"{folder.name} is a CrossEncoder with a default prompt or lower case, which is not supported")
    own = copy.deepcopy(tokenizer)
    own.model_max_length = settings["max_tokens"] or own.model_max_length
    own.truncation_side = settings["truncation_side"] or own.truncation_side
    return own
