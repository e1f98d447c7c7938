"""The device at its best: the fastest of several libraries, and mismeasured where a file is faster."""

import numpy as np
import pytest
import torch

from profilers.peak import Peak, Reached, measure_peak
from profilers.peak_products import Product, products
from targets import Target

PEAK = Peak(flops_per_s=100.0, bytes_per_s=10.0, threads=1, method="two products", int8_ops_per_s=300.0)
CPU = Target.parse("cpu")


def small(**more):
    return measure_peak(CPU, 1, sides=(32, 64), copy_bytes=1 << 16, repeats=1, **more)


def pose(monkeypatch, seconds):
    """Products whose calls take what `seconds` says of (precision, library, side); None where the library does not run."""
    libraries = list(dict.fromkeys(key[:2] for key in seconds))

    def make(precision, library):
        return lambda side: None if seconds[precision, library, side] is None else (precision, library, side)

    posed = [Product(precision, library, make(precision, library)) for precision, library in libraries]
    monkeypatch.setattr("profilers.peak.products", lambda *_: posed)
    monkeypatch.setattr("profilers.peak.copies", lambda *_: [("slow", ("copy", 4.0)), ("fast", ("copy", 1.0))])
    monkeypatch.setattr("profilers.peak._best_s", lambda call, *_: call[1] if call[0] == "copy" else seconds[call])


def test_the_fastest_library_and_side_count(monkeypatch):
    seconds = {
        ("fp32", "slow", 32): 1.0,
        ("fp32", "slow", 64): 8.0,
        ("fp32", "fast", 32): 0.5,
        ("fp32", "fast", 64): 3.0,
    }
    pose(monkeypatch, seconds | {("int8", "fast", 32): 0.25, ("int8", "fast", 64): 9.0, ("fp32", "absent", 32): None})
    peak = small()
    assert peak.flops_per_s == max(2 * side**3 / s for (p, _, side), s in seconds.items())
    assert peak.int8_ops_per_s == 2 * 32**3 / 0.25
    assert peak.bytes_per_s == 2 * (1 << 16)
    assert "fp32 product of side 64 in fast, int8 product of side 32 in fast" in peak.method
    assert peak.method.endswith("copy of 0 MB in fast")


def test_without_a_rate_of_8_bits_nothing_is_said_of_their_share(monkeypatch):
    pose(monkeypatch, {("fp32", "one", 32): 1.0, ("fp32", "one", 64): 8.0, ("int8", "one", 32): None})
    peak = small()
    for precision in ("int8", "int8-static"):
        assert peak.share(Reached("a", 1.0, 1.0, precision, 1.0)) is None
    assert peak.against([Reached("a", 1e12, 1e12, "int8", 1e-9)]) == peak


def test_every_library_multiplies_here():
    """PyTorch and ONNX Runtime at least: the runtime that serves is among them."""
    rates = {}
    for product in products(torch.device("cpu"), 1, {}):
        call = product.make(48)
        rates[product.precision, product.library.split()[0]] = call is not None and call() is not None
    assert rates["fp32", "PyTorch"]
    assert rates["fp32", "ONNX"]
    assert rates["int8", "ONNX"]
    peak = small()
    assert min(peak.flops_per_s, peak.bytes_per_s, peak.int8_ops_per_s) > 0
    assert peak.threads == 1


def test_a_peak_that_a_file_beats_was_mismeasured_and_has_no_shares():
    runs = [
        Reached("dense", 300.0, 5.0, "fp32", 2.0),
        Reached("slow", 100.0, 5.0, "fp32", 4.0),
        Reached("eight", 500.0, 5.0, "int8", 2.0),
    ]
    peak = PEAK.against(runs)
    assert [peak.share(run) for run in runs] == [None, None, pytest.approx(500 / 300 / 2)]
    assert peak.method == "two products; mismeasured: dense did more arithmetic in fp32, of which no share is given"
    assert peak.flops_per_s == PEAK.flops_per_s
    assert set(peak.to_json()) == set(PEAK.to_json()), "files stay of one form"


def test_weights_in_a_cache_raise_the_peak_of_memory():
    runs = [Reached("small", 10.0, 8.0, "fp32", 0.5), Reached("slow", 100.0, 5.0, "fp32", 4.0)]
    peak = PEAK.against(runs)
    assert peak.bytes_per_s == 16.0
    assert [peak.share(run) for run in runs] == pytest.approx([1.0, 0.25])
    assert "memory is what small reached, which is more: weights may stay in a cache" in peak.method


def test_a_peak_that_nothing_beats_stays_as_it_is():
    assert PEAK.against([Reached("a", 50.0, 5.0, "fp32", 1.0)]) == PEAK


def test_half_formats_are_mismeasured_alone():
    gpu = Peak(flops_per_s=100.0, bytes_per_s=10.0, threads=1, method="", half_flops_per_s={"fp16": 400.0})
    runs = [Reached("half", 500.0, 1.0, "fp16", 1.0), Reached("whole", 50.0, 1.0, "fp32", 1.0)]
    assert [gpu.against(runs).share(run) for run in runs] == [None, 0.5]


def test_a_network_that_the_peak_was_not_held_against_has_no_share_above_one():
    assert PEAK.share(Reached("other", 300.0, 5.0, "fp32", 2.0)) is None


def test_random_runs_never_exceed_their_peak():
    rng = np.random.default_rng(0)
    for _ in range(50):
        runs = [
            Reached(str(i), *rng.uniform(1, 1000, 2), rng.choice(["fp32", "int8"]), rng.uniform(0.1, 10))
            for i in range(6)
        ]
        peak = PEAK.against(runs)
        assert all(share is None or 0 < share <= 1 for share in map(peak.share, runs))
