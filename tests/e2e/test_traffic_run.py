"""Traffic instead of one length, on the null device: what is predicted is what replaying it measures."""

import json

import numpy as np
import pytest

from profilers import Dimensions, LayerSizes, Workload
from profilers.roofline import stack_seconds
from targets import Target
from tests.cli import call, write_texts
from tests.tiny import HEADS, HIDDEN, LAYERS, UNITS, VOCABULARY, save_tiny

DIMS = Dimensions(
    layers=LAYERS, heads=HEADS, ffn_units=UNITS, hidden_size=HIDDEN, head_size=HIDDEN // HEADS, vocabulary=VOCABULARY
)
LENGTHS = {"4": 300, "12": 400, "40": 300}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("traffic")
    save_tiny(root / "model")
    write_texts(root / "texts.txt")
    (root / "lengths.json").write_text(json.dumps(LENGTHS))
    return root


def run(place, name, *arguments):
    out = place / name
    done = call(
        place / "model", "--data", place / "texts.txt", "--target", "null", "--cache", place / "cache", "--out", out,
        "--evaluations", 20, "--winners", 3, "--quiet", *arguments,
    )  # fmt: skip
    return done, out


def front(place, name, *arguments):
    done, out = run(place, name, *arguments)
    assert done.code == 0, done.err
    return json.loads((out / "front.json").read_text(encoding="utf-8"))


def seconds(net, tokens, batch=1):
    shape = net["shape"]
    stack = tuple(LayerSizes(h, u) for h, u in zip(shape["heads"], shape["ffn_units"], strict=True))
    asked = Workload(batch=batch, tokens=tokens, runtime="null")
    return stack_seconds(Target.parse("null"), asked, DIMS, stack)


def test_the_objective_is_the_expected_latency_and_replaying_measures_it(place):
    found = front(place, "expected", "--traffic", place / "lengths.json")
    traffic = found["workload"]["traffic"]
    assert dict(zip(traffic["tokens"], traffic["shares"], strict=True)) == {4: 0.3, 12: 0.4, 40: 0.3}
    for net in (found["dense"], *found["candidates"]):
        expected = sum(
            share * seconds(net, tokens)
            for tokens, share in zip(*(traffic[k] for k in ("tokens", "shares")), strict=True)
        )
        assert net["predicted"]["latency_ms"] == pytest.approx(expected * 1e3, rel=0.03)
        replayed = np.mean([seconds(net, tokens) for tokens in traffic["replayed"]])
        assert net["measured"]["latency_ms"]["p50"] == pytest.approx(replayed * 1e3, rel=1e-6)
        assert replayed == pytest.approx(expected, rel=0.02)  # sixteen lengths stand for the shares 0.3, 0.4, 0.3


def test_p99_asks_for_the_length_of_the_tail(place):
    found = front(place, "tail", "--traffic", place / "lengths.json", "--percentile", "p99")
    assert found["workload"]["traffic"]["replayed"] == [40]
    for net in (found["dense"], *found["candidates"]):
        assert net["predicted"]["latency_ms"] == pytest.approx(seconds(net, 40) * 1e3, rel=1e-3)  # sizes between others
        assert net["measured"]["latency_ms"]["p50"] == pytest.approx(seconds(net, 40) * 1e3, rel=1e-6)


def test_batches_are_padded_to_their_longest(place):
    found = front(place, "batches", "--traffic", place / "lengths.json", "--batch", 4)
    shares = {4: 0.3**4, 12: 0.7**4 - 0.3**4, 40: 1 - 0.7**4}
    expected = sum(share * seconds(found["dense"], tokens, batch=4) for tokens, share in shares.items())
    assert found["dense"]["predicted"]["latency_ms"] == pytest.approx(expected * 1e3, rel=0.03)


def test_sequences_a_second_are_those_of_batches_padded_to_their_longest(place):
    found = front(place, "throughput", "--traffic", place / "lengths.json", "--objectives", "latency,throughput")
    for net in (found["dense"], *found["candidates"]):
        rates = []
        for batch in (1, 4, 16):
            shares = {4: 0.3**batch, 12: 0.7**batch - 0.3**batch, 40: 1 - 0.7**batch}
            rates.append(batch / sum(share * seconds(net, tokens, batch) for tokens, share in shares.items()))
        assert net["predicted"]["throughput_per_s"] == pytest.approx(max(rates), rel=0.03)


def test_the_word_data_takes_the_lengths_of_the_texts(place):
    found = front(place, "data", "--traffic", "data")
    tokens = found["workload"]["traffic"]["tokens"]
    assert 3 <= tokens[0] < tokens[-1] <= 20


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no traffic file"),
        ("[]", "no request"),
        ("[5, 1000]", "the model's limit"),
        ("[5.5]", "no whole number"),
        ("{", "is no traffic"),
    ],
)
def test_traffic_that_cannot_be_is_refused(place, content, said):
    path = place / "bad.json"
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content)
    done, _ = run(place, "refused", "--traffic", path)
    assert done.code == 2
    assert said in " ".join(done.message)
    assert len(done.message) <= 2
