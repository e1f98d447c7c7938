"""The catalogue's facts, what NVML recognises, and which fingerprints share a cost table."""

import copy
import json
import os
import pickle
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest

from targets import (
    Fingerprint,
    FrozenMap,
    GpuState,
    InputError,
    Target,
    TargetError,
    gpu_state,
    load_catalog,
    measure_fingerprint,
    present,
    shipped_files,
    shipped_tables,
    survey,
)
from targets import fingerprint as fingerprint_module
from targets import nvml as nvml_module

CATALOG = load_catalog()
GPUS = {name: target for name, target in CATALOG.items() if target.kind == "gpu"}

# names as the driver gives them -> the one catalogue entry they are, or none
NVML_NAMES = {
    "NVIDIA A10G": "a10g",
    "NVIDIA A10": None,
    "Tesla T4": "t4",
    "NVIDIA T4": "t4",
    "NVIDIA T400": None,
    "NVIDIA L4": "l4",
    "NVIDIA L40": None,
    "NVIDIA L40S": "l40s",
    "NVIDIA A100-SXM4-80GB": "a100",
    "A100-SXM-80GB": "a100",
    "NVIDIA A100-SXM4-40GB": None,
    "NVIDIA A100 80GB PCIe": None,
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H100 PCIe": None,
    "NVIDIA H100 NVL": None,
    "NVIDIA H200": "h200",
    "NVIDIA H200 NVL": None,
    "NVIDIA GH200 480GB": None,
    "NVIDIA GeForce RTX 4090": None,
}


class FakeNvml:
    """A driver with the GPUs it is told."""

    def __init__(self, *names: str, driver: str = "570.124.06", mig: bool = False) -> None:
        self.names = names
        self.driver = driver
        self.mig = mig

    def driver_version(self) -> str:
        return self.driver

    def cuda_version(self) -> str:
        return "12.8"

    def device_count(self) -> int:
        return len(self.names)

    def state(self, index: int) -> GpuState:
        return GpuState(
            index=index, name=self.names[index], uuid=f"GPU-{index}aaa", sm_clock_max_mhz=1710, mig=self.mig
        )


@pytest.fixture(autouse=True)
def _every_gpu_visible(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


# --- the catalogue ---


def test_catalog_lists_the_devices():
    assert set(CATALOG) == {"cpu", "null", "a10g", "t4", "l4", "a100", "h100", "h200", "l40s"}


@pytest.mark.parametrize("target", CATALOG.values(), ids=str)
def test_every_fact_has_a_source(target):
    facts = {"arch", "memory_bytes", "bandwidth_bytes_per_s", "tdp_w", "size_alignment", "call_overhead_s"}
    assert set(target.sources) == facts | {f"peak_flops_per_s.{name}" for name in target.peak_flops_per_s}
    for source in target.sources.values():
        assert source.title
        assert source.url is not None or source.checked in {"assumed", "defined"}
        assert source.url is None or source.url.startswith("https://")


@pytest.mark.parametrize("target", GPUS.values(), ids=str)
def test_rates_of_gpus_are_dense_and_in_order(target):
    rates = target.peak_flops_per_s
    assert rates["fp32"] < rates["fp16"] < rates["int8"] <= 2.03 * rates["fp16"]
    assert ("tf32" in rates) == ("bf16" in rates) == (target.arch != "sm_75")


def test_rates_that_are_often_printed_sparse():
    fp16 = {name: target.peak_flops_per_s["fp16"] / 1e12 for name, target in GPUS.items()}
    sparse = {"a10g": 140, "l4": 242, "a100": 624, "h100": 1979, "h200": 1979}
    assert {name: 2 * fp16[name] for name in sparse} == sparse
    assert fp16["t4"] == 65
    assert fp16["a10g"] == 70, "125 is the A10's"


def test_the_host_decides_what_a_cpu_has():
    cpu = CATALOG["cpu"]
    assert cpu.generic
    assert cpu.memory_bytes is None
    assert cpu.tdp_w is None
    assert not any(target.generic for target in GPUS.values())


def test_targets_are_immutable_hashable_and_go_to_other_processes():
    target = CATALOG["a10g"]
    with pytest.raises(FrozenInstanceError):
        target.name = "b10g"
    with pytest.raises(TypeError):
        target.peak_flops_per_s["fp16"] = 1.0
    for twin in (pickle.loads(pickle.dumps(target)), copy.deepcopy(target)):  # noqa: S301 - our own bytes
        assert twin == target
        assert hash(twin) == hash(target)
    load_catalog().clear()
    assert load_catalog() == CATALOG, "the caller's dictionary is a copy"


def _written(folder: Path, change) -> Path:
    text = Path(str(Path(nvml_module.__file__).parent / "catalog" / "t4.toml")).read_text(encoding="utf-8")
    (folder / "t4.toml").write_text(change(text), encoding="utf-8")
    return folder


def test_a_copy_of_the_catalogue_reads_the_same(tmp_path):
    assert load_catalog(_written(tmp_path, lambda text: text)) == {"t4": CATALOG["t4"]}


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('name = "t4"', 'name = "t5"', "name: expected 't4', got 't5'"),
        ('kind = "gpu"', 'kind = "fpga"', "kind: expected one of cpu, gpu, null, got 'fpga'"),
        ('kind = "gpu"', 'kind = "gpu"\ncolour = "green"', "the file: expected only"),
        ('default_precision = "fp16"', 'default_precision = "int8"', "default_precision: expected one of fp32, fp16"),
        ("value = 70,", "value = -70,", "facts.tdp_w.value: expected a number above 0, got -70"),
        ("value = 70,", 'value = "70 W",', "facts.tdp_w.value: expected a number above 0, got '70 W'"),
        ("value = 16_000_000_000", "value = 16e9", "facts.memory_bytes.value: expected a whole number above 0"),
        ("value = 16_000_000_000", "host_decides = false", "facts.memory_bytes: expected a value"),
        ('value = 8.1e12, source = "datasheet"', 'value = 8.1e12, source = "hearsay"', "expected one of page, "),
        ('value = 8.1e12, source = "datasheet"', "value = 8.1e12", "facts.peak_flops_per_s.fp32.source"),
        ('checked = "citation" }', 'checked = "surely" }', "checked: expected one of vendor, citation"),
        ("int8 = {", "int4 = {", "facts.peak_flops_per_s: expected only"),
        ("(Tesla|NVIDIA) T4", "(Tesla T4", "nvml_names: expected regular expressions"),
        ("[runtimes]", "[runtimes", "the file: expected TOML"),
    ],
)
def test_a_faulty_file_is_refused_by_file_and_key(tmp_path, old, new, complaint):
    folder = _written(tmp_path, lambda text: text.replace(old, new))
    with pytest.raises(InputError, match=re.escape("target catalogue, t4.toml: ")) as refused:
        load_catalog(folder)
    assert complaint in str(refused.value)


# --- NAME:PRECISION ---


def test_default_precision_and_case():
    assert Target.parse("A10G").precision == "fp16"
    assert Target.parse(" A10G:FP16 ") == Target.parse("a10g")
    assert str(Target.parse("cpu")) == "cpu:fp32"


def test_unknown_target_names_the_nearest_and_all():
    with pytest.raises(InputError, match="Did you mean 'h100'") as refused:
        Target.parse("h10:fp16")
    assert refused.value.exit_code == 2
    assert all(name in str(refused.value) for name in CATALOG)
    assert str(refused.value).count("\n") == 1
    with pytest.raises(InputError, match="no target is called ''"):
        Target.parse("")


@pytest.mark.parametrize(
    ("text", "reason", "choices"),
    [
        ("cpu:fp16", "ONNX Runtime has no fp16 kernels", "fp32, int8"),
        ("cpu:int8-static", "with zero point 0, ONNX Runtime multiplies half", "fp32, int8"),
        ("t4:bf16", "Turing .* has no bf16", "fp32, fp16, int8-static"),
        ("a10g:tf32", "ask for fp32", "fp32, fp16, bf16, int8-static"),
        ("a10g:fp12", "there is no such precision", "fp32, fp16, bf16, int8-static"),
        ("a10g:", "there is no such precision", "fp32, fp16, bf16, int8-static"),
        ("null:bf16", "the null device has no bf16", "fp32, fp16, int8, int8-static"),
    ],
)
def test_refused_precision_says_why_and_what_else(text, reason, choices):
    with pytest.raises(InputError, match=reason) as refused:
        Target.parse(text)
    assert str(refused.value).endswith(f"It runs: {choices}.")


def test_the_runtime_follows_the_precision():
    assert Target.parse("a10g:fp16").runtime == "onnxruntime"
    assert Target.parse("a10g:int8").runtime == "tensorrt"
    assert Target.parse("a10g").with_runtime("tensorrt").runtime == "tensorrt"
    assert Target.parse("a10g").supports("int8-static")
    assert not Target.parse("a10g").supports("int8-static", "onnxruntime")


def test_int8_on_a_gpu_is_static():
    assert str(Target.parse("a10g:int8")) == "a10g:int8-static"
    assert str(Target.parse("cpu:int8")) == "cpu:int8"


def test_a_runtime_that_does_not_serve_is_refused():
    with pytest.raises(InputError, match="cpu is not served by 'tensorrt'"):
        Target.parse("cpu").with_runtime("tensorrt")
    with pytest.raises(InputError, match="torch does not run int8-static on a10g"):
        Target.parse("a10g:int8").with_runtime("torch")


# --- what is here ---


@pytest.mark.parametrize(("device_name", "name"), NVML_NAMES.items())
def test_nvml_name_is_one_entry_or_none(device_name, name):
    assert [t.name for t in CATALOG.values() if t.recognises(device_name)] == ([name] if name else [])


def test_a_fake_a10g_is_here_and_nothing_else_is():
    rows = {row.target.name: row for row in survey(FakeNvml("NVIDIA A10G"))}
    assert set(rows) == set(CATALOG)
    assert {name for name, row in rows.items() if row.presence} == {"cpu", "null", "a10g"}
    assert rows["a10g"].presence.reason == "NVML sees NVIDIA A10G (GPU 0)"
    assert rows["l4"].presence.reason == "NVML sees NVIDIA A10G, which is not the catalogue's l4"


def test_missing_gpus_say_why(monkeypatch):
    a10g = CATALOG["a10g"]
    assert present(a10g, FakeNvml()).reason == "the NVIDIA driver sees no GPU"
    assert "MIG" in present(a10g, FakeNvml("NVIDIA A10G", mig=True)).reason
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert present(a10g, FakeNvml("NVIDIA A10G")).reason == "CUDA_VISIBLE_DEVICES hides every GPU"


@pytest.mark.parametrize(
    ("visible", "ordinal"), [(None, 1), ("0,1", 1), ("1", 0), ("1,0", 0), ("GPU-1a,0", 0), ("0", None), ("7,1", None)]
)
def test_cuda_visible_devices_decides_what_is_seen(monkeypatch, visible, ordinal):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    presence = present(CATALOG["a10g"], FakeNvml("Tesla T4", "NVIDIA A10G"))
    assert presence.here == (ordinal is not None)
    assert presence.cuda_ordinal == ordinal
    assert presence.gpu is None or presence.gpu.index == 1


def test_without_the_binding_or_the_driver_there_is_a_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "pip install nvidia-ml-py" in present(CATALOG["a10g"]).reason
    assert {row.target.name for row in survey() if row.presence} == {"cpu", "null"}


def test_a_driver_that_does_not_answer_is_a_reason(monkeypatch):
    def refuse() -> None:
        raise pynvml.NVMLError_LibraryNotFound

    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    assert present(CATALOG["a10g"]).reason.startswith("no NVIDIA driver answers here")
    with pytest.raises(TargetError) as missing:
        measure_fingerprint(CATALOG["a10g"])
    assert missing.value.exit_code == 3


def test_a_driver_that_was_updated_under_the_system_says_what_to_do(monkeypatch):
    def refuse() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)

    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    reason = present(CATALOG["a10g"]).reason
    assert "version mismatch" in reason.splitlines()[0]
    assert "restart the machine" in reason.splitlines()[1]


def _fake_pynvml(**calls):
    def unsupported(*_args):
        raise pynvml.NVMLError_NotSupported

    names = [name for name in dir(pynvml) if name.startswith(("nvmlDeviceGet", "nvmlSystemGet"))]
    constants = {"NVMLError": pynvml.NVMLError, "NVML_CLOCK_SM": 1, "NVML_DEVICE_MIG_ENABLE": 1}
    basics = {"nvmlDeviceGetHandleByIndex": lambda i: i, "nvmlDeviceGetName": lambda _: b"NVIDIA A10G"}
    return SimpleNamespace(**(dict.fromkeys(names, unsupported) | constants | basics | calls))


def test_what_a_board_does_not_report_is_none():
    state = nvml_module._DriverNvml(_fake_pynvml()).state(0)
    assert state == GpuState(index=0, name="NVIDIA A10G")
    assert nvml_module._DriverNvml(_fake_pynvml()).cuda_version() is None


def test_what_a_board_reports_is_in_our_units():
    driver = nvml_module._DriverNvml(
        _fake_pynvml(
            nvmlSystemGetCudaDriverVersion_v2=lambda: 12080,
            nvmlDeviceGetMemoryInfo=lambda _: SimpleNamespace(total=24 << 30, used=1 << 30),
            nvmlDeviceGetClockInfo=lambda _, kind: {1: 885}[kind],
            nvmlDeviceGetPowerUsage=lambda _: 61_500,
            nvmlDeviceGetTotalEnergyConsumption=lambda _: 2_000,
            nvmlDeviceGetCurrentClocksThrottleReasons=lambda _: pynvml.nvmlClocksEventReasonSwPowerCap | 1,
            nvmlDeviceGetComputeRunningProcesses=lambda _: [SimpleNamespace(pid=p) for p in (os.getpid(), 9, 4)],
            nvmlDeviceGetMigMode=lambda _: [0, 0],
        )
    )
    state = driver.state(0)
    assert driver.cuda_version() == "12.8"
    assert (state.memory_total_bytes, state.memory_used_bytes) == (24 << 30, 1 << 30)
    assert (state.sm_clock_mhz, state.power_w, state.energy_j) == (885, 61.5, 2.0)
    assert state.throttle_reasons == ("idle", "software power cap"), "read under the call's old name"
    assert state.other_processes == (4, 9)
    assert state.mig is False


def test_throttle_reasons_are_nvmls():
    bits = {getattr(pynvml, n) for n in dir(pynvml) if re.fullmatch(r"nvmlClocksEventReason\w+", n)}
    assert set(nvml_module._THROTTLE_REASONS) <= bits


def test_gpu_state_of_an_index():
    assert gpu_state(1, FakeNvml("Tesla T4", "NVIDIA A10G")).name == "NVIDIA A10G"
    with pytest.raises(TargetError, match="no GPU has the index 2; the driver sees 1"):
        gpu_state(2, FakeNvml("Tesla T4"))


def test_shipped_tables_belong_to_their_target(monkeypatch, tmp_path):
    (tmp_path / "costs").mkdir()
    for name in ("l4.json", "l4-tensorrt-fp16.json", "l40s-fp16.json", "l4-notes.txt"):
        (tmp_path / "costs" / name).touch()
    monkeypatch.setattr("targets.presence.resources.files", lambda _: tmp_path)
    assert shipped_tables("l4") == ("l4-tensorrt-fp16.json", "l4.json")
    assert shipped_files("l4") == (tmp_path / "costs" / "l4-tensorrt-fp16.json", tmp_path / "costs" / "l4.json")
    assert shipped_tables("t4") == ()


# --- fingerprints ---


def _cpu_fingerprint() -> Fingerprint:
    return Fingerprint(
        device_name="AMD EPYC (family 25, model 17)",
        kind="cpu",
        driver=None,
        cuda=None,
        libraries=FrozenMap({"onnxruntime": "1.23.2", "torch": "2.9.0+cpu", "onnx": "1.19.0"}),
        threads=2,
        clock_mhz=2600,
        cpu_count=2,
        isa=("avx2", "avx512_vnni"),
        python="3.11.7",
        platform="Linux-x86_64",
    )


def _gpu_fingerprint() -> Fingerprint:
    return replace(
        _cpu_fingerprint(), device_name="NVIDIA A10G", kind="gpu", driver="570.124.06", cuda="12.8", threads=None
    )


def test_equal_fingerprints_share_a_table():
    assert _cpu_fingerprint().differences(_cpu_fingerprint()) == []
    assert _gpu_fingerprint().differences(_gpu_fingerprint()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"clock_mhz": 3100},
        {"cpu_count": 64},
        {"python": "3.13.1"},
        {"libraries": FrozenMap({"onnxruntime": "1.23.9", "torch": "2.9.1"})},
    ],
)
def test_what_is_recorded_only_does_not_part_them(change):
    assert _cpu_fingerprint().differences(replace(_cpu_fingerprint(), **change)) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"device_name": "AMD EPYC (family 26, model 2)"},
            "device: measured with AMD EPYC (family 25, model 17), here",
        ),
        ({"threads": 1}, "threads: measured with 2, here is 1"),
        ({"isa": ()}, "instruction sets: measured with avx2 avx512_vnni, here is none"),
        ({"libraries": FrozenMap({"torch": "2.9.0"})}, "onnxruntime: measured with 1.23, here is none"),
        ({"kind": "gpu"}, "kind of device: measured with cpu, here is gpu"),
    ],
)
def test_cpu_differences_are_readable(change, line):
    (only,) = _cpu_fingerprint().differences(replace(_cpu_fingerprint(), **change))
    assert only.startswith(line)


def test_costs_measured_on_several_numbers_of_threads_belong_to_all():
    several = replace(_cpu_fingerprint(), threads=None)
    assert several.differences(_cpu_fingerprint()) == []


def test_gpu_differences_are_the_major_versions():
    here = replace(_gpu_fingerprint(), driver="580.65", cuda="13.0", threads=4, isa=())
    assert _gpu_fingerprint().differences(here) == [
        "driver: measured with 570, here is 580",
        "CUDA: measured with 12, here is 13",
    ]
    assert _gpu_fingerprint().differences(replace(_gpu_fingerprint(), driver="570.9")) == []


def test_only_the_measured_runtime_has_to_agree():
    here = replace(_cpu_fingerprint(), libraries=FrozenMap({"onnxruntime": "1.23.0", "torch": "2.13.0"}))
    assert _cpu_fingerprint().differences(here, runtime="onnxruntime") == []
    assert _cpu_fingerprint().differences(here) == ["torch: measured with 2.9, here is 2.13"]


def test_fingerprint_goes_through_json():
    for fingerprint in (_cpu_fingerprint(), _gpu_fingerprint(), measure_fingerprint(CATALOG["cpu"], threads=1)):
        assert Fingerprint.from_json(json.loads(json.dumps(fingerprint.to_json()))) == fingerprint


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"threads": "two"}, "threads cannot be 'two'"),
        ({"threads": 0}, "threads cannot be 0"),
        ({"kind": "fpga"}, "kind cannot be 'fpga'"),
        ({"libraries": {"torch": 2.9}}, "libraries cannot be"),
        ({"isa": "avx2"}, "isa cannot be 'avx2'"),
        ({"device_name": None}, "device_name cannot be None"),
        ({"colour": "green"}, "expected the fields"),
    ],
)
def test_a_damaged_fingerprint_is_refused(change, complaint):
    with pytest.raises(InputError, match=complaint):
        Fingerprint.from_json(_cpu_fingerprint().to_json() | change)


def test_fingerprint_of_this_cpu():
    fingerprint = measure_fingerprint(CATALOG["cpu"], threads=1)
    assert fingerprint.kind == "cpu"
    assert fingerprint.threads == 1
    assert fingerprint.libraries["paretoc"]
    assert fingerprint.device_name.startswith(fingerprint_module.cpu_name())
    assert measure_fingerprint(CATALOG["cpu"]).threads == fingerprint.cpu_count
    assert str(Path.home()) not in json.dumps(fingerprint.to_json())


def test_fingerprint_of_a_fake_a10g():
    fingerprint = measure_fingerprint(CATALOG["a10g"], nvml=FakeNvml("NVIDIA A10G"))
    assert (fingerprint.kind, fingerprint.device_name) == ("gpu", "NVIDIA A10G")
    assert (fingerprint.driver, fingerprint.cuda, fingerprint.clock_mhz) == ("570.124.06", "12.8", 1710)
    with pytest.raises(TargetError, match="which is not the catalogue's a10g"):
        measure_fingerprint(CATALOG["a10g"], nvml=FakeNvml("NVIDIA A10"))


def test_fingerprint_of_the_null_device_knows_nothing_of_this_machine():
    plain = measure_fingerprint(CATALOG["null"]).to_json()
    assert {k: v for k, v in plain.items() if v} == {"device_name": "null", "kind": "null"}


def test_a_machine_without_proc_still_has_a_name(monkeypatch):
    monkeypatch.setattr(fingerprint_module, "_cpuinfo", dict)
    monkeypatch.setattr("platform.processor", lambda: "arm")
    fingerprint = measure_fingerprint(CATALOG["cpu"])
    assert fingerprint.device_name == "arm"
    assert fingerprint.isa == ()


def test_cpuinfo_of_an_arm_server(monkeypatch, tmp_path):
    text = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm bf16\n\nprocessor\t: 1\n"
    (tmp_path / "cpuinfo").write_text(text, encoding="utf-8")
    info = fingerprint_module._cpuinfo(tmp_path / "cpuinfo")
    assert info["processor"] == "0"
    monkeypatch.setattr(fingerprint_module, "_cpuinfo", lambda: info)
    assert fingerprint_module._isa() == ("asimd", "asimddp", "i8mm", "bf16")


def test_importing_targets_is_light():
    heavy = "{'torch', 'transformers', 'onnx', 'onnxruntime', 'numpy', 'pynvml'}"
    code = f"import sys, targets; targets.load_catalog(); sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
