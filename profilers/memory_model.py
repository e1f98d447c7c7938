"""A network's memory from its sizes: closed forms of weights and activations, rates fitted to a few measured networks.

The dense network is measured, a smaller one is predicted by what it does without: weights while it is loaded, weights
and activations while it serves. The peak of a process is the higher of both.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from profilers.document import check_document
from profilers.measurement import Estimate
from profilers.memory import PROCESSES, MemoryUse, measure_gpu_memory, measure_peak_memory
from profilers.program import Dimensions, Workbench
from profilers.runtimes import Runtime
from profilers.sizes import LayerSizes, Stack
from profilers.workload import Workload
from targets import STATIC, Fingerprint, Target
from targets.errors import InputError

SCHEMA = 1
Source = Literal["measured", "roofline", "null"]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_KIND = "paretoc memory model"
_LEAST_SAVING = 0.05
_WEIGHT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, STATIC: 1}
_ACTIVATION_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 4, STATIC: 4}


def counts_of(stacks: Sequence[Stack]) -> tuple[Counts, Counts]:
    """Heads and FFN units, int64 [N, layers] each, of N networks with equally many layers."""
    array = np.asarray(stacks, dtype=np.int64)
    return array[:, :, 0], array[:, :, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkBytes:
    """Closed forms for a model under a workload; `stem_parameters` is everything outside its encoder layers.

    Heads and FFN units come as int64 [N, layers], bytes go as [N].
    """

    dimensions: Dimensions
    stem_parameters: int
    workload: Workload

    def weights(self, heads: Counts, units: Counts) -> Floats:
        """All parameters: heads and units with their biases, one output bias and one norm for each sub-block kept."""
        dims = self.dimensions
        biases = (dims.query_heads + 2 * dims.key_value_heads) * dims.head_size
        attention, per_unit = (dims.attention_weights + biases)[heads], dims.weights_a_unit + 1
        blocks = (heads > 0).sum(axis=1) + (units > 0).sum(axis=1)
        layers = attention.sum(axis=1) + per_unit * units.sum(axis=1) + 3 * dims.hidden_size * blocks
        return np.asarray(_WEIGHT_BYTES[self.workload.precision] * (self.stem_parameters + layers), dtype=np.float64)

    def activations(self, heads: Counts, units: Counts) -> Floats:
        """What the dearest sub-block holds at once, beside the residual stream that every network has.

        Attention: queries, keys, values, their answer, and the scores, which ONNX Runtime's CPU kernel writes out. FFN:
        the product, its activation, and the scratch of that.
        """
        asked = self.workload
        tokens = max(asked.lengths, default=asked.tokens)
        dims = self.dimensions
        attention = 2 * (dims.query_heads + dims.key_value_heads) * dims.head_size + dims.query_heads * tokens
        dearest = np.maximum(attention[heads], (dims.ffn_reads + 2) * units).max(axis=1)
        return np.asarray(_ACTIVATION_BYTES[asked.precision] * asked.batch * tokens * dearest, dtype=np.float64)

    def saved(self, heads: Counts, units: Counts) -> Floats:
        """Bytes of weights and of activations [N, 2] that the dense network has more."""
        dense = counts_of([self.dimensions.dense])
        return np.stack([size(*dense) - size(heads, units) for size in (self.weights, self.activations)], axis=1)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` inverts it."""
        return {**asdict(self), "dimensions": self.dimensions.to_json(), "workload": self.workload.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "NetworkBytes":
        """Inverse of `to_json`; KeyError, TypeError or ValueError where the data are of another form."""
        return cls(
            dimensions=Dimensions(**data["dimensions"]),
            stem_parameters=int(data["stem_parameters"]),
            workload=Workload.from_json(data["workload"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Resident size in one phase of a process: the dense network's, less a rate of what another one does without."""

    dense_bytes: float
    per_weight_byte: float
    per_activation_byte: float

    def predict(self, saved: Floats) -> Floats:
        """Bytes [N] from weight and activation bytes saved [N, 2]."""
        return np.asarray(self.dense_bytes - saved @ np.array([self.per_weight_byte, self.per_activation_byte]))

    @classmethod
    def fit(cls, dense_bytes: float, measured_bytes: Floats, saved: Floats) -> "Phase":
        """Non-negative least squares on measured networks [N]; the dense one is met exactly, for savings count from it."""
        from scipy.optimize import nnls

        rates, _ = nnls(saved / 1e6, (dense_bytes - measured_bytes) / 1e6)
        return cls(dense_bytes=dense_bytes, per_weight_byte=float(rates[0]), per_activation_byte=float(rates[1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class SavingError:
    """How far predicted savings against the dense network were from measured ones, on networks the model never saw.

    `mape` and `max` are shares of the measured saving, over the `saving_nets` that save a twentieth of the dense bytes or
    more: less is below what equal processes differ by. `max_of_dense` is over all, a share of the dense bytes.
    """

    check_nets: int
    saving_nets: int
    mape: float | None
    max: float | None
    max_of_dense: float

    @classmethod
    def of(cls, dense_bytes: float, predicted_bytes: Floats, measured_bytes: Floats) -> "SavingError":
        """From predictions [N] and measurements [N]."""
        off, saving = np.abs(predicted_bytes - measured_bytes), dense_bytes - measured_bytes
        saves = saving >= _LEAST_SAVING * dense_bytes
        shares = off[saves] / saving[saves]
        return cls(
            check_nets=len(off),
            saving_nets=len(shares),
            mape=float(shares.mean()) if len(shares) else None,
            max=float(shares.max()) if len(shares) else None,
            max_of_dense=float(off.max() / dense_bytes),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryModel:
    """Memory of a process that serves any sub-network; `checks` are the networks its error was taken on."""

    target: str
    source: Source
    fingerprint: Fingerprint
    network: NetworkBytes
    loading: Phase
    serving: Phase
    peak_error: SavingError | None = None
    steady_error: SavingError | None = None
    checks: Sequence[Mapping[str, Any]] = ()
    seconds: float = 0.0

    def peak_bytes(self, heads: Counts, units: Counts, in_fp32: Floats | float = 0.0) -> Floats:
        """Predicted peak [N] of networks with these heads [N, layers] and FFN units [N, layers]; lower is better.

        `in_fp32` [N] counts the weights that stay in fp32 at whatever precision the rest is.
        """
        saved = self.network.saved(heads, units)
        saved[:, 0] -= (_WEIGHT_BYTES["fp32"] - _WEIGHT_BYTES[self.network.workload.precision]) * in_fp32
        return np.maximum(self.loading.predict(saved), self.serving.predict(saved))

    def steady_bytes(self, heads: Counts, units: Counts) -> Floats:
        """Predicted resident size [N] while serving."""
        return self.serving.predict(self.network.saved(heads, units))

    def estimate(self, stack: Stack) -> Estimate:
        """Predicted peak of one network, in bytes, with its source."""
        source = "interpolated" if self.source == "measured" else self.source
        return Estimate(value=float(self.peak_bytes(*counts_of([stack]))[0]), source=source)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, readable by people."""
        return {
            "schema": SCHEMA,
            "kind": _KIND,
            "target": self.target,
            "source": self.source,
            "fingerprint": self.fingerprint.to_json(),
            "network": self.network.to_json(),
            "loading": asdict(self.loading),
            "serving": asdict(self.serving),
            "peak_error": asdict(self.peak_error) if self.peak_error else None,
            "steady_error": asdict(self.steady_error) if self.steady_error else None,
            "seconds_to_measure": round(self.seconds, 1),
            "checks": [dict(check) for check in self.checks],
        }

    @classmethod
    def from_json(cls, data: Any, name: str = "the memory model") -> "MemoryModel":
        """Inverse of `to_json`; InputError where the data are no memory model, of another schema, or damaged."""
        check_document(data, _KIND, SCHEMA, name)
        try:
            return cls(
                target=str(data["target"]),
                source=_source(data["source"]),
                fingerprint=Fingerprint.from_json(data["fingerprint"]),
                network=NetworkBytes.from_json(data["network"]),
                loading=_phase(data["loading"]),
                serving=_phase(data["serving"]),
                peak_error=SavingError(**data["peak_error"]) if data["peak_error"] else None,
                steady_error=SavingError(**data["steady_error"]) if data["steady_error"] else None,
                checks=tuple(data["checks"]),
                seconds=float(data["seconds_to_measure"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{name} is damaged: {type(error).__name__}: {error}\nprofile again: compile profile"
            ) from None


def _source(value: Any) -> Any:
    if value not in get_args(Source):
        raise ValueError(f"{value!r} is none of {', '.join(get_args(Source))}")
    return value


def _phase(data: Mapping[str, Any]) -> Phase:
    phase = Phase(**data)
    if not all(np.isfinite(value) and value >= 0 for value in asdict(phase).values()):
        raise ValueError(f"a phase cannot have {dict(data)}")
    return phase


def modelled_memory(target: Target, network: NetworkBytes, fingerprint: Fingerprint) -> MemoryModel:
    """The closed forms alone, for a device that is not here: a lower bound that knows nothing of a runtime."""
    dense = counts_of([network.dimensions.dense])
    weights, activations = float(network.weights(*dense)[0]), float(network.activations(*dense)[0])
    return MemoryModel(
        target=str(target),
        source="null" if network.workload.runtime == "null" else "roofline",
        fingerprint=fingerprint,
        network=network,
        loading=Phase(dense_bytes=weights, per_weight_byte=1.0, per_activation_byte=0.0),
        serving=Phase(dense_bytes=weights + activations, per_weight_byte=1.0, per_activation_byte=1.0),
    )


def fit_stacks(dims: Dimensions) -> list[Stack]:
    """Networks to fit on beside the dense one: half and a quarter of every layer, and one whole layer alone.

    The last has all activations with few weights: it tells the two rates apart.
    """
    parts = [LayerSizes(*(max(size // n, 1) for size in dims.largest)) for n in (2, 4)]
    alone = (dims.dense[0], *[LayerSizes(0, 0)] * (dims.layers - 1))
    return [*((part,) * dims.layers for part in parts), alone]


def measure_memory_model(
    target: Target,
    network: NetworkBytes,
    fingerprint: Fingerprint,
    write: Callable[[Stack, Path], object],
    inputs: Mapping[str, NDArray[Any]],
    *,
    checks: Sequence[Stack] = (),
    processes: int = PROCESSES,
    progress: Callable[[float], None] = lambda _: None,
) -> MemoryModel:
    """Measure a few networks, each in a file that `write` makes, and the model's own error on `checks`.

    The dense network, which every saving counts from, is measured in twice as many processes. TargetError as in
    `measure_peak_memory`.
    """
    start = time.monotonic()
    dims = network.dimensions
    fitted, checks = fit_stacks(dims), [stack for stack in checks if stack != dims.dense]
    uses: list[MemoryUse] = []
    for stack in (dims.dense, *fitted, *checks):
        uses.append(_measure(stack, network.workload, write, inputs, processes * (2 if stack == dims.dense else 1)))
        progress(len(uses) / (1 + len(fitted) + len(checks)))
    dense, known, unseen = uses[0], uses[1 : 1 + len(fitted)], uses[1 + len(fitted) :]
    saved = network.saved(*counts_of(fitted))
    loading = np.array([use.loading_peak_bytes for use in known])
    steady = np.array([use.steady_bytes for use in known])
    model = MemoryModel(
        target=str(target),
        source="measured",
        fingerprint=fingerprint,
        network=network,
        loading=Phase.fit(dense.loading_peak_bytes, loading, saved * [1, 0]),
        serving=Phase.fit(dense.steady_bytes, steady, saved),
        seconds=time.monotonic() - start,
    )
    peak = np.array([use.peak_bytes for use in unseen], dtype=np.float64)
    steady = np.array([use.steady_bytes for use in unseen], dtype=np.float64)
    return _checked(model, checks, peak, steady) if checks else model


def measure_gpu_memory_model(
    target: Target,
    network: NetworkBytes,
    fingerprint: Fingerprint,
    runtime: Runtime,
    workbench: Workbench,
    *,
    checks: Sequence[Stack] = (),
    progress: Callable[[float], None] = lambda _: None,
) -> MemoryModel:
    """The same on a GPU, where a network takes its memory once: what was loaded is there while it serves.

    TargetError where neither the driver nor the GPU's memory in use tells what a network takes.
    """
    start = time.monotonic()
    dims = network.dimensions
    fitted, checks = fit_stacks(dims), [stack for stack in checks if stack != dims.dense]
    taken: list[int] = []
    for stack in (dims.dense, *fitted, *checks):
        taken.append(measure_gpu_memory(runtime, workbench(stack), network.workload, target).taken_bytes)
        progress(len(taken) / (1 + len(fitted) + len(checks)))
    known, unseen = (
        np.array(part, dtype=np.float64) for part in (taken[1 : 1 + len(fitted)], taken[1 + len(fitted) :])
    )
    model = MemoryModel(
        target=str(target),
        source="measured",
        fingerprint=fingerprint,
        network=network,
        loading=Phase(dense_bytes=0.0, per_weight_byte=0.0, per_activation_byte=0.0),
        serving=Phase.fit(taken[0], known, network.saved(*counts_of(fitted))),
        seconds=time.monotonic() - start,
    )
    return _checked(model, checks, unseen, unseen) if checks else model


def _measure(
    stack: Stack,
    workload: Workload,
    write: Callable[[Stack, Path], object],
    inputs: Mapping[str, NDArray[Any]],
    processes: int,
) -> MemoryUse:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write(stack, path)
        return measure_peak_memory(path, workload, inputs, processes=processes)


def _checked(
    model: MemoryModel, checks: Sequence[Stack], measured_peak: Floats, measured_steady: Floats
) -> MemoryModel:
    """The model's error on networks it never saw, from their bytes [N]."""
    counts = counts_of(checks)
    peak, steady = model.peak_bytes(*counts), model.steady_bytes(*counts)
    rows = [
        {
            "heads": [sizes.heads for sizes in stack],
            "ffn_units": [sizes.ffn_units for sizes in stack],
            "measured_peak_bytes": int(measured_peak[row]),
            "predicted_peak_bytes": float(peak[row]),
            "measured_steady_bytes": int(measured_steady[row]),
            "predicted_steady_bytes": float(steady[row]),
        }
        for row, stack in enumerate(checks)
    ]
    dense = model.peak_bytes(*counts_of([model.network.dimensions.dense]))[0]
    return replace(
        model,
        peak_error=SavingError.of(dense, peak, measured_peak),
        steady_error=SavingError.of(model.serving.dense_bytes, steady, measured_steady),
        checks=tuple(rows),
    )
