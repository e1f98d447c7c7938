"""One artefact loaded by every route a user may take, each in a virtual environment of its own that lacks paretoc.

    python bench/reload.py --json bench/results/reload.json
    python bench/reload.py --routes onnxruntime --pip "--extra-index-url https://download.pytorch.org/whl/cpu"

The artefact is cut from all-MiniLM-L6-v2 on the device without a clock. What a route makes of a few sentences is held
against our own loader's embeddings; a route that fails keeps the last line of its error.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from output import write_json

from compiler.export import load_sliced

SENTENCES = ["A small river.", "The train was late again, and nobody told us why.", "Glass is made of sand."]

_START = "import json, sys\nimport numpy as np\nfolder, sentences = json.loads(sys.argv[1])\n"
_END = "\nprint(json.dumps(np.asarray(found).tolist()))\n"


class Route(NamedTuple):
    """What is installed, and the lines that turn `sentences` into `found`."""

    packages: tuple[str, ...]
    code: str


ROUTES = {
    "onnxruntime": Route(
        ("onnxruntime", "tokenizers", "numpy"),
        """
import onnxruntime
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
tokenizer.enable_padding()
encoded = tokenizer.encode_batch(sentences)
session = onnxruntime.InferenceSession(f"{folder}/model.onnx")
given = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
inputs = {i.name: np.array([getattr(e, given[i.name]) for e in encoded]) for i in session.get_inputs()}
found = session.run(["sentence_embedding"], inputs)[0]
""",
    ),
    "optimum": Route(
        ("optimum-onnx[onnxruntime]",),
        """
from optimum.onnxruntime import ORTModelForFeatureExtraction
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(folder)
model = ORTModelForFeatureExtraction.from_pretrained(folder, file_name="model.onnx")
inputs = tokenizer(sentences, padding=True, return_tensors="pt")
tokens, mask = model(**inputs)[0], inputs["attention_mask"][..., None]
pooled = (tokens * mask).sum(1) / mask.sum(1)
found = pooled / pooled.norm(dim=1, keepdim=True)
""",
    ),
    "sentence-transformers": Route(
        ("sentence-transformers",),
        """
from sentence_transformers import SentenceTransformer
found = SentenceTransformer(folder, trust_remote_code=True).encode(sentences)
""",
    ),
    "sentence-transformers-onnx": Route(
        ("sentence-transformers[onnx]",),
        """
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(folder, backend="onnx", model_kwargs={"file_name": "model.onnx"}, trust_remote_code=True)
found = model.encode(sentences)
""",
    ),
    "transformers": Route(
        ("torch", "transformers", "numpy"),
        """
from torch import no_grad
from transformers import AutoModel, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(folder)
inputs = tokenizer(sentences, padding=True, return_tensors="pt")
with no_grad():
    tokens = AutoModel.from_pretrained(folder, trust_remote_code=True)(**inputs)[0]
mask = inputs["attention_mask"][..., None]
pooled = (tokens * mask).sum(1) / mask.sum(1)
found = pooled / pooled.norm(dim=1, keepdim=True)
""",
    ),
}


def compile_one(root: Path) -> Path:
    """The folder of a network cut from the embedded model."""
    command = [sys.executable, "-m", "compiler", "--demo", "--target", "null", "--evaluations", "24", "--winners", "1"]
    subprocess.run([*command, "--quiet", "--out", str(root / "out")], check=True)
    return (root / "out" / "best").resolve()


def expected(folder: Path) -> Any:
    """Our own loader's embeddings."""
    loaded = load_sliced(folder)
    inputs = loaded.tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.inference_mode():
        return loaded.model(**inputs)[-1].numpy()


def tried(route: Route, folder: Path, wanted: Any, pip: list[str]) -> dict[str, Any]:
    """Versions of what was installed, and how far the embeddings are off."""
    with tempfile.TemporaryDirectory() as place:
        venv.create(place, with_pip=True)
        python = str(Path(place) / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *pip, *route.packages], check=True)
        listed = subprocess.run([python, "-m", "pip", "list", "--format", "json"], check=True, capture_output=True)
        given = json.dumps([str(folder), SENTENCES])
        done = subprocess.run(
            [python, "-c", _START + route.code + _END, given], check=False, capture_output=True, text=True, cwd=place
        )
    kept = {
        "numpy",
        "onnxruntime",
        "optimum",
        "optimum-onnx",
        "sentence-transformers",
        "tokenizers",
        "torch",
        "transformers",
    }
    versions = {p["name"]: p["version"] for p in json.loads(listed.stdout) if p["name"] in kept}
    if done.returncode:
        return {"versions": versions, "difference": None, "error": done.stderr.strip().splitlines()[-1]}
    found = np.array(json.loads(done.stdout.splitlines()[-1]))
    return {"versions": versions, "difference": float(np.abs(found - wanted).max()), "error": None}


def main() -> None:
    """Every route asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--routes", nargs="+", choices=ROUTES, default=list(ROUTES))
    parser.add_argument(
        "--run", type=Path, default=None, help="a finished run of an embedding model, instead of one made"
    )
    parser.add_argument("--pip", default="", help="more arguments for pip install")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder = (arguments.run / "best").resolve() if arguments.run else compile_one(Path(root))
        wanted = expected(folder)
        record = {name: tried(ROUTES[name], folder, wanted, shlex.split(arguments.pip)) for name in arguments.routes}
    print(json.dumps(record, indent=1))
    write_json(arguments.json, record)


if __name__ == "__main__":
    main()
