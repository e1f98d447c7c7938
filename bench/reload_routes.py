"""The routes by which users load an artefact: what each installs, and a script for each task that runs without paretoc.

A script is given `folder` and `sentences` and leaves `found`: sentence embeddings or logits, [sentences, values].
"""

from collections.abc import Mapping
from typing import NamedTuple


class Route(NamedTuple):
    """What is installed, and the script of each task it can load; `trains` where what it loaded can be trained further."""

    packages: tuple[str, ...]
    scripts: Mapping[str, str]
    trains: bool = False


START = """
import json, sys
import numpy as np
folder, sentences = json.loads(sys.argv[1])
told = {}
"""

END = """
print(json.dumps({"found": np.asarray(found).tolist(), **told}))
"""

TRAIN = """
import torch
auto = AutoModel if task == "embedding" else AutoModelForSequenceClassification
model.train()
before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
model(**inputs)[0].square().mean().backward()
torch.optim.SGD(model.parameters(), lr=0.1).step()
unmoved = [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
model.save_pretrained("trained")
again = auto.from_pretrained("trained", trust_remote_code=True)
same = all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True))
told = {"parameters": len(before), "unmoved": unmoved, "same_after_saving": same}
"""
"""One optimiser step, saved, loaded again."""

_ONNXRUNTIME = """
import onnxruntime
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
tokenizer.enable_padding()
encoded = tokenizer.encode_batch(sentences)
session = onnxruntime.InferenceSession(f"{folder}/model.onnx")
given = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
inputs = {i.name: np.array([getattr(e, given[i.name]) for e in encoded]) for i in session.get_inputs()}
found = session.run(None, inputs)[-1]
"""

_TOKENS = """
from transformers import AutoTokenizer
inputs = AutoTokenizer.from_pretrained(folder)(sentences, padding=True, return_tensors="pt")
"""

_POOL = """
mask = inputs["attention_mask"][..., None]
pooled = (tokens * mask).sum(1) / mask.sum(1)
found = (pooled / pooled.norm(dim=1, keepdim=True)).detach()
"""

_OPTIMUM = """
from optimum.onnxruntime import {name}
model = {name}.from_pretrained(folder, file_name="model.onnx")
"""

_TRANSFORMERS = """
from transformers import AutoModel, AutoModelForSequenceClassification
model = {name}.from_pretrained(folder, trust_remote_code=True)
"""

ROUTES = {
    "onnxruntime": Route(
        ("onnxruntime", "tokenizers", "numpy"), {"embedding": _ONNXRUNTIME, "classification": _ONNXRUNTIME}
    ),
    "optimum": Route(
        ("optimum-onnx[onnxruntime]",),
        {
            "embedding": _TOKENS
            + _OPTIMUM.format(name="ORTModelForFeatureExtraction")
            + "tokens = model(**inputs)[0]"
            + _POOL,
            "classification": _TOKENS
            + _OPTIMUM.format(name="ORTModelForSequenceClassification")
            + "found = model(**inputs).logits\n",
        },
    ),
    "sentence-transformers": Route(
        ("sentence-transformers",),
        {
            "embedding": """
from sentence_transformers import SentenceTransformer
found = SentenceTransformer(folder, trust_remote_code=True).encode(sentences)
"""
        },
    ),
    "sentence-transformers-onnx": Route(
        ("sentence-transformers[onnx]",),
        {
            "embedding": """
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(folder, backend="onnx", model_kwargs={"file_name": "model.onnx"}, trust_remote_code=True)
found = model.encode(sentences)
"""
        },
    ),
    "transformers": Route(
        ("torch", "transformers", "numpy"),
        {
            "embedding": _TOKENS + _TRANSFORMERS.format(name="AutoModel") + "tokens = model(**inputs)[0]" + _POOL,
            "classification": _TOKENS
            + _TRANSFORMERS.format(name="AutoModelForSequenceClassification")
            + "found = model(**inputs).logits.detach()\n",
        },
        trains=True,
    ),
}


def script(route: Route, task: str) -> str:
    """All of what a process runs."""
    training = f"task = {task!r}\n{TRAIN}" if route.trains else ""
    return START + route.scripts[task] + training + END
