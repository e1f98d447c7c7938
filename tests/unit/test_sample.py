import re
from itertools import combinations

import numpy as np

from compiler.data import demo_data, sample_texts

LARGEST_OVERLAP = 0.5


def _tokens(text):
    return frozenset(re.findall(r"\w+", text.casefold()))


def test_sample_is_large_unique_and_clean():
    texts = sample_texts()
    assert len(texts) >= 500
    assert len(set(texts)) == len(texts)
    assert all(text == text.strip() and text for text in texts)


def test_sample_lengths_vary():
    lengths = np.array([len(text.split()) for text in sample_texts()])
    assert lengths.min() >= 4
    assert lengths.max() <= 45
    assert np.mean(lengths <= 7) > 0.1
    assert np.mean(lengths >= 18) > 0.1
    assert np.any(lengths >= 35)


def test_no_two_sentences_are_nearly_the_same():
    tokens = [_tokens(text) for text in sample_texts()]
    assert max(len(a & b) / len(a | b) for a, b in combinations(tokens, 2)) < LARGEST_OVERLAP


def test_sentences_do_not_share_templates():
    openings = [tuple(text.split()[:4]) for text in sample_texts()]
    assert len(set(openings)) == len(openings)


def test_demo_data_splits_are_disjoint_and_deterministic():
    data = demo_data()
    assert data.task == "embedding"
    assert [len(data.train), len(data.validation), len(data.test)] == [320, 140, 140]
    every = [*data.train.texts, *data.validation.texts, *data.test.texts]
    assert {text for (text,) in every} == set(sample_texts())
    assert demo_data().sha256 == data.sha256
    assert demo_data(seed=1).sha256 != data.sha256
