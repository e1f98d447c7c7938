import os
from pathlib import Path

import numpy as np
import pytest

from compiler.tasks import read_data
from targets.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("PARETOC_DATA", ROOT / ".." / "shared" / "data"))

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real data is missing: set PARETOC_DATA to its folder")

FOLDERS = {
    "mrpc": ("classification", ("sentence1", "sentence2"), "label", 2, (3668, 408, 1725)),
    "rte": ("classification", ("sentence1", "sentence2"), "label", 2, (1743, 747, 277)),
    "stsb": ("regression", ("sentence1", "sentence2"), "score", None, (5749, 1500, 1379)),
    "sst2": ("classification", ("sentence",), "label", 2, (47144, 20205, 872)),
    "banking77": ("classification", ("text",), "label", 77, (7002, 3001, 3080)),
    "trec": ("classification", ("text",), "label", 6, (3816, 1636, 500)),
    "wnut17": ("token_classification", ("tokens",), "tags", 13, (3394, 1009, 1287)),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_are_read_without_options(name):
    task, texts, label, classes, sizes = FOLDERS[name]
    data = read_data(str(DATA / name))
    assert (data.task, data.text_columns, data.label_column) == (task, texts, label)
    assert (None if data.label_names is None else len(data.label_names)) == classes
    assert (len(data.train), len(data.validation), len(data.test)) == sizes
    assert all(len(pair) == len(texts) for pair in data.test.texts)


def test_validation_has_the_class_shares_of_train():
    data = read_data(str(DATA / "banking77"))
    train, validation = (np.bincount(split.labels, minlength=77) for split in (data.train, data.validation))
    assert np.all(np.abs(validation - 0.3 * (train + validation)) <= 1.5)


def test_stsb_is_also_data_for_embeddings():
    data = read_data(str(DATA / "stsb"), task="embedding")
    assert data.test.labels.dtype == np.float64
    assert data.test.labels.max() == 5


def test_tsv_with_a_byte_order_mark_and_unbalanced_quotes():
    data = read_data(str(DATA / "raw" / "mrpc_dev.tsv"))
    assert (data.text_columns, data.label_column) == (("#1 String", "#2 String"), "Quality")
    assert len(data.train) + len(data.validation) + len(data.test) == 408
    reference = read_data(str(DATA / "mrpc"))
    every = {*data.train.texts, *data.validation.texts, *data.test.texts}
    assert every == set(reference.validation.texts)


def test_tsv_without_a_header():
    path = str(DATA / "raw" / "cola_dev.tsv")
    with pytest.raises(InputError, match=r"no header found.*column_2 \(e.g. '1'\)"):
        read_data(path)
    data = read_data(path, label_column="column_2")
    assert data.text_columns == ("column_4",)
    assert len(data.train) + len(data.validation) + len(data.test) == 1043


@pytest.mark.parametrize("encoding", [None, "latin-1"])
def test_plain_text_is_unlabelled(encoding):
    data = read_data(str(DATA / "raw" / "trec_test_latin1.txt"), encoding=encoding)
    assert (data.task, data.label_column) == ("embedding", None)
    assert len(data.train) + len(data.validation) + len(data.test) == 500
