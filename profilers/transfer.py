"""Carry a cost table to another device, workload or precision by timing a few whole networks there.

What a piece costs on the new device is a mix of what it cost on the base, of a cost a block and of a cost that grows
with its size: a handful of unknowns, none negative, so that no cost loses its sign or its order. They are fitted to
the networks' relative errors, and a ridge pulls them towards the base table times one constant; how hard is what
predicts networks left out best.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import log
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from profilers.cost_table import CostKey, CostTable, Source, TableError, network_row
from profilers.fitting import control_seconds
from profilers.interleave import Plan, Recorder, interleave
from profilers.profile import reference_program
from profilers.program import Dimensions, Workbench
from profilers.runtimes import OutOfMemoryError, Runtime
from profilers.sizes import LayerSizes, Stack, random_stack
from profilers.workload import Workload
from targets import Fingerprint, Target

MIN_SAMPLES = 4
SAMPLES = 10
_RIDGES = np.logspace(6, -6, 25)
SAMPLE_ROUNDS, CHECK_ROUNDS = 6, 4
"""Blocks of each network at least, unless the caller says otherwise: ten samples carry the whole table."""

_MIN_CHECKS = 2
_DESIGN_RIDGE = 1e-3
_POOL = 200

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferError:
    """How far a transferred table was from the check networks, and how far the base table times one constant was.

    Root mean squares, of relative errors as shares and of errors in seconds; both are made from the same samples.
    """

    samples: int
    check_nets: int
    rmse: float
    scaled_rmse: float
    rmse_s: float
    scaled_rmse_s: float

    @classmethod
    def of(cls, predicted_s: Floats, scaled_s: Floats, measured_s: Floats, samples: int) -> "TransferError":
        """From the predictions [N] of the transferred and of the scaled table and the measurements [N], in seconds."""
        return cls(
            samples=samples,
            check_nets=len(measured_s),
            rmse=_root_mean_square(predicted_s / measured_s - 1),
            scaled_rmse=_root_mean_square(scaled_s / measured_s - 1),
            rmse_s=_root_mean_square(predicted_s - measured_s),
            scaled_rmse_s=_root_mean_square(scaled_s - measured_s),
        )


def _root_mean_square(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))


class _Mixture(NamedTuple):
    """The base table under one workload as a point in a small space.

    `shapes` [P, E] are seconds of the E `keys`; a table is mix [P] @ shapes, and mix = `prior` [P] is the base itself.
    """

    base: CostTable
    workload: Workload
    keys: Sequence[CostKey]
    shapes: Floats
    prior: Floats

    @classmethod
    def of(cls, base: CostTable, workload: Workload) -> "_Mixture":
        """Each piece as it was; where it has several sizes a cost a block and a cost by size; a call overhead."""
        keys = [key for key in base.entries if key.workload == workload]
        seconds, sizes = np.array([base.entries[key] for key in keys]), np.array([key.size for key in keys])
        shapes: list[Floats] = []
        prior: list[float] = []
        for piece in dict.fromkeys(
            key.piece for key, s in zip(keys, seconds, strict=True) if s or "workspace" not in key.piece
        ):
            own = np.array([key.piece == piece for key in keys])
            block = own * (seconds.max() if piece == "base" else seconds[own].max())
            by_size = [block, block * sizes / sizes[own].max()] if own.sum() > 1 else []
            more = [block] if piece == "base" else by_size
            shapes += [own * seconds, *more]
            prior += [1.0] + [0.0] * len(more)
        return cls(base, workload, keys, np.array(shapes), np.array(prior))

    def entries(self, mix: Floats, workload: Workload) -> dict[CostKey, float]:
        """The table of a mix [P], keyed for another workload."""
        seconds = mix @ self.shapes
        return {key._replace(workload=workload): float(s) for key, s in zip(self.keys, seconds, strict=True)}

    def seconds(self, stacks: Sequence[Stack]) -> Floats:
        """What each shape adds to each prediction, in seconds [N, P]: a prediction is linear in the entries."""
        tables = [
            replace(self.base, entries=dict(zip(self.keys, shape.tolist(), strict=True))) for shape in self.shapes
        ]
        return np.column_stack([_predicted(table, stacks, self.workload) for table in tables])


def _predicted(table: CostTable, stacks: Sequence[Stack], workload: Workload) -> Floats:
    return np.array([table.predict(stack, workload).value for stack in stacks])


def nearest_workload(base: CostTable, workload: Workload) -> Workload:
    """The workload of the base that differs in the fewest ways, then by the smallest ratio of tokens a call."""
    wanted = workload.to_json()

    def distance(other: Workload) -> tuple[int, float]:
        different = sum(wanted.get(name) != value for name, value in other.to_json().items())
        return different, abs(log(other.batch * other.tokens / (workload.batch * workload.tokens)))

    return min(base.workloads(), key=distance, default=workload)


def _pool(base: CostTable, dims: Dimensions, workload: Workload, seed: int) -> list[Stack]:
    """Networks of sizes the base has entries for: random ones, stacks of equal sub-blocks, the dense one."""
    heads, units = (
        sorted(k.size for k in base.entries if k.piece == piece and k.workload == workload)
        for piece in ("attention", "ffn")
    )
    rng = np.random.default_rng(seed)
    pool = [random_stack(rng, heads, units, dims.layers) for _ in range(_POOL)]
    pool += [(LayerSizes(h, 0),) * dims.layers for h in heads] + [(LayerSizes(0, u),) * dims.layers for u in units]
    return [stack for stack in dict.fromkeys([*pool, dims.dense]) if any(map(any, stack))]


def _best_design(rows: Floats, prior: Floats, count: int) -> list[int]:
    """Rows of [N, P] to measure, greedily those after which the mean variance of all N predictions is smallest.

    I-optimality with a Gaussian prior about the base table times any constant.
    """
    free = np.eye(len(prior)) * (1 + 1e-6) - np.outer(prior, prior) / prior.sum()
    precision, wanted = _DESIGN_RIDGE * free, rows.T @ rows / len(rows)
    chosen: list[int] = []
    for _ in range(min(count, len(rows))):
        direction = rows @ np.linalg.inv(precision)
        variance = (direction * rows).sum(axis=1)
        saved = ((direction @ wanted) * direction).sum(axis=1) / (1 + variance)
        saved[chosen] = -1
        chosen.append(int(saved.argmax()))
        precision = precision + np.outer(rows[chosen[-1]], rows[chosen[-1]])
    return chosen


def choose_samples(
    base: CostTable, dimensions: Dimensions, workload: Workload, count: int, seed: int, avoid: Sequence[Stack] = ()
) -> list[Stack]:
    """The networks whose times on a new device tell most about all others; the same for the same seed.

    `workload` is the base's; `avoid` are networks to keep for checking.
    """
    pool = [stack for stack in _pool(base, dimensions, workload, seed) if stack not in set(avoid)]
    mixture = _Mixture.of(base, workload)
    seconds = mixture.seconds(pool)
    relative = seconds / (seconds @ mixture.prior)[:, None]
    return [pool[i] for i in _best_design(relative, mixture.prior, count)]


def _one_constant(predicted_s: Floats, measured_s: Floats) -> float:
    """The factor on predictions [N] with the least squares of relative errors."""
    ratio = predicted_s / measured_s
    return float(ratio.sum() / (ratio @ ratio))


def _solve(seconds: Floats, measured_s: Floats, prior: Floats, ridge: float) -> Floats:
    """The mix [P] of least |seconds @ mix / measured - 1|² + ridge |mix - s prior|² over mix and s, none negative."""
    from scipy.optimize import nnls

    known = np.column_stack([seconds / measured_s[:, None], np.zeros(len(seconds))])
    pull = np.sqrt(ridge) * np.column_stack([np.eye(len(prior)), -prior])
    solution, _ = nnls(np.vstack([known, pull]), np.concatenate([np.ones(len(known)), np.zeros(len(pull))]))
    return np.asarray(solution[:-1])


def _left_out(seconds: Floats, measured_s: Floats, prior: Floats, ridge: float) -> float:
    """Mean square of the relative errors on each network when it is left out of the fit."""
    off = []
    for i in range(len(seconds)):
        mix = _solve(np.delete(seconds, i, axis=0), np.delete(measured_s, i), prior, ridge)
        off.append(seconds[i] @ mix / measured_s[i] - 1)
    return float(np.mean(np.square(off)))


def _fit(seconds: Floats, measured_s: Floats, prior: Floats) -> Floats:
    """The mix [P], with the ridge that leave-one-out prefers; a ridge means the same in every unit of time."""
    constant = _one_constant(seconds @ prior, measured_s)
    scaled = measured_s / constant
    ridge = min(_RIDGES, key=lambda ridge: _left_out(seconds, scaled, prior, ridge))
    return constant * _solve(seconds, scaled, prior, ridge)


def transfer(
    base: CostTable,
    base_workload: Workload,
    samples: Sequence[Stack],
    measured_s: Floats,
    target: Target,
    fingerprint: Fingerprint,
    workload: Workload,
) -> CostTable:
    """The base table as the device must have it that took `measured_s` [N] for `samples` [N]; it says `transferred`."""
    mixture = _Mixture.of(base, base_workload)
    mix = _fit(mixture.seconds(samples), measured_s, mixture.prior)
    return CostTable(
        target=str(target),
        source="transferred",
        fingerprint=fingerprint,
        dimensions=base.dimensions,
        alignment=base.alignment,
        entries=mixture.entries(mix, workload),
    )


class _Timed(NamedTuple):
    """Networks and what each took here, in seconds [N]."""

    stacks: Sequence[Stack]
    seconds: Floats

    @classmethod
    def of(cls, stacks: Sequence[Stack], seconds: Mapping[Stack, float]) -> "_Timed":
        """Those of the networks that were timed: the device's memory may not hold the others."""
        timed = [stack for stack in stacks if stack in seconds]
        return cls(timed, np.array([seconds[stack] for stack in timed]))


def _scaled(base: CostTable, workload: Workload, samples: _Timed, stacks: Sequence[Stack]) -> Floats:
    """Predictions of the base table times the one constant that fits the samples."""
    constant = _one_constant(_predicted(base, samples.stacks, workload), samples.seconds)
    return constant * _predicted(base, stacks, workload)


def _check_row(
    stack: Stack, workload: Workload, measured_s: float, predicted_s: float, scaled_s: float
) -> dict[str, Any]:
    return {
        **network_row(stack, workload),
        "measured_s": float(measured_s),
        "predicted_s": float(predicted_s),
        "scaled_s": float(scaled_s),
    }


def _with_error(
    table: CostTable,
    base: CostTable,
    base_workload: Workload,
    samples: _Timed,
    checks: _Timed,
    workload: Workload,
) -> tuple[CostTable, TransferError]:
    predicted_s = _predicted(table, checks.stacks, workload)
    scaled_s = _scaled(base, base_workload, samples, checks.stacks)
    control_s = control_seconds(samples.stacks, samples.seconds, checks.stacks, table.dimensions, workload)
    figures = zip(checks.stacks, checks.seconds, predicted_s, scaled_s, strict=True)
    rows = tuple(_check_row(stack, workload, *seconds) for stack, *seconds in figures)
    error = TransferError.of(predicted_s, scaled_s, checks.seconds, samples=len(samples.stacks))
    came_from = {
        "target": base.target, "source": base.source, "device": base.fingerprint.device_name,
        "workload": base_workload.to_json(),
    }  # fmt: skip
    how = {**table.how, "transfers": [{"from": came_from, "to": workload.to_json(), **asdict(error)}]}
    errors = {workload: TableError.of(predicted_s, checks.seconds, control_s)}
    return replace(table, errors=errors, checks=rows, how=how), error


def _check_enough(samples: _Timed, checks: _Timed, target: Target, workload: Workload) -> None:
    """OutOfMemoryError where too few networks fitted into the device's memory to carry a table over, or to judge it."""
    if len(samples.stacks) < MIN_SAMPLES or len(checks.stacks) < _MIN_CHECKS:
        raise OutOfMemoryError(
            f"{target.name}'s memory holds too few networks at {workload} to carry a table over: "
            f"{len(samples.stacks)} samples and {len(checks.stacks)} to check, needed are {MIN_SAMPLES} and {_MIN_CHECKS}\n"
            "ask for less: --batch, --seq-len"
        )


def measure_transfer(
    base: CostTable,
    base_workload: Workload,
    target: Target,
    dimensions: Dimensions,
    workload: Workload,
    runtime: Runtime,
    workbench: Workbench,
    fingerprint: Fingerprint,
    *,
    count: int = SAMPLES,
    checks: Sequence[Stack],
    plan: Plan,
    sample_rounds: int = SAMPLE_ROUNDS,
    check_rounds: int = CHECK_ROUNDS,
    seed: int = 0,
    recorder: Recorder | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> tuple[CostTable, TransferError]:
    """Time `count` chosen networks here and adapt the base table to them.

    The check networks, two or more, are timed in the same interleaved run; their times never enter the fit. Each check
    of the table says what the base table times one constant predicts, too: `scaled_s`. Networks are given so many rounds
    (blocks) at least, twice as many on several threads.
    """
    start = time.monotonic()
    base = replace(base, dimensions=dimensions)
    chosen = choose_samples(base, dimensions, base_workload, count, seed, avoid=checks)
    programs = {stack: workbench(stack) for stack in (*chosen, *checks)}
    several = 2 if workload.threads > 1 else 1
    rounds = {programs[stack].name: several * check_rounds for stack in checks}
    rounds |= {programs[stack].name: several * sample_rounds for stack in chosen}
    series = interleave(
        list(programs.values()),
        reference_program(dimensions, workbench),
        runtime,
        workload,
        plan=plan,
        seed=seed,
        rounds=rounds,
        recorder=recorder,
        skip_too_large=True,
        progress=progress,
    )
    seconds = {stack: series[program.name].median_s for stack, program in programs.items() if program.name in series}
    samples, unseen = (_Timed.of(stacks, seconds) for stacks in (chosen, checks))
    _check_enough(samples, unseen, target, workload)
    table = transfer(base, base_workload, samples.stacks, samples.seconds, target, fingerprint, workload)
    source: Source = "null" if runtime.source == "null" else table.source
    too_large = [network_row(stack, workload) for stack in programs if stack not in seconds]
    how = {**runtime.describe(), "too_large": too_large}
    table = replace(table, source=source, seconds=time.monotonic() - start, how=how)
    return _with_error(table, base, base_workload, samples, unseen, workload)
