"""CrossEncoders: scores of pairs as sentence-transformers itself gives them, cut where its files say."""

import json

import numpy as np
import pytest

from compiler.families import load_checkpoint
from compiler.tasks import encode
from targets.errors import InputError
from tests.recipes import edit
from tests.tiny import WORDS, save_tiny

PAIRS = [("a great film", "the river"), (" ".join(WORDS[:40]), " ".join(WORDS[20:60]))]


@pytest.fixture
def cross_encoder(tmp_path):
    from sentence_transformers import CrossEncoder

    save_tiny(tmp_path / "plain", labels=1)
    CrossEncoder(str(tmp_path / "plain"), device="cpu", local_files_only=True).save_pretrained(str(tmp_path / "saved"))
    return tmp_path / "saved"


def scores(folder):
    checkpoint = load_checkpoint(str(folder), task="regression")
    batches = encode(checkpoint, PAIRS, max_tokens=checkpoint.max_tokens)
    return batches.outputs(lambda inputs: checkpoint.model(**inputs)[-1])[:, 0]


@pytest.mark.parametrize("settings", [{}, {"max_seq_length": 12}, {"processor_kwargs": {"truncation_side": "left"}}])
def test_the_scores_are_those_of_sentence_transformers(cross_encoder, settings):
    from sentence_transformers import CrossEncoder
    from torch import nn

    edit(cross_encoder / "sentence_bert_config.json", **settings)
    oracle = CrossEncoder(str(cross_encoder), device="cpu", local_files_only=True)
    wanted = oracle.predict(PAIRS, activation_fn=nn.Identity())
    np.testing.assert_allclose(scores(cross_encoder), wanted, atol=1e-5)


def test_a_prompt_of_a_cross_encoder_is_refused(cross_encoder):
    edit(cross_encoder / "config_sentence_transformers.json", prompts={"q": "the "}, default_prompt_name="q")
    with pytest.raises(InputError, match="a CrossEncoder with a default prompt"):
        scores(cross_encoder)
    assert json.loads((cross_encoder / "config_sentence_transformers.json").read_text(encoding="utf-8"))["prompts"]
