"""What users get wrong: the right exit code, one or two lines, no traceback."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from transformers import AutoTokenizer

from tests.cli import call, classes, texts, write_rows, write_texts
from tests.tiny import VOCABULARY, save_tiny

FEW = ("--seq-len", 32, "--evaluations", 6, "--winners", 1, "--quiet")


class Desk:
    """Good models and data, to be spoilt one at a time."""

    def __init__(self, root: Path) -> None:
        self.root, self.cache = root, root / "cache"
        self.encoder = save_tiny(root / "encoder")
        self.texts = write_texts(root / "texts.txt")
        self.classes = write_rows(root / "classes.csv", classes(40))

    def arguments(self, *more, model=None, data=None, out):
        return (
            model or self.encoder, "--data", data or self.texts, "--target", "null", "--cache", self.cache,
            "--out", out, *FEW, *more,
        )  # fmt: skip


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    return Desk(tmp_path_factory.mktemp("bad"))


@pytest.fixture
def refused(desk, tmp_path):
    """A call that must end with `code`; its message in one line."""

    def check(*more, code=2, **options):
        done = call(*desk.arguments(*more, **{"out": tmp_path / "out", **options}))
        assert done.code == code, (done.out, done.err)
        assert done.err.startswith("error: ")
        assert 1 <= len(done.message) <= 2, done.err
        assert "Traceback" not in done.err
        assert not done.out
        return " / ".join(done.message)

    return check


def spoilt(desk, tmp_path, change):
    folder = Path(shutil.copytree(desk.encoder, tmp_path / "model"))
    change(folder)
    return folder


# --- data


def test_no_data(desk, tmp_path):
    done = call(desk.encoder, "--target", "null", "--out", tmp_path / "out")
    assert done.code == 2
    assert "--data" in done.err


def test_missing_file(refused, tmp_path):
    assert "no file or folder" in refused(data=tmp_path / "none.csv")


@pytest.mark.parametrize("content", ["", "\n\n", "text,label\n"])
def test_empty_file(refused, tmp_path, content):
    path = tmp_path / "empty.csv"
    path.write_text(content, encoding="utf-8")
    refused(data=path)


def test_empty_folder(refused, tmp_path):
    (tmp_path / "data").mkdir()
    assert "no data file" in refused(data=tmp_path / "data")


@pytest.mark.parametrize("flag", ["--text-columns", "--label-column"])
def test_wrong_column(refused, desk, flag):
    message = refused(flag, "sentence", data=desk.classes)
    assert "text" in message
    assert "label" in message


def test_a_task_without_labels(refused):
    assert "--label-column" in refused("--task", "classification")


@pytest.mark.parametrize("labelled", [False, True])
def test_a_head_that_was_never_trained(refused, desk, tmp_path, labelled):
    def claim_a_head(folder):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["architectures"] = ["BertForSequenceClassification"]
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    model = spoilt(desk, tmp_path, claim_a_head)
    more = ("--effort", "fast") if labelled else ()
    assert "never trained" in refused(*more, model=model, data=desk.classes if labelled else None)


def test_one_class_only(refused, tmp_path):
    assert "nothing to learn" in refused(data=write_rows(tmp_path / "one.csv", ["yes"] * 30))


@pytest.mark.parametrize("value", ["NaN", ""])
def test_missing_labels(refused, tmp_path, value):
    labels = [*(["good", "bad"] * 20), value]
    assert "42" in refused(data=write_rows(tmp_path / "nan.csv", labels))


def test_labels_in_test_that_train_lacks(refused, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    write_rows(data / "train.csv", ["good", "bad"] * 20)
    write_rows(data / "test.csv", ["good", "ugly"] * 5)
    assert "ugly" in refused(data=data)


def test_a_text_column_of_numbers(refused, tmp_path):
    path = tmp_path / "numbers.csv"
    path.write_text("text,label\n" + "".join(f"{i}.5,{i % 2}\n" for i in range(40)), encoding="utf-8")
    refused(data=path)
    assert "does not hold texts" in refused("--text-columns", "text", data=path)


def test_one_text_of_three_megabytes_alone(refused, tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("film " * 600_000, encoding="utf-8")
    assert "only 1 examples" in refused(data=path)


def test_one_text_of_three_megabytes_among_others_is_cut(desk, tmp_path):
    path, out = tmp_path / "long.txt", tmp_path / "out"
    path.write_text("\n".join([*texts(60), "film " * 600_000]), encoding="utf-8")
    done = call(*desk.arguments(data=path, out=out))
    assert done.code == 0, done.err
    assert any("cut to 100,000 characters" in note for note in json.loads((out / "front.json").read_text())["notes"])


def test_labels_a_trained_head_does_not_have(refused, tmp_path):
    model = save_tiny(tmp_path / "three", labels=3)
    assert "3 outputs" in refused(model=model, data=write_rows(tmp_path / "two.csv", ["good", "bad"] * 20))


# --- models


def keep_half(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def corrupt(folder):
    (folder / "model.safetensors").write_bytes(os.urandom(5000))


def pickled(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"x")


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def no_config(folder):
    (folder / "config.json").unlink()


def broken_config(folder):
    (folder / "config.json").write_text("{", encoding="utf-8")


def listed_config(folder):
    (folder / "config.json").write_text("[]", encoding="utf-8")


def no_tokenizer(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()


def broken_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{", encoding="utf-8")


def broken_modules(folder):
    (folder / "modules.json").write_text("{", encoding="utf-8")


MODELS = {
    no_config: "no config.json",
    broken_config: "config.json",
    listed_config: "config.json",
    no_tokenizer: "no tokenizer",
    broken_tokenizer: "tokenizer",
    keep_half: "weights cannot be loaded",
    corrupt: "weights cannot be loaded",
    pickled: "pickled weights",
    no_weights: "no model.safetensors",
    broken_modules: "modules.json",
}


@pytest.mark.parametrize("change", MODELS, ids=lambda change: change.__name__)
def test_a_spoilt_model_folder(refused, desk, tmp_path, change):
    assert MODELS[change] in refused(model=spoilt(desk, tmp_path, change))


@pytest.mark.parametrize("numbers", [(0, 2, 5), (1, 2, 3)])
def test_labels_that_are_not_numbered_as_the_outputs_are(refused, tmp_path, numbers):
    model = save_tiny(tmp_path / "gaps", labels=3)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config["id2label"] = {str(number): f"class {number}" for number in numbers}
    config["label2id"] = {f"class {number}": number for number in numbers}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    message = refused(model=model, data=write_rows(tmp_path / "three.csv", ["a", "b", "c"] * 20))
    assert f"numbers its labels {', '.join(map(str, numbers))}" in message
    assert "outputs 0 to 2" in message


def test_a_tokenizer_with_more_tokens_than_the_model_embeds(refused, desk, tmp_path):
    def add(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.add_tokens([f"<extra {i}>" for i in range(VOCABULARY)])
        tokenizer.save_pretrained(folder)

    assert f"the model embeds {VOCABULARY}" in refused(model=spoilt(desk, tmp_path, add))


def test_an_onnx_file_is_no_model_to_compile(refused, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"x")
    assert "give a folder with config.json" in refused(model=tmp_path / "model.onnx")


@pytest.mark.parametrize("model_type", ["gpt2", "albert", "abacus"])
def test_an_unsupported_family(refused, desk, tmp_path, model_type):
    def rename(folder):
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}), encoding="utf-8")

    message = refused(model=spoilt(desk, tmp_path, rename))
    assert model_type in message
    assert "bert, roberta, xlm-roberta, camembert, electra, distilbert" in message


def test_a_missing_model_folder(refused, tmp_path):
    assert "no model folder" in refused(model=tmp_path / "none")


def test_a_model_whose_subnet_json_says_nothing(refused, desk, tmp_path):
    model = spoilt(desk, tmp_path, lambda folder: (folder / "subnet.json").write_text("{}", encoding="utf-8"))
    assert "subnet.json has schema None" in refused(model=model)


@pytest.mark.parametrize("arguments", [(), ("profile", "--runtime", "null")], ids=["compile", "profile"])
def test_a_sequence_over_the_models_limit(desk, tmp_path, arguments):
    if arguments:
        done = call(
            *arguments, "--target", "null", "--model", desk.encoder, "--seq-len", 500, "-o", tmp_path / "t.json"
        )
    else:
        done = call(*desk.arguments("--seq-len", 500, out=tmp_path / "out"))
    assert done.code == 2, done.err
    assert "limit of 66" in done.err
    assert len(done.message) <= 2


# --- targets, options, folders


@pytest.mark.parametrize("target", ["abacus", "cpu:fp7", "a10g:", ""])
def test_an_unknown_target_or_precision(refused, target):
    refused("--target", target)


@pytest.mark.parametrize(
    "flags",
    [
        ("--max-latency", "fast"),
        ("--max-latency", "1.2.3ms"),
        ("--min-speedup", "-2x"),
        ("--max-drop", "200%"),
        ("--effort", "huge"),
        ("--space", "tiny"),
        ("--search", "magic"),
        ("--strategy", "magic"),
        ("--sampling", "sorted"),
        ("--order", "alphabet"),
        ("--temperature", "0"),
        ("--random-subnets", "-1"),
        ("--objectives", "beauty"),
        ("--percentile", "p42"),
        ("--metric", "beauty"),
        ("--metric", "accuracy"),
        ("--pooling", "beauty"),
        ("--task", "beauty"),
        ("--encoding", "beauty"),
        ("--runtime", "beauty"),
        ("--batch", 0),
        ("--threads", 0),
        ("--winners", 0),
        ("--evaluations", 0),
        ("--epochs", 0),
        ("--epochs", "nan"),
        ("--learning-rate", 0),
        ("--train-batch-size", 0),
        ("--accumulation", 0),
        ("--seed", -1),
        ("--evaluations", 10**30),
        ("--winners", 10**9),
        ("--seq-len", 10**12),
        ("--learning-rate", "inf"),
        ("--opset", 10**9),
        ("--max-latency", "1e400ms"),
        ("--max-memory", "\u0663MB"),
    ],
    ids=lambda flags: " ".join(map(str, flags)),
)
def test_an_option_that_makes_no_sense(refused, flags):
    refused(*flags)


def test_so_few_evaluations_that_only_the_dense_network_is_seen(refused):
    assert "more --evaluations" in refused("--evaluations", 1)


def test_an_unknown_flag(desk, tmp_path):
    done = call(*desk.arguments("--no-such-flag", out=tmp_path / "out"))
    assert done.code == 2
    assert "Traceback" not in done.err


def test_no_network_is_below_the_floor(refused):
    assert "stem and head alone" in refused("--max-latency", "0.001us", code=4)


def test_an_output_folder_that_is_a_file(refused, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert "--out" in refused(out=tmp_path / "file")
    assert "--out" in refused(out=tmp_path / "file" / "below")


def test_an_output_folder_that_cannot_be_written(refused):
    assert "--out" in refused(out=Path("/proc/paretoc"))


def test_a_cache_that_cannot_be_made(refused):
    assert "--cache" in refused("--cache", "/proc/paretoc")


def test_two_runs_in_one_folder(refused, tmp_path):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"):
        assert "another run" in refused()


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "name",
    [
        "compiler.store.store.replaced",
        "compiler.pipeline.front.write_atomically",
        "onnx.save_model",
        "compiler.export.checkpoint.save_file",
    ],
)
def test_a_full_disk(refused, monkeypatch, name):
    monkeypatch.setattr("compiler.pipeline.stages.export.compare_with_fresh_export", lambda *_: 0.0)
    more = ("--seed", 7) if "store" in name else ()
    with monkeypatch.context() as patch:
        patch.setattr(name, full)
        assert "No space left" in refused(*more)


def test_a_disk_that_fills_while_files_are_written(desk, tmp_path):
    """A real limit on file sizes, below those of the weights: whichever library writes them, it is one message."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); "
        "from compiler.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = desk.arguments("--effort", "balanced", "--epochs", 1, out=tmp_path / "out", data=desk.classes)
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.partition("error: ")[2].strip().splitlines()) <= 2
