"""Names of stored weights against those of the model that they are for: wrappers and old spellings are dropped by rule."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from compiler.families.loading.headers import StoredTensor
from targets.errors import InputError

_LEADING = ("module", "model", "auto_model", "0")
"""Put before every name by DistributedDataParallel, by training loops, and by sentence-transformers."""

_ANYWHERE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Put into names by torch.compile, FSDP and activation checkpointing."""

_OLD = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
_BUFFERS = ("position_ids", "token_type_ids", "inv_freq")
_PRETRAINING = (
    "cls.", "lm_head.", "qa_outputs.", "vocab_", "discriminator_predictions.", "generator_", "mlm.", "loss_fct.",
)  # fmt: skip
_QUANTISED = re.compile(
    r"\.(qweight|qzeros|g_idx|scales|SCB|absmax|quant_map|nested_absmax|weight_format"
    r"|weight_packed|weight_scale|weight_scale_inv|input_scale)$|quant_state"
)
_EXPERTS = re.compile(r"\.experts?\.|block_sparse_moe|\.router\.")
_ADAPTERS = re.compile(r"lora_|\.adapters?\.|base_model\.model\.|ia3_|prefix_encoder|prompt_embeddings")


Shape = tuple[int, ...]


class Taken(NamedTuple):
    """A stored weight that is used: its name without wrappers, and shapes of the parameters that it becomes, by name."""

    name: str
    parameters: Mapping[str, Shape]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How stored weights fill a model.

    `taken` is by name of a stored weight what becomes of it. `missing` parameters have none; `unread` stored
    weights belong to the encoder and no parameter takes them; `other` lie outside it: heads that are not this one.
    """

    taken: Mapping[str, Taken]
    missing: tuple[str, ...]
    unread: tuple[str, ...]
    other: tuple[str, ...]
    dropped: frozenset[str]

    @property
    def sources(self) -> dict[str, str]:
        """By parameter, the name of the stored weight that it comes from."""
        return {parameter: key for key, taken in self.taken.items() for parameter in taken.parameters}


Parts = Callable[[str, str], Mapping[str, Shape]]
"""What a stored weight becomes, from its name without wrappers and as it is stored: shapes of parameters, of the encoder or of
the whole model, by name."""


def as_stored(text: str, _: str) -> Mapping[str, Shape]:
    """The rule of most families: a stored weight is a parameter."""
    return {text: ()}


def plain(name: str) -> tuple[str, frozenset[str]]:
    """A stored name without what wrappers put into it, in today's spelling; and what was dropped."""
    parts = name.split(".")
    kept = [part for part in parts if part not in _ANYWHERE]
    first = next((i for i, part in enumerate(kept) if part not in _LEADING), 0)
    text = ".".join(kept[first:])
    for old, new in _OLD.items():
        if text.endswith(old):
            text = text.removesuffix(old) + new
    return text, frozenset({*kept[:first], *(part for part in parts if part in _ANYWHERE)})


def fit_names(
    stored: Iterable[str],
    wanted: Iterable[str],
    base: str,
    name: str,
    *,
    parts: Parts = as_stored,
    tied: Mapping[str, str] | None = None,
) -> Fit:
    """Match stored names with those of a model whose encoder lies under `base` ("bert."), in either; empty for the encoder alone.

    `parts` says what a weight is split into. `tied` are names under which a parameter may be stored where its own is not there.
    InputError where two stored weights are for one parameter; `name` is what messages call the folder.
    """
    expected, keys = list(wanted), list(stored)
    known, sources = set(expected), dict[str, str]()
    found = {key: _taken(key, known, base, parts) for key in keys}
    found |= _tied(found, known, base, parts, tied or {})
    taken = {key: use for key, use in found.items() if use is not None}
    for key, use in taken.items():
        for parameter in use.parameters:
            if parameter in sources:
                raise InputError(f"{name}: two weights are for {parameter}: {sources[parameter]} and {key}")
            sources[parameter] = key
    inside = [part for part in expected if part.startswith(base)] or expected
    encoder = {part.removeprefix(base).split(".")[0] for part in inside}
    spare = {key for key in keys if plain(key)[0] in (tied or {})}
    rest = {
        key: next(iter(parts(plain(key)[0], key))).removeprefix(base)
        for key in keys
        if key not in taken and key not in spare
    }
    unread = [key for key, text in rest.items() if _is_of_encoder(text, encoder)]
    return Fit(
        taken=taken,
        missing=tuple(key for key in expected if key not in sources),
        unread=tuple(unread),
        other=tuple(key for key, text in rest.items() if key not in unread and not _is_known(text)),
        dropped=frozenset({part for key in taken if key not in known for part in plain(key)[1]} - {base[:-1]}),
    )


def _taken(key: str, known: set[str], base: str, parts: Parts) -> Taken | None:
    """What becomes of a stored weight; None where the model has no place for it.

    As in transformers, a name is changed by rule where that leads to parameters, and else taken as it is.
    """
    text = key if key in known else plain(key)[0]
    made = parts(text, key)
    for found in (made, {text: next(iter(made.values()))}):
        places = {_place(part, known, base): shape for part, shape in found.items()}
        if None not in places:
            return Taken(text, {place: shape for place, shape in places.items() if place is not None})
    return None


def _place(text: str, known: set[str], base: str) -> str | None:
    return next((way for way in (text, base + text, text.removeprefix(base)) if way in known), None)


def _tied(
    found: Mapping[str, Taken | None], known: set[str], base: str, parts: Parts, tied: Mapping[str, str]
) -> dict[str, Taken]:
    """Stored weights for parameters that are stored under the name of another one, with which they are tied."""
    filled = {parameter for use in found.values() if use is not None for parameter in use.parameters}
    places = {alias: _place(parameter, known, base) for alias, parameter in tied.items()}
    return {
        key: Taken(plain(key)[0], {place: next(iter(parts(plain(key)[0], key).values()))})
        for key, use in found.items()
        if use is None and (place := places.get(plain(key)[0])) is not None and place not in filled
    }


def _is_of_encoder(text: str, parts: set[str]) -> bool:
    first, last = text.split(".", maxsplit=1)[0], text.rsplit(".", 1)[-1]
    return first in parts and first != "pooler" and last not in _BUFFERS


def _is_known(text: str) -> bool:
    """Whether a weight outside the encoder plays no part for a known reason: a buffer, BERT's pooler, a head of pre-training."""
    return text.rsplit(".", 1)[-1] in _BUFFERS or text.startswith(("pooler.", *_PRETRAINING))


def refuse_foreign_names(stored: Mapping[str, StoredTensor], name: str) -> None:
    """InputError where names are those of quantised weights, of adapters that were not merged, or of experts."""
    if quantised := next((key for key in stored if _QUANTISED.search(key)), None):
        raise InputError(
            f"{name}: the weights are quantised ({quantised}) and cannot be cut\n"
            "give the model before quantisation; --target NAME:int8 quantises here"
        )
    if adapter := next((key for key in stored if _ADAPTERS.search(key)), None):
        raise InputError(
            f"{name}: the weights hold an adapter that is not merged ({adapter})\n"
            "merge it first: peft's model.merge_and_unload().save_pretrained('FOLDER')"
        )
    if experts := next((key for key in stored if _EXPERTS.search(key)), None):
        raise InputError(
            f"{name}: the weights are a mixture of experts ({experts}); that is not supported\n"
            "give a dense model: one whose layers have one FFN each"
        )


def layers_of(stored: Iterable[str]) -> int:
    """One more than the highest number of a layer in stored names; 0 where there is none."""
    found = [re.search(r"(?:^|\.)layers?\.(\d{1,9})\.", key) for key in stored]
    return max((int(match[1]) + 1 for match in found if match), default=0)
