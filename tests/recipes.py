"""Small sentence-transformers folders in old and new forms, and what sentence-transformers itself makes of them."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import normalizers

from compiler.families import load_checkpoint
from compiler.tasks import encode
from tests.tiny import WORDS, randomise, tiny_tokenizer

HIDDEN = 16
TEXTS = (
    "The film was great",
    "cold water",
    "a",
    "The doctor was in the city by the river and the market was open to the student",
    " ".join(WORDS[:50]),
)


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def save_encoder(folder, model_type="bert", *, limit=64, **config):
    """A random encoder of one layer with a tokenizer that tells cases apart: it knows words in lower case only."""
    from transformers import CONFIG_MAPPING, AutoModel

    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": HIDDEN, "intermediate_size": 24}
    pad = {"pad_token_id": 1 if "roberta" in model_type else 0}
    config = {"max_position_embeddings": 66, "vocab_size": 200, **sizes, **pad, **config}
    model = AutoModel.from_config(CONFIG_MAPPING[model_type](**config))
    randomise(model)
    model.save_pretrained(folder)
    tokenizer = tiny_tokenizer(model_type)
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([])
    tokenizer.model_max_length = limit
    tokenizer.save_pretrained(folder)
    return folder


def modules(folder, *kinds, namespace="sentence_transformers.models", first=""):
    """modules.json with a folder for each module after the first."""
    paths = [first, *(f"{i}_{kind}" for i, kind in enumerate(kinds[1:], start=1))]
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"{namespace}.{kind}"}
        for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    write(folder / "modules.json", listed)
    for path in paths[1:]:
        (folder / path).mkdir(exist_ok=True)


def pooling(folder, path="1_Pooling", **settings):
    write(folder / path / "config.json", {"word_embedding_dimension": HIDDEN, **settings})


def weights(folder, **tensors):
    """Random weights of a module by shape; a double underscore stands for a dot."""
    generator = torch.Generator().manual_seed(1)
    named = {name.replace("__", "."): 0.2 * torch.randn(*shape, generator=generator) for name, shape in tensors.items()}
    save_file(named, folder / "model.safetensors")


def dense(folder, path, taken, given, activation="torch.nn.modules.activation.Tanh", *, bias=True, **more):
    (folder / path).mkdir(exist_ok=True)
    write(
        folder / path / "config.json",
        {"in_features": taken, "out_features": given, "bias": bias, "activation_function": activation, **more},
    )
    tensors = {"linear__weight": (given, taken)} | ({"linear__bias": (given,)} if bias else {})
    if more.get("use_residual") and taken != given:
        tensors["residual__weight"] = (given, taken)
    weights(folder / path, **tensors)


def sentence_embeddings(folder, texts=TEXTS, *, trust=False, alone=False):
    """What sentence-transformers gives; `alone` embeds each text by itself."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", trust_remote_code=trust, local_files_only=True)
    return np.concatenate([model.encode([text]) for text in texts]) if alone else model.encode(list(texts))


def load(folder, **options):
    return load_checkpoint(str(folder), task="embedding", **options)


def embeddings(checkpoint, texts=TEXTS):
    """What our model gives, in PyTorch."""
    batches = encode(checkpoint, [(text,) for text in texts], max_tokens=checkpoint.max_tokens)
    return batches.outputs(lambda inputs: checkpoint.model(**inputs)[-1])


def edit(path: Path, **changes):
    """Change keys of a JSON object in a file."""
    write(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})
