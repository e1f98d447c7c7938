"""Weights of a checkpoint into a transformers model: every one that outputs depend on is stored, or will be trained."""

from collections.abc import Container, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from compiler.families.loading.config import Configuration
from compiler.families.loading.conversions import Conversions
from compiler.families.loading.files import StoredWeights, stored_weights
from compiler.families.loading.headers import StoredTensor, check_memory
from compiler.families.loading.library import label_of, quiet_transformers, refusing
from compiler.families.loading.names import Fit, Shape, Taken, fit_names, layers_of, plain, refuse_foreign_names
from compiler.families.loading.sizes import check_layers, other_head_size
from compiler.families.table import family_of
from compiler.families.tied import tied_names
from compiler.tasks import Task
from targets.errors import InputError

_FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


class Loaded(NamedTuple):
    """A transformers model on the CPU in float32, in evaluation mode; whether its head came from the checkpoint; notes."""

    backbone: nn.Module
    head_trained: bool
    notes: tuple[str, ...]


def load_backbone(folder: Path, configuration: Configuration, task: Task) -> Loaded:
    """A model of a folder: with the head of a task, or the encoder alone.

    Parameters of a head that is not stored are drawn from torch's generator. InputError where weights are missing, damaged,
    of other shapes than the configuration says, or of parts that the model has not. Sizes are compared before memory is taken.
    """
    name, config = label_of(folder), configuration.values
    with refusing(folder, "the weights cannot be loaded"):
        stored = stored_weights(folder)
    refuse_foreign_names(stored.tensors, name)
    surplus = _check_layers(stored.tensors, config, name)
    kind = class_of(config, task)
    skeleton = skeleton_of(kind, config, folder)
    wanted = {key: tuple(parameter.shape) for key, parameter in skeleton.named_parameters()}
    base, conversions = f"{kind.base_model_prefix}.", Conversions(skeleton)
    unread = _left_out(config, base, wanted)
    keys = [key for key in stored.tensors if not _is_surplus(key, config) and plain(key)[0] not in unread]
    fit = fit_names(
        keys, wanted, base, name, parts=lambda text, key: conversions.parts(text, stored.tensors[key].shape),
        tied=_tied_names(config) | tied_names(skeleton),
    )  # fmt: skip
    head_trained, notes = _check_fit(fit, configuration, base, name, task)
    _check_tensors(fit, wanted, stored.tensors, config, name)
    check_memory(sum(parameter.numel() for parameter in skeleton.parameters()), name)
    backbone = family_of(config.model_type).adapted(_filled(folder, kind, config, fit, stored))
    notes = (*notes, *_spelling_notes(fit, stored.tensors, surplus))
    return Loaded(backbone.eval(), head_trained, notes)


def _tied_names(config: Any) -> dict[str, str]:
    """Names of a language model's head that stand for an embedding, where the configuration ties both: one may be stored alone."""
    import transformers

    if not family_of(config.model_type).causal or not config.tie_word_embeddings:
        return {}
    kind: Any = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return dict(kind._tied_weights_keys or {})  # noqa: SLF001  a fact of the class, which has no public name


def class_of(config: Any, task: Task) -> Any:
    """Transformers' class for a configuration and a task. InputError where the type has none."""
    import transformers

    auto: Any = getattr(transformers, task.auto_class)
    kind = auto._model_mapping.get(type(config), None)  # noqa: SLF001  what `from_config` reads; it has no public name
    if kind is None:
        raise InputError(f"transformers has no class of {config.model_type} for {task.words}\nuse another model type")
    if task.causal and (
        not family_of(config.model_type).causal or getattr(config, "use_bidirectional_attention", False)
    ):
        raise InputError(
            f"tokens of a {config.model_type} see those after them, and {task.words} is to predict these\n"
            "use --task masked_lm or embedding, or a decoder"
        )
    return kind[0] if isinstance(kind, tuple) else kind


def skeleton_of(kind: Any, config: Any, folder: Path) -> nn.Module:
    """The model without memory for its parameters. InputError where its layers are not those that the configuration says."""
    quiet, aside, on_meta = quiet_transformers(), torch.random.fork_rng(devices=[]), torch.device("meta")
    with quiet, aside, on_meta, refusing(folder, "the model cannot be built"):
        model: nn.Module = kind(config)
    check_layers(model, config, f"{label_of(folder)}/config.json")
    return model


def _check_layers(tensors: Mapping[str, StoredTensor], config: Any, name: str) -> str | None:
    """A note where the file has layers that the configuration leaves out; InputError where it has too few."""
    found, declared = layers_of(tensors), config.num_hidden_layers
    if found < declared:
        raise InputError(
            f"{name}: weights are missing from the checkpoint: it has {found} layers, config.json says {declared}"
        )
    return f"config.json says {declared} layers: the first of {found} in the file" if found > declared else None


def _left_out(config: Any, base: str, wanted: Container[str]) -> frozenset[str]:
    """Names of weights that a checkpoint may hold and its settings do not use."""
    known = {way for name in family_of(config.model_type).left_out for way in (name, base + name)}
    return frozenset() if any(name in wanted for name in known) else frozenset(known)


def _is_surplus(key: str, config: Any) -> bool:
    return layers_of([key]) > int(config.num_hidden_layers)


def _check_fit(
    fit: Fit, configuration: Configuration, base: str, name: str, task: Task
) -> tuple[bool, tuple[str, ...]]:
    """Whether the head is stored, and notes. InputError where weights that outputs depend on are not all stored."""
    outside = [key for key in (*fit.sources, *fit.missing) if task.head and not key.startswith(base)]
    pooler = [key for key in fit.missing if "pooler." in key]
    lost = [key for key in fit.missing if key not in outside and key not in pooler]
    if lost or fit.unread:
        _refuse_encoder(lost, fit, name)
    if not task.head:
        return True, ()
    absent = [key for key in outside if key in fit.missing]
    if absent and (len(absent) < len(outside) or task.pretrained_head):
        raise InputError(f"{name}: the head is incomplete: {absent[0]} is missing from the checkpoint")
    if not absent:
        _refuse_undeclared_head(outside, configuration, name, task)
    elif fit.other and configuration.head.of(task):
        raise InputError(
            f"{name}: {absent[0]} is missing from the checkpoint, and {fit.other[0]} belongs nowhere: its head is not the "
            f"one of {configuration.head.name}"
        )
    return not absent, _pooler_notes(pooler, fit, name, head_trained=not absent)


def _refuse_encoder(lost: list[str], fit: Fit, name: str) -> None:
    odd = [*fit.unread, *fit.other]
    where = f"{odd[0]} belongs nowhere" if odd else ""
    if not lost:
        raise InputError(
            f"{name}: the model has no place for {_first_of(fit.unread)}: the weights are of another model than config.json"
        )
    raise InputError(
        f"{name}: {len(lost)} weights are missing from the checkpoint, {lost[0]} among them"
        + (f"\n{where}" if where else "")
    )


def _refuse_undeclared_head(outside: list[str], configuration: Configuration, name: str, task: Task) -> None:
    """InputError where a head is stored that `architectures` does not declare: nobody says what its outputs are."""
    if not configuration.head.of(task) and (not configuration.head.kind or configuration.head.pretrained):
        kind = type(configuration.values).__name__.removesuffix("Config")
        raise InputError(
            f"{name}: the weights have a head ({outside[0]}), and config.json declares none\n"
            f'if it is one for {task.words}, say "architectures": ["{kind}For{task.head}"] and name its outputs in '
            "id2label; else leave it out"
        )


def _pooler_notes(missing: list[str], fit: Fit, name: str, *, head_trained: bool) -> tuple[str, ...]:
    """A note where BERT's pooler will be trained with the head. InputError where a trained head reads one that is not stored."""
    if not missing:
        return ()
    if head_trained or any("pooler." in key for key in fit.sources):
        raise InputError(f"{name}: {missing[0]} is missing from the checkpoint, which its trained head reads")
    return ("the checkpoint has no pooler: it is drawn at random and trained with the head",)


def _check_tensors(
    fit: Fit, wanted: Mapping[str, Shape], tensors: Mapping[str, StoredTensor], config: Any, name: str
) -> None:
    """InputError where a stored weight has another shape than the configuration gives it, or is no floating-point number.

    Of several with other shapes, the first is named that the size of heads explains.
    """
    for key in fit.taken:
        if (dtype := tensors[key].dtype) not in _FLOATS:
            raise InputError(f"{name}: weight {key} is of type {dtype}\ngive the model before quantisation")
    sources, odd = fit.sources, dict[str, str]()
    for parameter in (each for each in wanted if each in sources):
        parameters = fit.taken[sources[parameter]].parameters
        shape = parameters[parameter]
        if shape != wanted[parameter]:
            part = "has" if len(parameters) == 1 else f"gives {parameter}"
            found = (
                f"{sources[parameter]} {part} the shape {list(shape)}, config.json makes it {list(wanted[parameter])}"
            )
            odd.setdefault(other_head_size(parameter, shape, config), found)
    if odd:
        explained = next((each for each in odd if each), "")
        raise InputError(f"{name}: the weights cannot be loaded: {odd[explained]}{explained}")


def _filled(folder: Path, kind: Any, config: Any, fit: Fit, stored: StoredWeights) -> nn.Module:
    """Fill the model by transformers' own code from checked files: that never sees the folder, an index or anything but these tensors."""
    from safetensors import safe_open

    with ExitStack() as stack, quiet_transformers(), refusing(folder, "the weights cannot be loaded"):
        used = sorted({stored.files[key] for key in fit.taken})
        files = {path: stack.enter_context(safe_open(path, framework="pt", device="cpu")) for path in used}
        state = {_given(taken): files[stored.files[key]].get_slice(key) for key, taken in fit.taken.items()}
        model, info = kind.from_pretrained(
            None,
            config=config,
            state_dict=state,
            dtype=torch.float32,
            attn_implementation=family_of(config.model_type).implementation,
            output_loading_info=True,
        )
    drawn = set(info["missing_keys"]) - set(fit.missing)
    if drawn or info["unexpected_keys"] or info["mismatched_keys"] or info["error_msgs"]:
        raise InputError(f"{label_of(folder)}: the weights cannot be loaded: transformers did not take all of them")
    model.config.name_or_path = str(folder)
    filled: nn.Module = model
    return filled


def _given(taken: Taken) -> str:
    """Under which name transformers gets a stored weight: that of its parameter, or its own where that is split on loading."""
    return next(iter(taken.parameters)) if len(taken.parameters) == 1 else taken.name


def _spelling_notes(fit: Fit, tensors: Mapping[str, StoredTensor], surplus: str | None) -> tuple[str, ...]:
    notes = [surplus] if surplus else []
    if fit.dropped:
        notes.append(
            f"names of the weights were read without {', '.join(sorted(fit.dropped))}, which a wrapper put there"
        )
    types = {_FLOATS[tensors[key].dtype] for key in fit.sources.values()} - {"float32"}
    if types:
        notes.append(f"the weights are stored as {', '.join(sorted(types))} and computed with in float32")
    if fit.other:
        notes.append(f"weights outside the encoder are not used: {_first_of(fit.other)}")
    return tuple(notes)


def _first_of(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def refuse_nan(model: nn.Module, folder: Path) -> None:
    """InputError naming the first weight that is not finite."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise InputError(f"{label_of(folder)}: weight {name} holds NaN or infinite values")


def drop_unused_pooler(model: nn.Module) -> None:
    """An embedding model pools over tokens; BERT's own tanh pooler is dead weight in its graph."""
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # type: ignore[assignment]
