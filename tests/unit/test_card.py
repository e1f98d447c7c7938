"""Model cards: the hub's header, the figures, and what is said where nothing was measured."""

import pytest
from huggingface_hub import ModelCard, metadata_load

from compiler.report.card import read_base_card, render_card, write_cards
from tests.report_sample import sample_front

BASE = {"license": "apache-2.0", "language": "en"}


@pytest.fixture
def front():
    return sample_front()


def net(front, name):
    return next(c for c in front["candidates"] if c["id"] == name)


def test_the_header_is_what_the_hub_reads(front):
    card = ModelCard(render_card(front, net(front, "c05"), BASE))
    assert card.data.license == "apache-2.0"
    assert card.data.language == "en"
    assert card.data.base_model == front["model"]["name"]
    assert card.data.library_name == "sentence-transformers"
    assert {"onnx", "paretoc"} <= set(card.data.tags)


def test_the_figures_are_those_of_the_front(front):
    candidate = net(front, "c05")
    text = render_card(front, candidate, BASE)
    assert f"| latency p50 | {front['dense']['measured']['latency_ms']['p50']:.1f}" in text.replace("\u00a0", " ")
    assert f"{candidate['metric']['validation']:.3f}" in text
    assert "| of the speed that the device's own peak allows | 61 % | 61 % |" in text.replace("\u00a0", " ")
    heads = " | ".join(map(str, candidate["shape"]["heads"]))
    assert f"| heads (of {front['model']['heads']}) | {heads} | \n| FFN units" in text
    assert "Licence: apache-2.0, that of the base model." in text


def test_a_prediction_is_called_one(front):
    text = render_card(front, net(front, "c08"), {})
    assert "latency, predicted" in text
    assert "latency p50" not in text
    assert "Its speed-up was predicted for" in text
    assert "names no licence" in text
    assert ModelCard(text).data.license is None


def test_every_network_of_a_run_gets_one(front, tmp_path):
    for candidate in (front["dense"], *front["candidates"]):
        (tmp_path / candidate["artifact"]["path"]).parent.mkdir()
    write_cards(tmp_path, front, BASE)
    cards = list(tmp_path.glob("*/README.md"))
    assert len(cards) == 1 + len(front["candidates"])
    assert all(metadata_load(card)["license"] == "apache-2.0" for card in cards)


@pytest.mark.parametrize("content", [None, "no header", "---\nlicense: [\n---\n", "---\n- a list\n---\n"])
def test_a_base_model_without_a_readable_card_has_none(tmp_path, content):
    if content is not None:
        (tmp_path / "README.md").write_text(content, encoding="utf-8")
    assert read_base_card(tmp_path) == {}
