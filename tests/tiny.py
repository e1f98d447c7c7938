"""Tiny random checkpoints of every family: real transformers classes, real tokenizers, seconds to build."""

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn

from compiler.families import Architecture, Checkpoint, load_checkpoint
from compiler.spaces import QueryHeads, Subnet
from compiler.tasks import Batches, encode, task_named

MODEL_TYPES = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert")
"""Those whose layers are BERT's, of which networks with fewer residual dimensions are made as well."""

NEWER = {
    "mpnet": {"pad_token_id": 1},
    "deberta-v2": {
        "relative_attention": True, "position_buckets": 16, "norm_rel_ebd": "layer_norm", "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0, "position_biased_input": False, "max_relative_positions": -1,
    },
    "nomic_bert": {},
    "gte": {},
    "jina_embeddings_v3": {"pad_token_id": 1},
    "modernbert": {"global_attn_every_n_layers": 3, "local_attention": 8, "cls_token_id": 2, "sep_token_id": 3},
    "llama": {"num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 36, "head_dim": 4},
    "mistral": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8},
    "seed_oss": {"num_key_value_heads": 2, "head_dim": 8},
    "qwen3": {"num_attention_heads": 12, "num_key_value_heads": 6, "head_dim": 16},
    "eurobert": {"num_key_value_heads": 2, "head_dim": 8, "mask_token_id": 4},
    "gemma3_text": {
        "num_key_value_heads": 1, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
}  # fmt: skip
"""What a tiny configuration of every other type needs beside its sizes.

Llama has 3 groups of 3 query heads, Gemma 1 of 4, Qwen3 so many groups that only whole ones are cut.
"""

ALL_TYPES = (*MODEL_TYPES, *NEWER)
LAYERS, HEADS, HIDDEN, UNITS, VOCABULARY = 3, 4, 32, 48, 200
SIZES = {
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "hidden_size": HIDDEN,
    "intermediate_size": UNITS,
    "max_position_embeddings": 66,
    "vocab_size": VOCABULARY,
}
DISTILBERT = {
    "n_layers": LAYERS,
    "n_heads": HEADS,
    "dim": HIDDEN,
    "hidden_dim": UNITS,
    "max_position_embeddings": 66,
    "vocab_size": VOCABULARY,
}
WORDS = [
    "the",
    "a",
    "of",
    "to",
    "and",
    "in",
    "is",
    "was",
    "for",
    "on",
    "that",
    "with",
    "as",
    "by",
    "at",
    "from",
    "it",
    "this",
    "are",
    "be",
    "not",
    "or",
    "an",
    "which",
    "can",
    "has",
    "were",
    "their",
    "more",
    "one",
    "film",
    "food",
    "price",
    "train",
    "great",
    "awful",
    "warm",
    "cold",
    "early",
    "late",
    "north",
    "south",
    "city",
    "river",
    "market",
    "doctor",
    "teacher",
    "student",
    "music",
    "water",
    "light",
    "paper",
    "stone",
    "glass",
    "green",
    "red",
    "blue",
    "small",
    "large",
    "quick",
    "slow",
    "open",
    "close",
    "buy",
    "sell",
    "win",
    "lose",
    "rise",
    "fall",
    "good",
    "bad",
]


def tiny_config(model_type: str, **extra: Any) -> Any:
    from transformers import CONFIG_MAPPING

    sizes = DISTILBERT if model_type == "distilbert" else SIZES
    if model_type == "electra":
        extra = {"embedding_size": 16, **extra}
    if model_type in NEWER:
        extra = {"bos_token_id": 2, "eos_token_id": 3, **NEWER[model_type], **extra}
    extra = {"pad_token_id": 1 if "roberta" in model_type or model_type == "camembert" else 0, **extra}
    return CONFIG_MAPPING[model_type](**{**sizes, **extra})


def tiny_tokenizer(model_type: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    roberta = "roberta" in model_type or model_type in {"camembert", "mpnet"}
    special = ["<s>", "<pad>", "</s>", "<unk>"] if roberta else ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    cls, sep = ("<s>", "</s>") if roberta else ("[CLS]", "[SEP]")
    pad, unk = ("<pad>", "<unk>") if roberta else ("[PAD]", "[UNK]")
    vocabulary = {word: i for i, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unk))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    pairs = f"{cls} $A {sep} $B:1 {sep}:1" if not roberta else f"{cls} $A {sep} $B {sep}"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}", pair=pairs, special_tokens=[(cls, vocabulary[cls]), (sep, vocabulary[sep])]
    )
    names = ["input_ids", "attention_mask"]
    if model_type in {"bert", "electra", "nomic_bert"}:
        names.insert(1, "token_type_ids")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token=cls, sep_token=sep, pad_token=pad, unk_token=unk,
        model_max_length=64, model_input_names=names,
    )  # fmt: skip


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Every parameter random, norms and biases included: a test that zero biases would pass must be able to fail."""
    generator = torch.Generator().manual_seed(seed)
    kinds = {type(module).__name__ for module in model.modules()}
    centre = 0 if any(kind.startswith("Gemma") for kind in kinds) else 1  # Gemma keeps a scale as its difference from 1
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            is_scale = "norm" in name.lower() and name.endswith("weight")
            parameter.copy_(centre + 0.3 * noise if is_scale else 0.25 * noise)


def save_tiny(
    folder: Path, model_type: str = "bert", *, labels: int | None = None, task: str = "", seed: int = 0, **extra: Any
) -> Path:
    """A checkpoint folder: an embedding encoder, or with `labels` a classifier, or with a task its head, (random) as if trained."""
    import transformers

    task = task or ("embedding" if labels is None else "classification")
    if labels is not None:
        extra = {"num_labels": labels, **extra}
    task = task or ("embedding" if labels is None else "classification")
    model = getattr(transformers, task_named(task).auto_class).from_config(tiny_config(model_type, **extra))
    randomise(model, seed)
    model.save_pretrained(folder)
    tokenizer = tiny_tokenizer(model_type)
    if task == "masked_lm":
        tokenizer.add_special_tokens({"mask_token": "[MASK]"})
    tokenizer.save_pretrained(folder)
    return folder


def tiny_checkpoint(folder: Path, model_type: str = "bert", *, task: str = "embedding", labels: int = 3) -> Checkpoint:
    names = [f"class {i}" for i in range(labels)] if task == "classification" else None
    pretrained = task_named(task).pretrained_head
    save_tiny(folder, model_type, task=task if pretrained else None)
    checkpoint = load_checkpoint(str(folder), task=task, label_names=names)
    randomise(checkpoint.model, seed=1)
    return checkpoint


def cut(
    architecture: Architecture, heads: Iterable[Iterable[int]], units: Iterable[Iterable[int]], *queries: int
) -> Subnet:
    """A sub-network; where query heads are cut apart, `queries` says how many every group of a layer keeps (all, if left out).

    Groups keep other ones, each from its own number on.
    """
    heads, most = [list(layer) for layer in heads], architecture.queries
    if architecture.apart is None:
        return Subnet.of(heads, units)
    counts = queries or (most,) * len(heads)
    kept = tuple(
        tuple(tuple(sorted((group + i) % most for i in range(count))) for group in layer)
        for layer, count in zip(heads, counts, strict=True)
    )
    return Subnet.of(heads, units, queries=QueryHeads(whole=architecture.apart, kept=kept))


def some_batches(checkpoint: Checkpoint) -> Batches:
    """Fifty random texts of 3 to 19 words."""
    rng = random.Random(0)
    return encode(checkpoint, [(" ".join(rng.choices(WORDS, k=rng.randint(3, 19))),) for _ in range(50)], max_tokens=32)
