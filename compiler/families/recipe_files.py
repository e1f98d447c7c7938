"""The recipe of a sentence-transformers folder, read from every form that its own loader reads.

Every key is honoured, known to mean nothing here, or refused by name: a folder is never read as another model than it is.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from compiler.families.embedding import (
    ACTIVATIONS,
    POOLINGS,
    Dense,
    EmbeddingRecipe,
    LayerNorm,
    Normalize,
    Step,
    digest,
    known_poolings,
)
from compiler.families.module_settings import settings, wanted
from compiler.families.module_weights import read_weights
from compiler.families.transformer_module import FILES, read_transformer
from targets.errors import InputError
from targets.json_file import conforming, read_json

MODULES, CONFIG = "modules.json", "config_sentence_transformers.json"
_NAMESPACE = "sentence_transformers."
_SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
_GIVEN_PROMPTS = ("query", "document")
"""Prompts that every SentenceTransformer has: empty where its files give them no text."""


class Module(NamedTuple):
    """A line of modules.json: the class and the folder of its files."""

    kind: str
    folder: Path


def read_modules(folder: Path) -> list[Module]:
    """The modules in their order; none where the folder is a plain checkpoint.

    InputError where the file is damaged, or a folder lies outside.
    """
    if not (folder / MODULES).exists():
        return []
    listed = conforming(read_json(folder / MODULES), list[dict[str, Any]], name=MODULES)
    read = [{key: wanted(module, key, str, None) for key in ("name", "path", "type")} for module in listed]
    if len({module["name"] for module in read}) < len(read):
        raise InputError(f"{MODULES}: every module needs a name of its own")
    return [Module(_kind(module["type"]), folder / _inside(module["path"])) for module in read]


def _kind(reference: str) -> str:
    """The class alone where it is sentence-transformers' own; another is no kind that anything here knows."""
    return reference.rsplit(".", 1)[-1] if reference.startswith(_NAMESPACE) else reference


def _inside(path: str) -> str:
    parts = (*PurePosixPath(path).parts, *PureWindowsPath(path).parts)
    if PureWindowsPath(path).anchor or PurePosixPath(path).is_absolute() or ".." in parts or "\0" in path:
        raise InputError(f"{MODULES}: the path {path!r} leads out of the model folder")
    return path


def transformer_folder(folder: Path) -> Path:
    """The folder of configuration, weights and tokenizer: older sentence-transformers keep them in `0_Transformer`."""
    modules = read_modules(folder)
    if modules and modules[0].kind == "Transformer" and (modules[0].folder / "config.json").is_file():
        return modules[0].folder
    return folder


def read_recipe(folder: Path) -> EmbeddingRecipe:
    """The recipe of a folder; of a plain checkpoint that of sentence-transformers: mean pooling, nothing else."""
    modules = read_modules(folder)
    if not modules:
        return _plain(folder)
    first, *others = modules
    if first.kind != "Transformer":
        raise InputError(f"the embedding model begins with a {first.kind} module, which is not supported")
    odd = next((module.kind for module in others if module.kind not in ("Pooling", *_STEPS)), None)
    if odd is not None:
        raise InputError(
            f"the embedding model has a {odd} module, which is not supported\n"
            f"supported: Transformer, Pooling, {', '.join(_STEPS)}"
        )
    poolings = [module for module in others if module.kind == "Pooling"]
    if len(poolings) != 1 or others[0].kind != "Pooling":
        found = ", ".join(module.kind for module in modules)
        raise InputError(f"{MODULES}: after the Transformer exactly one Pooling must follow\nit has: {found}")
    read = [_STEPS[module.kind](module.folder) for module in others[1:]]
    names, include_prompt = _read_pooling(poolings[0].folder)
    return EmbeddingRecipe(
        poolings=names,
        include_prompt=include_prompt,
        steps=tuple(step for step in read if step is not None),
        **read_transformer(first.folder),
        **_read_config(folder),
    )


def _plain(folder: Path) -> EmbeddingRecipe:
    """Files of sentence-transformers that no modules.json names would be passed over by its own loader: they are refused."""
    left = [CONFIG, *FILES, *(f"{path.parent.name}/config.json" for path in folder.glob("*_Pooling/config.json"))]
    found = next((name for name in left if (folder / name).exists()), None)
    if found is not None:
        raise InputError(
            f"{folder.name} has {found} but no {MODULES}, without which sentence-transformers reads none of it\n"
            "give the whole folder; or the checkpoint alone, with --pooling and --prompt"
        )
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    architectures: Any = config.get("architectures") if isinstance(config, dict) else None
    first = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    causal = first.endswith("ForCausalLM") and config.get("is_causal") is not False
    return EmbeddingRecipe(poolings=("lasttoken" if causal else "mean",))


def _read_pooling(folder: Path) -> tuple[tuple[str, ...], bool]:
    """The poolings and whether a prompt's tokens are among what is pooled."""
    legacy = {key: name for name, key in legacy_keys().items()}
    sizes = ("embedding_dimension", "word_embedding_dimension")
    path = folder / "config.json"
    config = settings(path, {*legacy, *sizes, "pooling_mode", "include_prompt"}, required=True)
    include_prompt = bool(wanted(config, "include_prompt", bool, True))
    if "pooling_mode" in config:
        mode = wanted(config, "pooling_mode", str | list[str], None)
        return known_poolings([mode] if isinstance(mode, str) else mode), include_prompt
    names = [name for key, name in legacy.items() if wanted(config, key, bool, False)]
    return known_poolings(names or ["mean"]), include_prompt


def legacy_keys() -> dict[str, str]:
    """The key of every pooling in the files that all versions of sentence-transformers read."""
    ending = {"cls": "cls_token", "max": "max_tokens", "mean": "mean_tokens", "weightedmean": "weightedmean_tokens"}
    return {name: f"pooling_mode_{ending.get(name, name)}" for name in POOLINGS}


def _read_config(folder: Path) -> dict[str, Any]:
    """Prompts, similarity and kept dimensions; the versions and requirements that a folder was written with play no part."""
    known = (
        "prompts",
        "default_prompt_name",
        "similarity_fn_name",
        "truncate_dim",
        "model_type",
        "__version__",
        "requirements",
    )
    config = settings(folder / CONFIG, known)
    kind = config.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise InputError(
            f"{folder.name} is a {kind}, not a SentenceTransformer: it is not supported as an embedding model"
        )
    prompts = wanted(config, "prompts", dict[str, str | None], {})
    name = wanted(config, "default_prompt_name", str | None, None)
    if name is not None and name not in (*prompts, *_GIVEN_PROMPTS):
        raise InputError(f"{CONFIG}: default_prompt_name is {name!r}, which is none of the prompts")
    similarity = wanted(config, "similarity_fn_name", str | None, None)
    if similarity is not None and similarity not in _SIMILARITIES:
        raise InputError(f"{CONFIG}: similarity_fn_name is {similarity!r}\nsupported: {', '.join(_SIMILARITIES)}")
    dimensions = wanted(config, "truncate_dim", int | None, None)
    if dimensions is not None and dimensions < 1:
        raise InputError(f"{CONFIG}: truncate_dim is {dimensions}, it must be at least 1")
    return {
        "prompts": tuple((key, text or "") for key, text in prompts.items()),
        "default_prompt": name,
        "similarity": similarity,
        "dimensions": dimensions,
    }


def _on_sentence(config: Mapping[str, Any], folder: Path) -> None:
    """InputError where a module reads or writes something else than the sentence embedding."""
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, "sentence_embedding"):
            raise InputError(f"{folder.name}/config.json sets {key} = {config[key]!r}, which is not supported")


def _read_normalize(folder: Path) -> Step:
    _on_sentence(settings(folder / "config.json", ("module_input_name", "module_output_name")), folder)
    return Normalize()


def _read_dropout(folder: Path) -> None:
    settings(folder / "config.json", ("dropout",))


def _read_dense(folder: Path) -> Step:
    sizes = ("in_features", "out_features")
    known = (*sizes, "bias", "activation_function", "module_input_name", "module_output_name", "use_residual")
    config = settings(folder / "config.json", known, required=True)
    _on_sentence(config, folder)
    taken, given = (int(wanted(config, size, int, None)) for size in sizes)
    shapes: dict[str, Sequence[int]] = {"linear.weight": (given, taken)}
    if wanted(config, "bias", bool, True):
        shapes["linear.bias"] = (given,)
    residual = None
    if wanted(config, "use_residual", bool, False):
        residual = "input" if taken == given else "matrix"
    if residual == "matrix":
        shapes["residual.weight"] = (given, taken)
    weights = read_weights(folder, shapes)
    parts = [weights.get(name) for name in ("linear.weight", "linear.bias", "residual.weight")]
    return Dense(
        weight=weights["linear.weight"], bias=parts[1], shortcut=parts[2], residual=residual,
        activation=_activation(config, folder), digest=digest(parts),
    )  # fmt: skip


def _activation(config: Mapping[str, Any], folder: Path) -> str:
    reference = str(wanted(config, "activation_function", str, "torch.nn.modules.activation.Tanh"))
    name = reference.rsplit(".", 1)[-1]
    if not reference.startswith("torch.nn.") or name not in ACTIVATIONS:
        raise InputError(
            f"{folder.name}/config.json: the activation {reference} is not supported\nsupported: {', '.join(ACTIVATIONS)}"
        )
    return name


def _read_layer_norm(folder: Path) -> Step:
    config = settings(folder / "config.json", ("dimension",), required=True)
    size = (int(wanted(config, "dimension", int, None)),)
    weights = read_weights(folder, {"norm.weight": size, "norm.bias": size})
    weight, bias = weights["norm.weight"], weights["norm.bias"]
    return LayerNorm(weight=weight, bias=bias, digest=digest([weight, bias]))


_STEPS: dict[str, Callable[[Path], Step | None]] = {
    "Dense": _read_dense,
    "Dropout": _read_dropout,
    "LayerNorm": _read_layer_norm,
    "Normalize": _read_normalize,
}
