"""Valid inputs that damage starts from, made once: tiny models, a run for two targets, a cost table, traffic, a warm cache."""

import json
import os
import shutil
from pathlib import Path

from tests.tiny import HIDDEN, save_tiny

TOKENS = 32
MODELS = ("encoder", "classifier", "sharded", "compiled")


def make_seeds(folder: Path) -> None:
    """Write them all below a folder. RuntimeError where the product refuses what is valid."""
    save_tiny(folder / "encoder")
    _as_sentence_transformer(folder / "encoder")
    save_tiny(folder / "classifier", labels=2, id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1})
    shutil.copytree(folder / "encoder", folder / "sharded")
    _shard(folder / "sharded")
    texts = [f"the film number {word} was {word}" for word in ("good", "bad", "early", "late") for _ in range(15)]
    (folder / "data.txt").write_text("\n".join(f"{text} {'x' * (i % 7)}" for i, text in enumerate(texts)) + "\n")
    (folder / "traffic.json").write_text(json.dumps({"8": 10, "16": 5.5, "30": 1}))
    _run(folder)
    shutil.copytree(folder / "targets" / "null" / "n001", folder / "compiled")
    _write_tree(folder / "others")


def _run(folder: Path) -> None:
    import compiler.pipeline.stages.export as stage

    stage.compare_with_fresh_export = lambda *_: 0.0  # a second export of the same network takes seconds
    call(
        folder / "encoder", "--data", folder / "data.txt", "--target", "null", "--target", "a10g", "--accept-modelled",
        "--out", folder / "targets", "--evaluations", 4, "--winners", 1, "--seq-len", TOKENS, "--cache", folder / "cache", "--quiet",
    )  # fmt: skip
    for model in ("classifier", "sharded"):
        call(
            folder / model, "--data", folder / "data.txt", "--target", "null", "--out", folder / f"run-{model}", "--evaluations", 4,
            "--winners", 1, "--seq-len", TOKENS, "--cache", folder / "cache", "--quiet",
        )  # fmt: skip
    call("profile", "--target", "null", "--model", folder / "encoder", "--seq-len", TOKENS, "-o", folder / "table.json")


def call(*arguments: object) -> None:
    """The command line with valid input: RuntimeError where it fails."""
    from compiler.cli import main

    code = main([str(argument) for argument in arguments])
    if code != 0:
        raise RuntimeError(f"a valid input ended with {code}: {arguments}")


def _as_sentence_transformer(folder: Path) -> None:
    library = "sentence_transformers.models"
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    (folder / "modules.json").write_text(
        json.dumps(
            [{"idx": i, "name": str(i), "path": p, "type": f"{library}.{t}"} for i, (p, t) in enumerate(modules)]
        )
    )
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": HIDDEN, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "2_Normalize").mkdir()
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48, "do_lower_case": False}))
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "query: "}, "default_prompt_name": None, "similarity_fn_name": "cosine"})
    )


def _shard(folder: Path) -> None:
    """The weights in two files, and the index that says which is where."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, shards = sorted(tensors), {}
    for i, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), start=1):
        file = f"model-0000{i}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
        shards.update(dict.fromkeys(part, file))
    size = sum(array.nbytes for array in tensors.values())
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": size}, "weight_map": shards}, indent=1)
    )


def _write_tree(folder: Path) -> None:
    """What somebody else has on the disk: a home folder and a project, which nothing may touch."""
    files = {
        "home/notes.txt": "do not touch\n",
        "home/.profile": "export A=1\n",
        "home/project/front.json": '{"mine": true}',
        "home/project/best/report.docx": "thesis",
        "home/project/dense/serving/app.py": "print('mine')\n",
        "home/project/train/0123456789abcdef.json": "{}",
        "home/project/.lock": "",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "home" / "project" / "link").symlink_to("../notes.txt")
    os.utime(folder / "home" / "notes.txt", (1_600_000_000, 1_600_000_000))
