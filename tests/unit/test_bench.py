"""Foreign ONNX files understood or refused, operations by closed form, verdicts that know about noise, and the page."""

import json
import math
import re
from itertools import count

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler.cli.bench import bench_table
from compiler.pipeline.bench import SAME, Asked, BenchOptions, agree, bench, check_speed, find_files, too_slow, verdict
from compiler.pipeline.monitor import SilentMonitor
from compiler.report.benchmark import render_markdown, render_page, spans, write_benchmark
from profilers import Series
from profilers.interleave import Block
from profilers.interval import median_interval
from profilers.onnx_file import UNKNOWN_VOCABULARY, read_onnx_file
from profilers.operation_count import count_operations
from profilers.peak import Peak, measure_peak
from targets import Target
from targets.errors import InputError, TargetError, VerificationError
from tests.gpu_stub import TENSORRT, FakeNvml, gpu, pose
from tests.graphs import encoder
from tests.report_sample import sample_front

BATCH, TOKENS, ROWS, WIDTH, OUT = 3, 5, 11, 8, 6
HOSTILE = "</script><b>x</b>\"'&amp;|[red]"


def initialiser(name, *dims):
    return numpy_helper.from_array(np.full(dims, 0.5, np.float32), name)


def save(path, nodes, inputs, weights=(), *, outputs=("out",), domains=()):
    """A graph of `nodes` whose inputs are (name, type, dims)."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        list(weights),
    )
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(name, 1) for name in domains)]
    onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


IDS = ("input_ids", TensorProto.INT64, ["batch", "tokens"])
LOOKUP = helper.make_node("Gather", ["table", "input_ids"], ["words"])
PRODUCT = helper.make_node("MatMul", ["words", "weight"], ["out"])
WEIGHTS = (initialiser("table", ROWS, WIDTH), initialiser("weight", WIDTH, OUT))


def save_lookup(path, ids=IDS):
    """An embedding and one product."""
    return save(path, [LOOKUP, PRODUCT], [ids], WEIGHTS)


# --- files


def test_inputs_are_filled_by_what_their_names_say(tmp_path):
    names = {
        "input_ids": "words",
        "attention_mask": "ones",
        "token_type_ids": "zeros",
        "segment_ids:0": "zeros",
        "input_mask": "ones",
        "input_type_ids": "zeros",
        "position_ids": "positions",
        "input.1": "words",
    }
    inputs = [(name, TensorProto.INT32 if "mask" in name else TensorProto.INT64, ["b", "t"]) for name in names]
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["out"])]
    file = read_onnx_file(save(tmp_path / "a.onnx", nodes, inputs, WEIGHTS[:1]), "a")
    assert file.vocabulary == ROWS
    for name, array in file.arrays(BATCH, TOKENS).items():
        assert array.shape == (BATCH, TOKENS)
        assert array.dtype == (np.int32 if "mask" in name else np.int64)
        if names[name] == "words":
            assert 0 <= array.min() < array.max() < ROWS
        else:
            row = {"ones": [1] * TOKENS, "zeros": [0] * TOKENS, "positions": list(range(TOKENS))}[names[name]]
            assert array.tolist() == [row] * BATCH


def test_the_vocabulary_is_found_behind_a_cast_and_the_smallest_counts(tmp_path):
    nodes = [
        helper.make_node("Gather", ["large", "input_ids"], ["first"]),
        helper.make_node("Cast", ["input_ids"], ["narrow"], to=TensorProto.INT32),
        helper.make_node("Gather", ["table", "narrow"], ["out"]),
    ]
    path = save(tmp_path / "a.onnx", nodes, [IDS], [initialiser("large", 99, 2), WEIGHTS[0]])
    assert read_onnx_file(path, "a").vocabulary == ROWS


def test_without_a_table_ids_stay_small(tmp_path):
    nodes = [helper.make_node("Cast", ["input_ids"], ["out"], to=TensorProto.FLOAT)]
    file = read_onnx_file(save(tmp_path / "a.onnx", nodes, [IDS]), "a")
    assert file.vocabulary is None
    assert 0.5 * UNKNOWN_VOCABULARY < file.arrays(8, 128)["input_ids"].max() < UNKNOWN_VOCABULARY


def test_a_table_is_found_behind_its_dequantisation(tmp_path):
    nodes = [
        helper.make_node("DequantizeLinear", ["table8", "scale"], ["table"]),
        helper.make_node("Gather", ["table", "input_ids"], ["out"]),
    ]
    weights = [
        numpy_helper.from_array(np.ones((ROWS, WIDTH), np.int8), "table8"),
        numpy_helper.from_array(np.float32(1), "scale"),
    ]
    assert read_onnx_file(save(tmp_path / "a.onnx", nodes, [IDS], weights), "a").vocabulary == ROWS


def test_a_table_of_two_rows_is_enough(tmp_path):
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["out"])]
    file = read_onnx_file(save(tmp_path / "a.onnx", nodes, [IDS], [initialiser("table", 2, WIDTH)]), "a")
    assert file.arrays(BATCH, TOKENS)["input_ids"].max() < 2


def test_an_initialiser_that_is_listed_as_an_input_is_none(tmp_path):
    inputs = [IDS, ("table", TensorProto.FLOAT, [ROWS, WIDTH])]
    file = read_onnx_file(save(tmp_path / "a.onnx", [LOOKUP, PRODUCT], inputs, WEIGHTS), "a")
    assert list(file.arrays(1, 2)) == ["input_ids"]


@pytest.mark.parametrize(
    "value",
    [
        ("pixel_values", TensorProto.FLOAT, [1, 3, 8, 8]),
        ("input_ids", TensorProto.FLOAT, ["batch", "tokens"]),
        ("input_ids", TensorProto.INT64, ["tokens"]),
        ("something", TensorProto.INT64, ["batch", "tokens"]),
    ],
)
def test_an_input_that_is_not_understood_is_named_with_what_was_found(tmp_path, value):
    path = save(tmp_path / "a.onnx", [helper.make_node("Identity", [value[0]], ["out"])], [value])
    with pytest.raises(InputError, match=rf"a\.onnx: input '{value[0]}' \((float|int64) \[") as caught:
        read_onnx_file(path, "a")
    assert all(str(dim) in str(caught.value) for dim in value[2])


def test_a_file_without_inputs_is_refused(tmp_path):
    path = save(tmp_path / "a.onnx", [helper.make_node("Identity", ["table"], ["out"])], [], WEIGHTS)
    with pytest.raises(InputError, match="takes no input"):
        read_onnx_file(path, "a")


@pytest.mark.parametrize("content", [b"", b"no model\n" * 9, b"\x00" * 64])
def test_what_is_no_onnx_file_is_refused(tmp_path, content):
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match="no ONNX model"):
        read_onnx_file(path, "a")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_onnx_file(tmp_path / "none.onnx", "none")


def test_weights_beside_the_file_are_counted_and_missed(tmp_path):
    path = save_lookup(tmp_path / "a.onnx")
    inside = path.stat().st_size
    onnx.save_model(
        onnx.load(path), path, save_as_external_data=True, location="a.data", size_threshold=0, convert_attribute=False
    )
    weights = 4 * (ROWS * WIDTH + WIDTH * OUT)
    assert inside > weights
    assert read_onnx_file(path, "a").size_bytes == path.stat().st_size + (tmp_path / "a.data").stat().st_size
    assert count_operations(path, read_onnx_file(path, "a").arrays(1, 2)).weight_bytes == 4 * WIDTH * OUT
    (tmp_path / "a.data").unlink()
    with pytest.raises(InputError, match=r"a\.data"):
        read_onnx_file(path, "a")


def _half(name, *dims):
    return numpy_helper.from_array(np.full(dims, 0.5, np.float16), name)


@pytest.mark.parametrize(
    ("operators", "weights", "precision"),
    [
        (["MatMul"], [initialiser("a", 8), _half("b", 2)], "fp32"),
        (["MatMul"], [initialiser("a", 2), _half("b", 8)], "fp16"),
        (["MatMul"], [], "fp32"),
        (["DynamicQuantizeLinear", "MatMulInteger"], [initialiser("a", 8)], "int8"),
        (["QuantizeLinear", "DequantizeLinear", "MatMul"], [initialiser("a", 8)], "int8-static"),
    ],
)
def test_a_file_is_of_the_precision_that_it_computes_in(tmp_path, operators, weights, precision):
    nodes = [helper.make_node(op, ["input_ids"], ["out"]) for op in operators]
    file = read_onnx_file(save(tmp_path / "a.onnx", nodes, [IDS], weights), "a")
    assert file.precision == file.program().precision == precision


def test_a_file_is_no_module(tmp_path):
    with pytest.raises(TargetError, match="--runtime onnxruntime"):
        read_onnx_file(save_lookup(tmp_path / "a.onnx"), "a").program().module()


# --- one workload for all


def test_fixed_sizes_are_respected(tmp_path):
    fixed = read_onnx_file(save_lookup(tmp_path / "a.onnx", ("ids", TensorProto.INT64, [BATCH, TOKENS])), "a")
    free = read_onnx_file(save_lookup(tmp_path / "b.onnx"), "b")
    options = BenchOptions(paths=(tmp_path,))
    assert agree(options, [free], Asked(2, 64, 4), "fp32").to_json() == {
        "batch": 2, "tokens": 64, "threads": 4, "precision": "fp32", "runtime": "onnxruntime"
    }  # fmt: skip
    workload = agree(options, [free, fixed], Asked(), "fp32")
    assert (workload.batch, workload.tokens, workload.threads) == (BATCH, TOKENS, 1)


def test_a_size_that_a_file_was_not_exported_for_is_refused(tmp_path):
    def exported(name, *shape):
        return read_onnx_file(save_lookup(tmp_path / name, ("ids", TensorProto.INT64, list(shape))), name)

    options = BenchOptions(paths=(tmp_path,), batch=BATCH)
    with pytest.raises(InputError, match=r"a was exported for --batch 1 only, the benchmark has 3"):
        agree(options, [exported("a", 1, "tokens")], Asked(), "fp32")
    with pytest.raises(InputError, match=r"b was exported for --seq-len 9 only, the benchmark has 7"):
        agree(options, [exported("a", "batch", 7), exported("b", "batch", 9)], Asked(), "fp32")


@pytest.mark.parametrize(
    "wrong", [{"batch": 0}, {"seq_len": -1}, {"threads": 0}, {"seconds": 0.0}, {"runtime": "torch"}, {"runtime": "tvm"}]
)
def test_wrong_options_are_refused(tmp_path, wrong):
    with pytest.raises(InputError):
        BenchOptions(paths=(tmp_path,), **wrong)


def write_run(folder):
    """A run directory of the dense model and one candidate, without their files."""
    front = sample_front()
    front |= {"candidates": front["candidates"][:1], "best": "c00"}
    front["workload"] |= {"batch": 2, "tokens": 32, "threads": 3}
    folder.mkdir(exist_ok=True)
    (folder / "front.json").write_text(json.dumps(front), encoding="utf-8")
    return folder


def test_a_run_is_its_dense_model_and_its_candidates(tmp_path):
    run = write_run(tmp_path / "run")
    found, asked = find_files([run], None)
    assert found == [("dense", run / "dense/model.onnx", "fp32"), ("c00", run / "c00/model.onnx", "fp32")]
    assert asked == (2, 32, 3)


def test_the_baseline_comes_first_and_no_file_twice(tmp_path):
    run, file = write_run(tmp_path / "run"), tmp_path / "mine.onnx"
    found, _ = find_files([run, file, file, run / "dense/../c00/model.onnx"], run / "c00/model.onnx")
    assert [file.name for file in found] == ["c00", "dense", "mine.onnx"]
    assert [file.precision for file in found] == ["fp32", "fp32", None], "a file of nobody's run says it itself"
    found, asked = find_files([file], run / "dense/model.onnx")
    assert [file.name for file in found] == ["model.onnx", "mine.onnx"]
    assert asked == Asked()


def test_equal_names_are_told_apart_by_their_paths(tmp_path):
    first, second = write_run(tmp_path / "first"), write_run(tmp_path / "second")
    names = [file.name for file in find_files([first, second], None)[0]]
    assert len(set(names)) == 4
    assert names[0] == (first / "dense/model.onnx").as_posix()


@pytest.mark.parametrize("content", [None, "{", "[]", '{"dense": {}}'])
def test_a_folder_that_is_no_run_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "front.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"no run directory|not JSON|expected an object|schema None"):
        find_files([tmp_path], None)


# --- operations and peak


def test_products_are_counted_by_their_sizes(tmp_path):
    nodes = [
        LOOKUP,
        helper.make_node("MatMul", ["words", "weight"], ["projected"]),
        helper.make_node("Relu", ["projected"], ["relu"]),
        helper.make_node("Reshape", ["relu", "shape"], ["flat"]),
        helper.make_node("Gemm", ["square", "flat", "bias"], ["out"], transA=1, transB=1),
    ]
    weights = [*WEIGHTS, numpy_helper.from_array(np.array([-1, OUT]), "shape")]
    weights += [initialiser("square", OUT, 2), initialiser("bias", 1)]
    path = save(tmp_path / "a.onnx", nodes, [IDS], weights)
    found = count_operations(path, read_onnx_file(path, "a").arrays(BATCH, TOKENS))
    assert found.count == 2 * BATCH * TOKENS * WIDTH * OUT + 2 * 2 * OUT * BATCH * TOKENS
    assert found.counted == {"Gemm": 1, "MatMul": 1}
    assert found.ignored == {"Gather": 1, "Relu": 1, "Reshape": 1}
    assert found.unknown == {}
    assert found.weight_bytes == 4 * (WIDTH * OUT + OUT * 2 + 1) + 2 * 8


def test_int8_products_are_counted_too(tmp_path):
    nodes = [
        LOOKUP,
        helper.make_node("DynamicQuantizeLinear", ["words"], ["bytes", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["bytes", "weight8", "zero"], ["out"]),
    ]
    weights = [WEIGHTS[0], numpy_helper.from_array(np.ones((WIDTH, OUT), np.int8), "weight8")]
    path = save(tmp_path / "a.onnx", nodes, [IDS], weights)
    found = count_operations(path, read_onnx_file(path, "a").arrays(BATCH, TOKENS))
    assert found.count == 2 * BATCH * TOKENS * WIDTH * OUT
    assert found.weight_bytes == WIDTH * OUT
    assert found.unknown == {}


def test_a_fused_attention_is_its_projection_and_two_products(tmp_path):
    heads, third = 2, 4
    nodes = [
        LOOKUP,
        helper.make_node(
            "Attention", ["words", "qkv", "bias"], ["out"], domain="com.microsoft", num_heads=heads
        ),
    ]  # fmt: skip
    weights = [WEIGHTS[0], initialiser("qkv", WIDTH, 3 * third), initialiser("bias", 3 * third)]
    path = save(tmp_path / "a.onnx", nodes, [IDS], weights, domains=["com.microsoft"])
    found = count_operations(path, read_onnx_file(path, "a").arrays(BATCH, TOKENS))
    scores = BATCH * heads * TOKENS * TOKENS * (third // heads)
    assert found.count == 2 * BATCH * TOKENS * WIDTH * 3 * third + 2 * 2 * scores


def test_what_is_not_known_is_reported_and_not_ignored(tmp_path):
    nodes = [LOOKUP, PRODUCT, helper.make_node("Einsum", ["out", "out"], ["more"], equation="btw,btw->b")]
    path = save(tmp_path / "a.onnx", nodes, [IDS], WEIGHTS, outputs=("more",))
    found = count_operations(path, read_onnx_file(path, "a").arrays(BATCH, TOKENS))
    assert found.unknown == {"Einsum": 1}
    assert found.counted == {"MatMul": 1}


def test_a_file_that_does_not_run_is_refused(tmp_path):
    path = save_lookup(tmp_path / "a.onnx")
    feed = {"input_ids": np.full((2, 3), ROWS + 1)}
    with pytest.raises(
        InputError, match=r"a\.onnx does not run on batch 2, 3 tokens: indices element out of data bounds"
    ):
        count_operations(path, feed)
    path = save(tmp_path / "b.onnx", [helper.make_node("Nothing", ["input_ids"], ["out"], domain="a.b")], [IDS])
    with pytest.raises(InputError, match="Nothing"):
        count_operations(path, feed)


def test_the_peak_is_work_over_the_best_time(monkeypatch):
    clock = count()
    monkeypatch.setattr("profilers.peak.time.perf_counter", lambda: float(next(clock)))
    peak = measure_peak(Target.parse("cpu"), 1, sides=(16,), copy_bytes=4096, repeats=2)
    assert (peak.flops_per_s, peak.bytes_per_s, peak.threads) == (2 * 16**3, 2 * 4096, 1)
    assert "side 16" in peak.method


def test_a_measured_peak_leaves_the_thread_count_alone():
    import torch

    before = torch.get_num_threads()
    peak = measure_peak(Target.parse("cpu"), before + 1, sides=(64,), copy_bytes=1 << 16, repeats=1)
    assert torch.get_num_threads() == before
    assert min(peak.flops_per_s, peak.bytes_per_s) > 0


def test_on_a_gpu_the_half_formats_have_rates_of_their_own(monkeypatch):
    """A10G has bf16 units and T4 has none; float32 is never what fp16 is held against, and of 8 bits nothing is known."""
    import torch

    seconds = {torch.float32: 1.0, torch.float16: 0.25, torch.bfloat16: 0.5, "copy": 1.0}
    monkeypatch.setattr("profilers.peak._ordinal", lambda _: 0)
    monkeypatch.setattr("profilers.peak_products.torch_product", lambda _side, _device, kind: kind)
    monkeypatch.setattr("profilers.peak.copies", lambda *_: [("PyTorch", "copy")])
    monkeypatch.setattr("profilers.peak._best_s", lambda call, *_: seconds[call])
    peak = measure_peak(Target.parse("a10g"), 1, sides=(10,), copy_bytes=8)
    assert (peak.flops_per_s, peak.half_flops_per_s) == (2000.0, {"fp16": 8000.0, "bf16": 4000.0})
    assert set(measure_peak(Target.parse("t4"), 1, sides=(10,), copy_bytes=8).half_flops_per_s) == {"fp16"}
    assert peak.seconds(8000.0, 0.0, "fp16") == 1.0
    assert peak.seconds(8000.0, 0.0) == 4.0
    assert peak.seconds(8000.0, 0.0, "int8") is None


def test_arithmetic_and_traffic_hide_behind_each_other():
    peak = Peak(flops_per_s=100.0, bytes_per_s=10.0, threads=1, method="")
    assert peak.seconds(200.0, 10.0) == 2.0
    assert peak.seconds(200.0, 50.0) == 5.0


# --- verdicts


def series(time_ratio, noise, blocks=12, seed=0):
    """Blocks that take `time_ratio` of the reference, with lognormal noise on both."""
    rng = np.random.default_rng(seed)

    def block():
        mine, theirs = 1e-3 * rng.lognormal(0, noise, 2)
        return Block(reference_s=(theirs,) * 5, turns_s=((mine * time_ratio,) * 2,) * 4)

    return Series(name="x", blocks=tuple(block() for _ in range(blocks)), reference_s=1e-3, warmup=2)


def interval(*arguments, **options):
    return median_interval(series(*arguments, **options).ratio_to_reference())


SEEDS = range(60)


def test_ten_percent_slower_fails_a_limit_of_three():
    found = [interval(1.10, 0.01, seed=seed) for seed in SEEDS]
    assert all(too_slow(i, 0.03) and verdict(i) == "slower" for i in found)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.02])
def test_no_difference_a_small_one_and_a_gain_pass_a_limit_of_three(ratio):
    assert not any(too_slow(interval(ratio, 0.01, seed=seed), 0.03) for seed in SEEDS)


def test_ten_percent_slower_is_not_sure_enough_in_much_noise():
    assert not too_slow(interval(1.10, 0.3, blocks=6, seed=1), 0.03)


def test_words_for_an_interval():
    assert verdict((1.01, 1.2)) == "faster"
    assert verdict((0.8, 0.99)) == "slower"
    assert verdict((0.98, 1.02)) == "same within noise"
    assert verdict((0.9, 1.02)) == verdict((0.98, 1 + 2 * SAME)) == verdict(None) == "undecided"


def test_equal_files_are_seldom_called_different():
    words = [verdict(interval(1.0, 0.005, seed=seed)) for seed in range(200)]
    assert words.count("same within noise") > 170


def test_a_median_interval_covers_the_median():
    rng = np.random.default_rng(3)
    found = [median_interval(list(rng.normal(2.0, 0.1, 15))) for _ in range(300)]
    assert 0.88 < np.mean([low <= 2.0 <= high for low, high in found]) < 0.995
    assert median_interval([1.0, 2.0]) is None
    assert median_interval([2.0, 2.0, 2.0]) == (2.0, 2.0)


# --- a GPU that is not there


@pytest.mark.parametrize(("asked", "engine"), [("a10g:fp32", False), ("a10g", True)])
@pytest.mark.parametrize("runtime", ["onnxruntime", "tensorrt"])
def test_a_users_file_runs_in_its_own_precision_and_keeps_its_attention(monkeypatch, tmp_path, runtime, asked, engine):
    """A float file is asked as one on CUDA, whatever the device's usual precision; TensorRT makes of it what is asked."""
    path = tmp_path / "encoder.onnx"
    path.write_bytes(encoder())
    counted = count_operations(path, {"input_ids": np.zeros((1, 8), np.int64)})
    ort = pose(monkeypatch, nvml=FakeNvml(gpu(other_processes=(1,))))
    for module in ("targets.presence", "targets.fingerprint", "profilers.memory", "profilers.energy"):
        monkeypatch.setattr(f"{module}.open_nvml", FakeNvml)
    monkeypatch.setattr("compiler.pipeline.bench.count_operations", lambda *_: counted)
    monkeypatch.setattr(
        "compiler.pipeline.bench.measure_peak", lambda *_: Peak(flops_per_s=1e9, bytes_per_s=1e9, threads=1, method="")
    )
    options = BenchOptions(paths=(path,), target=asked, runtime=runtime, seq_len=8, seconds=0.1)
    found = bench(options, SilentMonitor())
    (file,) = found["files"]
    half = runtime == "tensorrt" and engine
    assert file["precision"] == ("fp16" if half else "fp32")
    assert all(session[TENSORRT]["trt_fp16_enable"] == half for session in ort.sessions if TENSORRT in session)
    assert (file["memory_bytes"], file["energy_j"]) == (None, None)
    assert any("other processes were on NVIDIA A10G" in note for note in found["notes"])
    assert any(note.startswith("Energy is not available: NVML reports no energy counter") for note in found["notes"])


# --- reports


def file(name, speedup, low, high, **changes):
    return {
        "name": name,
        "sha256": "0" * 64,
        "bytes": 45_300_000,
        "precision": "fp32",
        "latency_ms": {"p50": 8.0 / speedup, "p90": 9.0 / speedup, "p99": 11.0 / speedup},
        "samples": 120,
        "blocks": 6,
        "throughput_per_s": 125.0 * speedup,
        "speedup": speedup,
        "speedup_interval": (low, high),
        "verdict": verdict((low, high)),
        "too_slow": False,
        "memory_bytes": None,
        "energy_j": None,
        "operations": {
            "count": 2.8e9, "weight_bytes": 42_000_000, "counted": {"MatMul": 36}, "ignored": {"Add": 50}, "unknown": {}
        },
        "roofline_share": 0.5,
    } | changes  # fmt: skip


@pytest.fixture
def found():
    slow = file("slow", 0.8, 0.79, 0.81, too_slow=True)
    slow["operations"] = slow["operations"] | {"unknown": {"Einsum": 2}}
    return {
        "schema": 1,
        "tool": {"name": "paretoc", "version": "0.1.0"},
        "target": {"name": "cpu", "fingerprint": {"device_name": "Fixture CPU", "isa": ["avx2"]}},
        "workload": {"batch": 1, "tokens": 128, "threads": 1, "runtime": "onnxruntime"},
        "seconds": 30.1,
        "baseline": "dense",
        "fail_if_slower": 0.03,
        "peak": {"flops_per_s": 9e10, "bytes_per_s": 1e10, "threads": 1, "method": "PyTorch, best of 5"},
        "files": [file("dense", 1.0, 0.99, 1.01), file("small", 2.0, 1.9, 2.1, memory_bytes=123_000_000), slow],
        "notes": ["a note"],
    }


def test_the_gate_names_who_is_too_slow_and_by_how_much(found):
    with pytest.raises(VerificationError, match=r"1 of 2 files take over 3\.0% more time than dense") as caught:
        check_speed(found)
    assert str(caught.value).splitlines()[1] == "slow +25.0% (95 % interval +23.5% to +26.6%)"
    found["files"][2]["too_slow"] = False
    check_speed(found)


def test_energy_is_in_every_form_of_the_report(found):
    found["files"][1]["energy_j"] = 0.035
    assert "35.0\u00a0mJ" in render_page(found)
    assert "| 35.0\u00a0mJ |" in render_markdown(found)
    assert "energy" in [column.header for column in bench_table(found).columns]


def test_the_page_is_self_contained_and_complete(found):
    found["peak"]["half_flops_per_s"] = {"fp16": 3.2e11}
    page = render_page(found)
    assert "320\u00a0GFLOP/s" in page
    assert not re.search(r"https?://|url\(|@import|<script|<link|<img|\bsrc=|\bhref=", page)
    assert page.count("<tr data-name=") == 3
    for words in ("small is the fastest", "123\u00a0MB", "too slow", "unknown: 2 Einsum", "\u2265 50\u00a0%", "a note"):
        assert words in page, words


def test_hostile_names_stay_text(found):
    found["files"][1]["name"] = found["notes"][0] = HOSTILE
    assert HOSTILE not in render_page(found)
    assert "<b>" not in render_page(found)
    table = [line for line in render_markdown(found).splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert bench_table(found).row_count == 3


def test_no_faster_file_no_claim(found):
    found["files"] = [found["files"][0], found["files"][2]]
    assert "No file is measurably faster than dense." in render_page(found)
    found["files"] = found["files"][:1]
    assert "dense answers in 8.00" in render_markdown(found)


def test_spans_lie_on_a_logarithmic_axis(found):
    found["files"][1] |= {"speedup": 4.0, "speedup_interval": (2.0, 8.0)}
    found["files"][2] |= {"speedup": 0.7, "speedup_interval": (0.5, 0.9)}
    places = spans(found)
    one = math.log(1 / 0.5) / math.log(8 / 0.5)
    assert places["small"] == pytest.approx({"low": 0.5, "middle": 0.75, "high": 1.0, "one": one})
    assert places["slow"]["low"] == 0.0


def test_three_files_are_written(found, tmp_path):
    write_benchmark(found, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bench.html", "bench.json", "bench.md"]
    written = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(found))
