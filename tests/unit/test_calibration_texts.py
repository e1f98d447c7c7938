"""Which texts judge where nothing is labelled: more than calibrate, and none that does."""

from types import SimpleNamespace

import numpy as np
import pytest

from compiler.data import Split, TextData
from compiler.pipeline import calibration_texts
from compiler.pipeline.calibration_texts import CALIBRATION_TEXTS, LIKENESS_EXAMPLES, deal
from compiler.tasks import task_named

CHECKPOINT = SimpleNamespace(task=task_named("embedding"))


def data_of(train, validation, test=300):
    numbers = iter(range(train + validation + test))
    splits = [
        Split(texts=tuple((f"t{next(numbers)}",) for _ in range(n)), labels=None) for n in (train, validation, test)
    ]
    return TextData(
        source="a.txt", task="embedding", text_columns=("text",), label_column=None, label_names=None, train=splits[0],
        validation=splits[1], test=splits[2], notes=(), sha256="before",
    )  # fmt: skip


@pytest.fixture
def dealt(monkeypatch):
    """Deals texts of which so many calibrate."""

    def run(train, validation, needed=1066):
        monkeypatch.setattr(calibration_texts, "calibration_count", lambda *_: needed)
        before = data_of(train, validation)
        after, notes = deal(before, CHECKPOINT, max_tokens=128, seed=0)
        texts = [set(split.texts) for split in (after.train, after.validation, after.test)]
        assert texts[0] | texts[1] == set(before.train.texts) | set(before.validation.texts)
        assert not texts[0] & texts[1]
        assert texts[2] == set(before.test.texts)
        assert set(before.validation.texts) <= texts[1]
        assert (after.sha256 != "before") == bool(notes)
        return len(after.train), len(after.validation)

    return run


def test_2000_short_texts_judge_by_850_instead_of_300(dealt):
    assert dealt(1400, 300) == (850, 850)


def test_of_long_texts_few_calibrate_and_the_others_judge(dealt):
    assert dealt(1400, 300, needed=140) == (140, 1560)
    assert dealt(1400, 300, needed=16) == (128, 1572), "ranges of activations are taken on 128"


def test_large_splits_stay_as_they_are(dealt):
    assert dealt(70_000, 15_000) == (70_000, 15_000)
    assert dealt(5000, LIKENESS_EXAMPLES) == (5000, LIKENESS_EXAMPLES)


def test_no_more_than_enough_are_moved(dealt):
    assert dealt(9000, 300) == (9000 - 1700, LIKENESS_EXAMPLES)
    assert dealt(CALIBRATION_TEXTS + 10, 1500) == (CALIBRATION_TEXTS, 1510)


def test_few_texts_are_shared_out_evenly(dealt):
    assert dealt(42, 9) == (25, 26)
    assert dealt(20, 4) == (16, 8)  # what ranges of activations are taken on, at least
    assert dealt(2, 1) == (2, 1)


def test_the_deal_follows_the_seed(monkeypatch):
    monkeypatch.setattr(calibration_texts, "calibration_count", lambda *_: 1000)
    seeds = [deal(data_of(1400, 300), CHECKPOINT, max_tokens=128, seed=seed)[0] for seed in (0, 0, 1)]
    assert seeds[0].sha256 == seeds[1].sha256
    assert seeds[0].sha256 != seeds[2].sha256
    assert np.all([len(d.validation) == 850 for d in seeds])
