"""Artefacts loaded by every route a user may take, each in a virtual environment of its own that lacks paretoc.

    python bench/reload.py --json bench/results/reload.json
    python bench/reload.py --routes onnxruntime --pip "--extra-index-url https://download.pytorch.org/whl/cpu"

One artefact is an embedding model, cut from all-MiniLM-L6-v2 on the device without a clock; the other a classifier of three
classes on the same encoder, its head random, its tokenizer with a token more. What a route makes of a few sentences is held
against our own loader's; where it can train further, one step is taken, saved and loaded again. A route that fails keeps the
last line of its error.
"""

import argparse
import json
import platform
import shlex
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from output import write_json
from reload_routes import ROUTES, Route, script

from compiler.data.sample import sample_texts
from compiler.export import load_sliced
from compiler.families.embedded import embedded_model

ADDED = "<product>"
SENTENCES = ["A small river.", "The train was late again, and nobody told us why.", f"A {ADDED} made of glass."]
LABELS = ["negative", "neutral", "positive"]
TOLERANCE = 1e-4

SHOWN = (
    "numpy", "onnxruntime", "optimum", "optimum-onnx", "sentence-transformers", "tokenizers", "torch", "transformers",
)  # fmt: skip
"""Packages whose versions are told."""


def save_classifier(folder: Path) -> Path:
    """all-MiniLM-L6-v2 with a head of three classes and a special token of its own, the weights of both random."""
    import transformers

    torch.manual_seed(0)
    names = dict(enumerate(LABELS))
    auto: Any = transformers.AutoModelForSequenceClassification
    model = auto.from_pretrained(
        embedded_model(), num_labels=len(names), id2label=names, label2id={name: i for i, name in names.items()}
    )
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(embedded_model())
    tokenizer.add_special_tokens({"additional_special_tokens": [ADDED]})
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def compiled(model: Path, root: Path) -> Path:
    """The folder of a network cut from a model."""
    texts = root / "texts.txt"
    texts.write_text("\n".join(sample_texts()) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "compiler", str(model), "--data", str(texts), "--target", "null"]
    few = ["--effort", "fast", "--evaluations", "24", "--winners", "1", "--seq-len", "64"]
    subprocess.run([*command, *few, "--quiet", "--out", str(root / "out")], check=True)
    return (root / "out" / "best").resolve()


def artefacts(root: Path) -> dict[str, Path]:
    """Their folders, by task."""
    models = {"embedding": embedded_model(), "classification": save_classifier(root / "classifier")}
    for task in models:
        (root / task).mkdir()
    return {task: compiled(model, root / task) for task, model in models.items()}


def expected(folder: Path) -> Any:
    """What our own loader gives: embeddings or logits."""
    loaded = load_sliced(folder)
    inputs = loaded.tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.inference_mode():
        return loaded.model(**inputs)[-1].numpy()


def python_of(name: str, place: Path, pip: list[str]) -> Path:
    """The interpreter of a route's environment, which is made where there is none."""
    python = place / name / "bin" / "python"
    if not python.exists():
        venv.create(place / name, with_pip=True)
        packages = [*pip, *ROUTES[name].packages]
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def versions(python: Path) -> dict[str, str]:
    """What is installed. RuntimeError where paretoc is."""
    listed = subprocess.run([str(python), "-m", "pip", "list", "--format", "json"], check=True, capture_output=True)
    found = {package["name"]: package["version"] for package in json.loads(listed.stdout)}
    if "paretoc" in found:
        raise RuntimeError(f"{python} has paretoc: it shows nothing about users who lack it")
    return {name: found[name] for name in SHOWN if name in found}


def tried(python: Path, route: Route, task: str, folder: Path) -> dict[str, Any]:
    """How far a route is off, and what else its script told."""
    given = json.dumps([str(folder), SENTENCES])
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(
            [str(python), "-I", "-c", script(route, task), given], check=False, capture_output=True, text=True, cwd=place
        )  # fmt: skip
    if done.returncode:
        return {"passed": False, "error": done.stderr.strip().splitlines()[-1]}
    told = json.loads(done.stdout.splitlines()[-1])
    difference = float(np.abs(np.array(told.pop("found")) - expected(folder)).max())
    return {"passed": difference < TOLERANCE and (not route.trains or trained(told)), "difference": difference, **told}


def trained(told: Mapping[str, Any]) -> bool:
    """Whether a step moved every parameter, and saving kept them. A softmax does not see its keys' biases: those may stay."""
    return bool(told["same_after_saving"]) and all(name.endswith("key.bias") for name in told["unmoved"])


def record(name: str, folders: Mapping[str, Path], place: Path, pip: list[str]) -> dict[str, Any]:
    """One route with all artefacts that it can load."""
    python, route = python_of(name, place, pip), ROUTES[name]
    tasks = {task: tried(python, route, task, folder) for task, folder in folders.items() if task in route.scripts}
    return {"python": platform.python_version(), "versions": versions(python), **tasks}


def main() -> None:
    """Every route asked for; exit 1 where one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None, help="file of results; routes it holds already are replaced")
    parser.add_argument("--routes", nargs="+", choices=ROUTES, default=list(ROUTES))
    parser.add_argument("--artefacts", type=Path, default=None, help="folder to keep the artefacts in, or to find them")
    parser.add_argument("--venvs", type=Path, default=None, help="folder to keep the environments in, or to find them")
    parser.add_argument("--pip", default="", help="more arguments for pip install")
    arguments = parser.parse_args()
    path = arguments.json
    records = json.loads(path.read_text(encoding="utf-8")) if path is not None and path.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        root, place = arguments.artefacts or Path(scratch), arguments.venvs or Path(scratch) / "venvs"
        kept = {task: (root / task / "out" / "best").resolve() for task in ("embedding", "classification")}
        folders = kept if all(folder.is_dir() for folder in kept.values()) else artefacts(root)
        for name in arguments.routes:
            records[name] = record(name, folders, place, shlex.split(arguments.pip))
            write_json(path, records)
    print(json.dumps(records, indent=1))
    sys.exit(
        not all(
            result.get("passed", True) for r in records.values() for result in r.values() if isinstance(result, dict)
        )
    )


if __name__ == "__main__":
    main()
