"""A front and a cloud that look like a run's, made from formulas: a fixture, not a result."""

import random

LAYERS, HEADS, UNITS, HIDDEN = 6, 12, 1536, 384
SHAPES = {
    "c00": ([11, 12, 12, 12, 11, 12], [1408, 1536, 1408, 1408, 1280, 1408]),
    "c01": ([10, 12, 11, 10, 9, 11], [1152, 1408, 1280, 1152, 1024, 1280]),
    "c02": ([9, 11, 10, 8, 8, 10], [1024, 1152, 1024, 896, 896, 1152]),
    "c03": ([8, 10, 8, 6, 0, 9], [896, 1024, 896, 768, 640, 1024]),
    "c04": ([6, 10, 7, 5, 0, 8], [768, 896, 768, 512, 512, 896]),
    "c05": ([6, 8, 6, 0, 0, 8], [640, 768, 640, 512, 384, 768]),
    "c06": ([4, 8, 5, 0, 0, 6], [512, 640, 512, 0, 384, 640]),
    "c07": ([4, 6, 0, 0, 0, 5], [384, 512, 384, 0, 256, 512]),
    "c08": ([3, 4, 0, 0, 0, 4], [256, 384, 0, 0, 256, 384]),
    "c09": ([0, 3, 0, 0, 0, 3], [256, 256, 0, 0, 0, 256]),
}
WORKLOADS = [(batch, tokens, threads) for batch in (1, 8) for tokens in (32, 128) for threads in (1, 2)]


def _latency(heads, units, *, batch=1, tokens=128, threads=1):
    scale = batch * tokens / 128 / (1 + 0.8 * (threads - 1))
    return 0.12 + (0.25 * LAYERS**0.5 + sum(heads) * 0.058 + sum(units) * 0.00063) * scale


def _error(heads, units, noise=0.0):
    lost = 1 - 0.5 * (sum(heads) / (LAYERS * HEADS) + sum(units) / (LAYERS * UNITS))
    dropped = sum(head == 0 for head in heads)
    return round(max(0.0, 0.13 * lost**2.2 + 0.0012 * dropped + noise), 5)


def _parameters(heads, units):
    blocks = sum(4 * 32 * head * HIDDEN + 99 * head + HIDDEN for head in heads)
    return 11_920_896 + blocks + sum(2 * unit * HIDDEN + unit + HIDDEN for unit in units)


def _grid(heads, units, dense):
    cells = []
    for batch, tokens, threads in WORKLOADS:
        mine, theirs = (_latency(*s, batch=batch, tokens=tokens, threads=threads) for s in ((heads, units), dense))
        cells.append(
            {
                "batch": batch,
                "tokens": tokens,
                "threads": threads,
                "latency_ms": round(mine, 3),
                "dense_latency_ms": round(theirs, 3),
                "speedup": round(theirs / mine, 3),
            }
        )
    return cells


def _measurement(latency):
    tail = {"p50": latency, "p90": latency * 1.04, "p99": latency * 1.13}
    return {
        "latency_ms": {name: round(value, 3) for name, value in tail.items()}, "samples": 120,
        "memory_bytes": 150_000_000, "energy_j": None, "throughput_per_s": round(1.1e3 / latency, 1), "throughput_batch": 4,
    }  # fmt: skip


def _candidate(name, heads, units, measured_over_predicted=1.0):
    dense = [HEADS] * LAYERS, [UNITS] * LAYERS
    predicted, error, parameters = _latency(heads, units), _error(heads, units), _parameters(heads, units)
    measured = round(predicted * measured_over_predicted, 3)
    speedup = _latency(*dense) / measured
    return {
        "id": name,
        "shape": {"heads": list(heads), "ffn_units": list(units)},
        "error": error,
        "metric": {
            "name": "mean_cosine",
            "validation": round(1 - error, 5),
            "test": round(1 - 1.04 * error, 5),
            "standard_error": {"validation": 0.004, "test": 0.0045},
            "others": {
                "neighbour_overlap_at_10": {
                    "validation": round(1 - 2.6 * error, 4),
                    "test": round(1 - 2.7 * error, 4),
                }
            },
        },
        "same_as": [],
        "predicted": {
            "latency_ms": round(predicted, 3),
            "source": "interpolated",
            "memory_bytes": 4.0 * parameters + 1.2e8,
            "energy_j": None,
            "throughput_per_s": round(1.2e3 / predicted, 1),
        },
        "roofline_share": 0.61,
        "measured": _measurement(measured),
        "parameters": parameters,
        "speedup": round(speedup, 3),
        "speedup_interval": [round(speedup * 0.975, 3), round(speedup * 1.02, 3)],
        "speedup_same_precision": round(speedup, 3),
        "precision": "fp32",
        "grid": _grid(heads, units, dense),
        "budget": {"status": "met" if speedup >= 2 else "missed", "limits": {"min_speedup": 2.0}},
        "artifact": {
            "path": f"{name}/model.onnx",
            "sha256": f"{random.Random(name).getrandbits(256):064x}",
            "bytes": 4 * parameters + 61_440,
            "opset": 23,
            "attention_nodes": sum(head > 0 for head in heads),
            "parity_max_abs_error": 1.2e-6,
            "tensorrt": None,
        },
    }


def _unmeasured(candidate):
    unknown = dict.fromkeys(("measured", "speedup", "speedup_interval", "speedup_same_precision"))
    limits = candidate["budget"]["limits"]
    return candidate | unknown | {"grid": [], "budget": {"status": "predicted", "limits": limits}}


def sample_front():
    """Ten candidates of a MiniLM-sized encoder; `c08` was never measured."""
    drift = random.Random(7)
    dense = _candidate("dense", [HEADS] * LAYERS, [UNITS] * LAYERS)
    dense["budget"] = {"status": "none", "limits": {}}
    dense["grid"] = []
    candidates = [_candidate(name, *shape, drift.uniform(0.96, 1.04)) for name, shape in SHAPES.items()]
    candidates[8] = _unmeasured(candidates[8])
    return {
        "schema": 1,
        "tool": {"name": "paretoc", "version": "0.1.0"},
        "model": {
            "name": "sample/MiniLM-L6-fixture",
            "family": "bert",
            "layers": LAYERS,
            "heads": HEADS,
            "ffn_units": UNITS,
            "hidden_size": HIDDEN,
            "parameters": dense["parameters"],
        },
        "task": "embedding",
        "metric": {
            "name": "mean_cosine",
            "higher_is_better": True,
            "description": "mean cosine between the embeddings of a candidate and of the dense model",
        },
        "data": {
            "source": "sample/sentences.jsonl",
            "train_examples": 2000,
            "validation_examples": 500,
            "test_examples": 500,
            "notes": ["duplicates across the splits were removed before splitting"],
        },
        "workload": {
            "batch": 1,
            "tokens": 128,
            "threads": 1,
            "percentile": "p50",
            "precision": "fp32",
            "runtime": "onnxruntime",
            "traffic": None,
        },
        "target": {
            "name": "cpu",
            "precision": "fp32",
            "present": True,
            "fingerprint": {
                "device": "Fixture CPU @ 2.90GHz",
                "cores": 2,
                "instruction_sets": ["avx2", "fma", "avx512_vnni"],
                "libraries": {"onnxruntime": "1.23.2", "torch": "2.9.1", "transformers": "5.0.0"},
            },
        },
        "effort": "balanced",
        "space": "medium",
        "search": "nsga2",
        "objectives": ["latency", "memory", "throughput"],
        "seed": 0,
        "table": {
            "source": "measured",
            "entries": 44,
            "seconds": 31.2,
            "error": {
                "check_nets": 20,
                "mape": 0.021,
                "p95": 0.05,
                "max": 0.07,
                "spearman": 0.993,
                "control_mape": 0.064,
            },
        },
        "dense": dense,
        "candidates": candidates,
        "best": "c05",
        "evaluated": 160,
        "notes": ["These numbers are a fixture of the test suite: no device was measured."],
        "models": {"memory": {"fp32": {"check_nets": 6, "mape": 0.011, "max": 0.02}}},
        "peak": {"flops_per_s": 9.1e10, "bytes_per_s": 1.4e10, "threads": 1, "method": "best of 5"},
        "timings_s": {"profile": 31.2, "search": 142.0, "polish": 388.0, "export": 21.5, "verify": 64.0},
    }


def sample_evaluated(count=150):
    """Rows of `candidates.csv`, as text like a CSV reader gives them: the front and `count` dominated nets."""
    rng = random.Random(11)
    rows = [_row(name, heads, units, on_front=1) for name, (heads, units) in SHAPES.items()]
    for index in range(count):
        keep = rng.betavariate(1.6, 1.3)
        heads = [round(HEADS * min(1, max(0, rng.gauss(keep, 0.22)))) for _ in range(LAYERS)]
        units = [128 * round(12 * min(1, max(0, rng.gauss(keep, 0.22)))) for _ in range(LAYERS)]
        rows.append(_row(f"e{index:03d}", heads, units, noise=rng.expovariate(90)))
    return rows


def _row(name, heads, units, *, noise=0.0, on_front=0):
    row = {
        "id": name,
        "error": _error(heads, units, noise),
        "latency_ms": round(_latency(heads, units), 4),
        "latency_source": "interpolated",
        "parameters": _parameters(heads, units),
        "heads": " ".join(map(str, heads)),
        "ffn_units": " ".join(map(str, units)),
        "on_front": on_front,
    }
    return {key: str(value) for key, value in row.items()}
