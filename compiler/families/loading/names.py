"""Names of stored weights against those of the model that they are for: wrappers and old spellings are dropped by rule."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from compiler.families.loading.headers import StoredTensor
from targets.errors import InputError

_LEADING = ("module", "model", "auto_model", "0")
"""Put before every name by DistributedDataParallel, by training loops, and by sentence-transformers."""

_ANYWHERE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Put into names by torch.compile, FSDP and activation checkpointing."""

_OLD = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
_BUFFERS = ("position_ids", "token_type_ids")
_PRETRAINING = (
    "cls.", "lm_head.", "qa_outputs.", "vocab_", "discriminator_predictions.", "generator_", "mlm.", "loss_fct.",
)  # fmt: skip
_QUANTISED = re.compile(
    r"\.(qweight|qzeros|g_idx|scales|SCB|absmax|quant_map|nested_absmax|weight_format)$|quant_state"
)
_ADAPTERS = re.compile(r"lora_|\.adapters?\.|base_model\.model\.|ia3_|prefix_encoder|prompt_embeddings")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How stored weights fill a model.

    `sources` is by parameter of the model the name of its stored weight. `missing` parameters have none; `unread` stored
    weights belong to the encoder and no parameter takes them; `other` lie outside it: heads that are not this one.
    """

    sources: Mapping[str, str]
    missing: tuple[str, ...]
    unread: tuple[str, ...]
    other: tuple[str, ...]
    dropped: frozenset[str]


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


def fit_names(stored: Iterable[str], wanted: Iterable[str], base: str, name: str) -> Fit:
    """Match stored names with those of a model whose encoder lies under `base` ("bert."), in either; empty for the encoder alone.

    InputError where two stored weights are for one parameter; `name` is what messages call the folder.
    """
    expected = list(wanted)
    known, sources, dropped, rest = set(expected), dict[str, str](), set[str](), list[str]()
    for key in stored:
        text, gone = plain(key)
        text = key if key in known else text
        found = next((way for way in (text, base + text, text.removeprefix(base)) if way in known), None)
        if found is None:
            rest.append(key)
        elif found in sources:
            raise InputError(f"{name}: two weights are for {found}: {sources[found]} and {key}")
        else:
            sources[found] = key
            dropped |= gone if key not in known else set()
    inside = [part for part in expected if part.startswith(base)] or expected
    encoder = {part.removeprefix(base).split(".")[0] for part in inside}
    unread = [key for key in rest if _is_of_encoder(plain(key)[0].removeprefix(base), encoder)]
    return Fit(
        sources=sources,
        missing=tuple(key for key in expected if key not in sources),
        unread=tuple(unread),
        other=tuple(key for key in rest if key not in unread and not _is_known(plain(key)[0].removeprefix(base))),
        dropped=frozenset(dropped),
    )


def _is_of_encoder(text: str, parts: set[str]) -> bool:
    first, last = text.split(".", maxsplit=1)[0], text.rsplit(".", 1)[-1]
    return first in parts and first != "pooler" and last not in _BUFFERS


def _is_known(text: str) -> bool:
    """Whether a weight outside the encoder plays no part for a known reason: a buffer, BERT's pooler, a head of pre-training."""
    return text.rsplit(".", 1)[-1] in _BUFFERS or text.startswith(("pooler.", *_PRETRAINING))


def refuse_foreign_names(stored: Mapping[str, StoredTensor], name: str) -> None:
    """InputError where names are those of quantised weights or of adapters that were not merged."""
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


def layers_of(stored: Iterable[str]) -> int:
    """One more than the highest number of a layer in stored names; 0 where there is none."""
    found = [re.search(r"(?:^|\.)layers?\.(\d{1,9})\.", key) for key in stored]
    return max((int(match[1]) + 1 for match in found if match), default=0)
