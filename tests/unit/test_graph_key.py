"""The key that a dense export is kept under: all that the graph depends on, and nothing else."""

import json

import pytest

from compiler.export.dense import export_dense
from compiler.families import load_checkpoint
from compiler.pipeline import graphs
from compiler.pipeline.graphs import find_templates, template_key
from compiler.store import DiskStore
from tests.tiny import randomise, save_tiny, tiny_checkpoint

UNUSED = {
    "_name_or_path": "elsewhere", "architectures": ["BertModel"], "initializer_range": 0.5, "hidden_dropout_prob": 0.3,
    "attention_probs_dropout_prob": 0.3, "classifier_dropout": 0.3, "use_cache": False, "finetuning_task": "mnli",
    "transformers_version": "4.0.0", "dtype": "float32", "task_specific_params": {"a": 1},
}  # fmt: skip
OTHERS = {
    "pad_token_id": 1, "layer_norm_eps": 1e-3, "hidden_act": "relu", "num_hidden_layers": 5, "intermediate_size": 96,
}  # fmt: skip


def key(checkpoint, opset=23, *, narrow=False):
    return template_key(checkpoint, opset, narrow=narrow)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model"), seed=3)


def changed(folder, names=("a", "b", "c"), **settings):
    """A classifier whose configuration has these settings instead; its weights are drawn."""
    path = folder / "config.json"
    before = path.read_text(encoding="utf-8")
    path.write_text(json.dumps({**json.loads(before), **settings}), encoding="utf-8")
    try:
        checkpoint = load_checkpoint(str(folder), task="classification", label_names=list(names))
    finally:
        path.write_text(before, encoding="utf-8")
    randomise(checkpoint.model, seed=len(names))
    return checkpoint


def test_settings_that_are_left_out_change_no_graph(folder):
    plain, other = changed(folder), changed(folder, names=("x", "y", "z"), **UNUSED)
    assert plain.config.to_dict()["hidden_dropout_prob"] != other.config.to_dict()["hidden_dropout_prob"]
    assert plain.label_names != other.label_names
    assert key(plain) == key(other)
    assert export_dense(plain)[0].SerializeToString() == export_dense(other)[0].SerializeToString()


def test_every_other_setting_is_part_of_the_key(folder):
    whole = changed(folder)
    keys = [
        key(whole),
        key(whole, 17),
        key(changed(folder, names="ab")),
        key(load_checkpoint(str(folder), task="embedding")),
    ]
    for name, value in OTHERS.items():
        before = getattr(whole.config, name)
        setattr(whole.config, name, value)
        keys.append(key(whole))
        setattr(whole.config, name, before)
    whole.config.never_heard_of = 1
    keys.append(key(whole))
    assert len(set(keys)) == len(keys)


def test_other_libraries_are_part_of_the_key(folder, monkeypatch):
    checkpoint = changed(folder)
    before = key(checkpoint)
    monkeypatch.setattr(graphs.metadata, "version", lambda name: f"{name} 0.0")
    assert key(checkpoint) != before


def test_another_model_of_one_architecture_is_not_exported_again(tmp_path, monkeypatch):
    store, made = DiskStore(tmp_path / "store"), []
    real = graphs.export_dense
    monkeypatch.setattr(graphs, "export_dense", lambda *given, **how: made.append(1) or real(*given, **how))
    for i in range(2):
        checkpoint = tiny_checkpoint(tmp_path / str(i))
        randomise(checkpoint.model, seed=i)
        find_templates(checkpoint, store, ["fp32"])
    assert made == [1]
