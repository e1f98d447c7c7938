"""Energy from counters: a powercap tree in a folder, a driver that is not there, and a clock that steps as it is told."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest

from profilers.energy import EnergyUse, NvmlMeter, RaplMeter, measure_energy, open_meter
from targets import GpuState, Target
from targets.errors import TargetError

CPU, A10G, NULL = Target.parse("cpu"), Target.parse("a10g"), Target.parse("null")
RANGE_UJ = 262_143_328_850
ZONES = {
    "intel-rapl:0": "package-0",
    "intel-rapl:0:0": "core",
    "intel-rapl:0:1": "dram",
    "intel-rapl:1": "package-1-die-0",
    "intel-rapl:2": "psys",
    "intel-rapl-mmio:0": "package-0",
}


@pytest.fixture(autouse=True)
def _every_gpu_visible(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def powercap(tmp_path):
    (tmp_path / "intel-rapl").mkdir()
    for i, (zone, name) in enumerate(ZONES.items()):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "name").write_text(f"{name}\n")
        (tmp_path / zone / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
        (tmp_path / zone / "energy_uj").write_text(f"{1_000_000 * (i + 1)}\n")
    return tmp_path


def spend(powercap, zone, microjoules):
    file = powercap / zone / "energy_uj"
    file.write_text(f"{(int(file.read_text()) + microjoules) % RANGE_UJ}\n")


class Driver:
    """A driver with one GPU."""

    def __init__(self, **state):
        self.gpu = GpuState(**({"index": 0, "name": "NVIDIA A10G", "mig": False, "energy_j": 500.0} | state))

    def device_count(self):
        return 1

    def state(self, _index):
        return self.gpu


# --- the counters


def test_packages_are_summed_and_nothing_is_counted_twice(powercap):
    meter = open_meter(CPU, powercap=powercap)
    assert isinstance(meter, RaplMeter)
    assert meter.name == "RAPL, package-0 + package-1-die-0"
    start = meter.joules()
    for i, zone in enumerate(ZONES):
        spend(powercap, zone, 10**6 * 10**i)
    assert meter.joules() - start == pytest.approx(1 + 1000)


def test_a_counter_that_wraps_goes_on(powercap):
    file = powercap / "intel-rapl:0" / "energy_uj"
    file.write_text(f"{RANGE_UJ - 1_000_000}\n")
    meter = open_meter(CPU, powercap=powercap)
    seen = [meter.joules()]
    for _ in range(4):
        spend(powercap, "intel-rapl:0", 700_000)
        seen.append(meter.joules())
    assert int(file.read_text()) < RANGE_UJ / 2, "it did wrap"
    assert [b - a for a, b in pairwise(seen)] == pytest.approx([0.7] * 4)


def test_a_gpu_is_read_by_its_own_index():
    driver = Driver()
    meter = open_meter(A10G, nvml=driver)
    assert isinstance(meter, NvmlMeter)
    assert meter.name == "NVML energy counter of GPU 0"
    driver.gpu = replace(driver.gpu, energy_j=512.5)
    assert meter.joules() == 512.5
    driver.gpu = replace(driver.gpu, energy_j=None)
    with pytest.raises(TargetError, match="not available"):
        meter.joules()


# --- what is not there is said, never invented


def test_a_counter_that_only_root_may_read_says_what_to_do(powercap, monkeypatch):
    protected = powercap / "intel-rapl:0" / "energy_uj"
    read = type(protected).read_text

    def refuse(path, **how):
        if path == protected:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, **how)

    monkeypatch.setattr(type(protected), "read_text", refuse)
    with pytest.raises(TargetError, match=r"not available: .*intel-rapl:0/energy_uj .*Permission denied") as refused:
        open_meter(CPU, powercap=powercap)
    assert "sudo chmod a+r" in str(refused.value)
    assert refused.value.exit_code == 3


@pytest.mark.parametrize(
    ("target", "nvml", "why"),
    [
        (CPU, None, "no processor package"),
        (A10G, Driver(energy_j=None), "NVML reports no energy counter of NVIDIA A10G"),
        (A10G, Driver(name="Tesla T4"), "NVML sees Tesla T4"),
        (A10G, Driver(mig=True), "MIG"),
        (NULL, None, "null has no counter"),
    ],
)
def test_no_counter_says_why(tmp_path, target, nvml, why):
    with pytest.raises(TargetError, match=f"energy is not available: .*{why}"):
        open_meter(target, nvml, tmp_path / "nothing")


# --- measuring


class Device:
    """Draws `idle_w`, and `busy_w` more during a call of `call_s`; its counter moves every `step_s` only."""

    name = "counter"

    def __init__(self, *, idle_w=10.0, busy_w=30.0, call_s=0.004, step_s=0.02, look_s=0.0003):
        self.idle_w, self.busy_w, self.call_s, self.step_s, self.look_s = idle_w, busy_w, call_s, step_s, look_s
        self.now_s = self.spent_j = self.shown_j = self.calls = 0
        self.next_s = step_s

    def _pass(self, seconds, watts):
        while self.now_s + seconds >= self.next_s:
            part = self.next_s - self.now_s
            self.spent_j += watts * part
            self.shown_j, self.now_s, seconds, self.next_s = (
                self.spent_j,
                self.next_s,
                seconds - part,
                self.next_s + self.step_s,
            )
        self.now_s += seconds
        self.spent_j += watts * seconds

    def joules(self):
        self._pass(self.look_s, self.idle_w)
        return self.shown_j

    def call(self):
        self.calls += 1
        self._pass(self.call_s, self.idle_w + self.busy_w)

    def measure(self, **arguments):
        arguments = {"clock": lambda: self.now_s, "sleep": lambda s: self._pass(s, self.idle_w)} | arguments
        return measure_energy(self.call, self, **arguments)


@pytest.mark.parametrize("step_s", [0.001, 0.02, 0.1])
def test_energy_per_call_with_and_without_idle_power(step_s):
    use = Device(step_s=step_s).measure(idle_s=100 * step_s)
    assert use.idle_w == pytest.approx(10, rel=0.03)
    assert use.joules_per_call == pytest.approx(40 * 0.004, rel=0.03)
    assert use.joules_per_call_above_idle == pytest.approx(30 * 0.004, rel=0.06)
    assert use.meter == "counter"


def test_the_window_lasts_a_second_or_as_many_steps_of_the_counter_as_are_asked_for():
    assert Device(step_s=0.001).measure().seconds == pytest.approx(1, abs=0.005)
    assert Device(step_s=0.1).measure(updates=50).seconds == pytest.approx(5, abs=0.05)
    assert Device(step_s=0.001).measure(window_s=3).seconds == pytest.approx(3, abs=0.005)


def test_warm_up_is_not_counted_and_a_slow_call_is():
    device = Device(call_s=2.0)
    use = device.measure(warmup=2)
    assert (use.calls, device.calls) == (1, 3)
    assert use.joules_per_call == pytest.approx(80, rel=0.03)


def test_idle_power_is_not_made_up():
    use = Device().measure()
    assert use.idle_w is None
    assert use.joules_per_call_above_idle is None


def test_a_counter_that_stands_still_is_refused():
    with pytest.raises(TargetError, match="not available: the counter did not move for 5 s"):
        Device(step_s=1e9).measure()


def test_energy_use_by_hand():
    use = EnergyUse(meter="m", calls=4, seconds=2.0, joules=100.0, idle_w=10.0)
    assert (use.joules_per_call, use.joules_per_call_above_idle) == (25, 20)
    assert EnergyUse(meter="m", calls=1, seconds=1.0, joules=3.0, idle_w=10.0).joules_per_call_above_idle == -7


def test_the_drivers_counter_is_read_in_joules():
    import pynvml

    from targets import nvml

    calls = dict.fromkeys((n for n in dir(pynvml) if n.startswith("nvmlDeviceGet")), lambda *_: 0)
    calls |= {"nvmlDeviceGetName": lambda _: "NVIDIA A10G", "nvmlDeviceGetTotalEnergyConsumption": lambda _: 7_250}
    calls |= {"nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(total=1, used=1)}
    calls |= {"nvmlDeviceGetMigMode": lambda _: [0, 0], "nvmlDeviceGetUUID": lambda _: "GPU-0"}
    calls |= {"nvmlDeviceGetComputeRunningProcesses": lambda _: []}
    binding = SimpleNamespace(NVMLError=pynvml.NVMLError, NVML_CLOCK_SM=1, NVML_DEVICE_MIG_ENABLE=1, **calls)
    assert NvmlMeter(nvml._DriverNvml(binding), 0).joules() == 7.25
