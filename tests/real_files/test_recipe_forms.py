"""Folders of sentence-transformers, old and new: the embedding that sentence-transformers itself gives."""

import numpy as np
import pytest

from tests.recipe_forms import FORMS, two
from tests.recipes import edit, embeddings, load, sentence_embeddings


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_the_embedding_is_that_of_sentence_transformers(form, tmp_path):
    form(tmp_path / "model")
    found = embeddings(load(tmp_path / "model"))
    np.testing.assert_allclose(found, sentence_embeddings(tmp_path / "model"), atol=1e-5)


def test_padding_on_the_left_gives_each_text_what_it_gets_alone(tmp_path):
    two(tmp_path, pooling_mode="lasttoken")
    edit(tmp_path / "tokenizer_config.json", padding_side="left")
    found = embeddings(load(tmp_path))
    np.testing.assert_allclose(found, sentence_embeddings(tmp_path, alone=True), atol=1e-5)
