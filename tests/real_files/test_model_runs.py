"""Models whose configuration says more than the data: the task that both are read for, and the notes of a run."""

import numpy as np
import pytest

from compiler.pipeline.options import Options
from compiler.pipeline.subject import load_subject
from targets.errors import InputError
from tests.cli import write_rows
from tests.model_folder import renamed, set_config, tiny


def settled(model, data, **more):
    return load_subject(Options(model=str(model), data=str(data), seq_len=32, **more))


@pytest.fixture
def binary(tmp_path):
    return write_rows(tmp_path / "data.csv", ["0", "1", "1"] * 20)


def test_labels_0_and_1_are_scores_to_a_model_with_one_output(tmp_path, binary):
    found = settled(tiny(tmp_path / "model", labels=1), binary)
    assert (found.task.name, found.effort, found.data.label_names) == ("regression", "fast", None)
    assert sorted(np.unique(found.data.train.labels)) == [0, 1]
    notes = " ".join(found.notes)
    assert "the model's head has one output" in notes
    assert "CrossEncoder puts Sigmoid on it" in notes


def test_whole_scores_are_classes_to_a_model_with_one_output_each(tmp_path):
    data = write_rows(tmp_path / "data.csv", [f"{i % 3}.0" for i in range(60)])
    model = tiny(tmp_path / "model", labels=3)
    found = settled(model, data)
    assert found.task.name == "classification"


def test_words_are_no_scores(tmp_path):
    data = write_rows(tmp_path / "data.csv", ["bad", "good"] * 20)
    with pytest.raises(InputError, match="are words: 'bad', 'good'"):
        settled(tiny(tmp_path / "model", labels=1), data)


def test_a_task_that_was_asked_for_is_not_changed(tmp_path, binary):
    with pytest.raises(InputError, match="has a head for regression"):
        settled(tiny(tmp_path / "model", labels=1), binary, task="classification")


def test_a_head_for_several_labels_is_respected(tmp_path):
    model = tiny(tmp_path / "model", labels=2, problem_type="multi_label_classification")
    data = tmp_path / "texts.txt"
    data.write_text("\n".join(f"the film {i}" for i in range(60)), encoding="utf-8")
    assert settled(model, data).task.name == "multi_label"
    with pytest.raises(InputError, match="multi-label classification, asked is classification"):
        settled(model, data, task="classification")


def test_a_head_of_no_task_is_compiled_as_an_encoder_where_that_is_asked_for(tmp_path):
    model = tiny(tmp_path / "model")
    set_config(model, architectures=["BertForMultipleChoice"])
    data = tmp_path / "texts.txt"
    data.write_text("\n".join(f"the film {i}" for i in range(60)), encoding="utf-8")
    with pytest.raises(InputError, match="has a head for multiple choice"):
        settled(model, data)
    assert settled(model, data, task="embedding").task.name == "embedding"


def test_a_wrapped_model_is_the_plain_one_to_every_stored_result(tmp_path, binary):
    model = tiny(tmp_path / "model")
    plain = settled(model, binary)
    renamed(model, lambda key: f"module.{key}")
    wrapped = settled(model, binary)
    assert wrapped.key() == plain.key()
    assert any("wrapper" in note for note in wrapped.notes)
