"""Names of stored weights against names of a model."""

import pytest

from compiler.families.loading.headers import StoredTensor
from compiler.families.loading.names import fit_names, layers_of, plain, refuse_foreign_names
from targets.errors import InputError

WANTED = ("bert.embeddings.LayerNorm.weight", "bert.encoder.layer.0.output.dense.weight", "classifier.weight")


@pytest.mark.parametrize(
    ("stored", "text", "dropped"),
    [
        ("module.model.bert.x", "bert.x", {"module", "model"}),
        ("bert._orig_mod.x", "bert.x", {"_orig_mod"}),
        ("0.auto_model.x", "x", {"0", "auto_model"}),
        ("encoder.layer.0.module", "encoder.layer.0.module", set()),
        ("embeddings.LayerNorm.gamma", "embeddings.LayerNorm.weight", set()),
        ("gamma", "gamma", set()),
    ],
)
def test_plain_names(stored, text, dropped):
    assert plain(stored) == (text, frozenset(dropped))


def test_an_encoder_fills_a_model_with_a_head():
    fit = fit_names(["embeddings.LayerNorm.gamma", "module.encoder.layer.0.output.dense.weight"], WANTED, "bert.", "m")
    assert fit.sources == {
        WANTED[0]: "embeddings.LayerNorm.gamma",
        WANTED[1]: "module.encoder.layer.0.output.dense.weight",
    }
    assert fit.missing == ("classifier.weight",)
    assert fit.dropped == {"module"}


def test_what_nothing_takes_is_told_apart():
    stored = [
        *WANTED,
        "bert.encoder.layer.0.odd",
        "cls.predictions.bias",
        "bert.embeddings.position_ids",
        "scorer.weight",
    ]
    fit = fit_names(stored, WANTED, "bert.", "m")
    assert (fit.unread, fit.other) == (("bert.encoder.layer.0.odd",), ("scorer.weight",))


def test_layers_are_counted_by_number():
    assert layers_of(["bert.encoder.layer.11.x", "encoder.layer.2.x", "player.99.x"]) == 12
    assert layers_of(["embeddings.x"]) == 0


@pytest.mark.parametrize("name", ["a.qweight", "a.SCB", "a.weight.absmax", "a.weight.quant_state.bitsandbytes__nf4"])
def test_quantised_weights_are_named(name):
    with pytest.raises(InputError, match="quantised"):
        refuse_foreign_names({name: StoredTensor("I32", (1,), (0, 4))}, "m")
