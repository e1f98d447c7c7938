"""What a user can ask for, one field per flag of the command line."""

from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from compiler.costing import OBJECTIVES
from compiler.execution import check_device
from compiler.search import AROUND_SEEDS, check_method
from compiler.spaces import SPACES
from compiler.supernet import SAMPLINGS, STRATEGIES
from profilers.workload import DEFAULT_OPSET, OPSETS
from targets.bounds import BOUNDS, check_number, check_text
from targets.errors import InputError, printable

EFFORTS = ("auto", "fast", "balanced", "thorough")
ORDERS = ("importance", "index")
PROFILES = ("auto", "full")

_OF_SUPERNETS = ("strategy", "temperature", "random_subnets")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """Limits a candidate must meet, judged on the device by measurement; None is no limit.

    `max_drop` is relative to the dense model's metric on validation: 0.01 is one percent of it. `max_flips` is a share of the
    decisions there, `max_class_drop` one of those of any class with enough of them (`compiler.evaluation.changes.TELLING`).
    """

    max_latency_s: float | None = None
    min_speedup: float | None = None
    max_memory_bytes: float | None = None
    max_drop: float | None = None
    max_flips: float | None = None
    max_class_drop: float | None = None

    def limits(self) -> dict[str, float]:
        """The limits that are set, in printed units."""
        named = {
            "max_latency_ms": None if self.max_latency_s is None else self.max_latency_s * 1e3,
            "min_speedup": self.min_speedup,
            "max_memory_bytes": self.max_memory_bytes,
            "max_drop": self.max_drop,
            "max_flips": self.max_flips,
            "max_class_drop": self.max_class_drop,
        }
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One run. None means: inferred, or the default of the effort."""

    model: str
    target: str = "cpu"
    precisions: tuple[str, ...] | None = None
    data: str | None = None
    demo: bool = False
    out: Path = Path("out")
    task: str = "auto"
    text_columns: tuple[str, ...] | None = None
    label_column: str | None = None
    labels: tuple[str, ...] | None = None
    encoding: str | None = None
    header: bool | None = None
    metric: str | None = None
    pooling: str | None = None
    prompt: str | None = None
    embedding_dim: tuple[int, ...] = ()
    effort: str = "auto"
    space: str = "medium"
    search: str = "auto"
    strategy: str = "full"
    sampling: str = "stratified"
    order: str = "importance"
    temperature: float = 10.0
    random_subnets: int = 2
    objectives: tuple[str, ...] = ("latency",)
    budgets: Budgets = field(default_factory=Budgets)
    batch: int = 1
    seq_len: int = 128
    threads: int = 1
    runtime: str | None = None
    opset: int = DEFAULT_OPSET
    percentile: str = "p50"
    traffic: str | None = None
    table: Path | None = None
    profile: str = "auto"
    accept_modelled: bool = False
    accept_noisy_table: bool = False
    evaluations: int | None = None
    epochs: float | None = None
    learning_rate: float | None = None
    train_batch_size: int | None = None
    accumulation: int | None = None
    winners: int = 8
    seed: int = 0
    device: str = "auto"
    ray: str | None = None
    fresh: bool = False
    cache: str | Path | None = None
    cache_bytes: float | None = None
    overwrite: bool = False
    trust_remote_code: bool = False

    def method(self, effort: str) -> str:
        """The search method at an effort: what was asked for, else what finds most where the run searches.

        Where nothing is trained the modelled loss is a good one, and its exact front is gone along if latency is the one cost.
        A super-network is another network than the one that was modelled.
        """
        if self.search != "auto":
            return self.search
        modelled = self.space == "medium" and self.order == "importance" and self.objectives == ("latency",)
        return "exact" if modelled and effort != "thorough" else "nsga2"

    @property
    def of_supernets(self) -> tuple[str, ...]:
        """The flags, other than by default, of what nothing but the training of a super-network knows."""
        defaults = {each.name: each.default for each in fields(self)}
        changed = [name for name in _OF_SUPERNETS if getattr(self, name) != defaults[name]]
        return tuple(f"--{name.replace('_', '-')}" for name in changed)

    @property
    def costs(self) -> tuple[str, ...]:
        """What must be known of a candidate: the objectives, and what a budget is held against."""
        held = ("memory",) if self.budgets.max_memory_bytes is not None else ()
        return tuple(dict.fromkeys((*self.objectives, *held)))

    def __post_init__(self) -> None:
        self._check_texts()
        self._check_choices()
        self._check_combinations()
        self._check_numbers()

    def _check_choices(self) -> None:
        _choice("--effort", self.effort, EFFORTS)
        _choice("--space", self.space, tuple(SPACES))
        if self.search != "auto":
            check_method(self.search)
        _choice("--strategy", self.strategy, tuple(STRATEGIES))
        _choice("--sampling", self.sampling, SAMPLINGS)
        _choice("--order", self.order, ORDERS)
        _choice("--profile", self.profile, PROFILES)
        _choice("--opset", str(self.opset), tuple(map(str, OPSETS)))
        check_device(self.device)
        _choice("--percentile", self.percentile, ("p50", "p90", "p99"))
        for objective in self.objectives:
            _choice("--objectives", objective, OBJECTIVES)
        if not self.objectives:
            raise InputError(f"--objectives names none; known: {', '.join(OBJECTIVES)}")

    def _check_combinations(self) -> None:
        if self.ray is not None and self.device not in ("auto", "cpu"):
            raise InputError(
                f"--device {self.device} and --ray cannot be had together: what a cluster learns it learns on the CPUs of its nodes\n"
                "leave out one of them"
            )
        if self.space == "width":
            self._check_width()
        if self.search in AROUND_SEEDS and self.space != "medium":
            raise InputError(
                f"--search {self.search} needs --space medium, got {self.space}\n"
                "in the other spaces the sizes of a layer cannot be chosen alone; use another --search there"
            )
        if self.search == "exact" and self.order != "importance":
            raise InputError(
                f"--search exact needs --order importance, got {self.order}\n"
                "the losses that it adds up are those of the most important heads and units"
            )

    def _check_width(self) -> None:
        if self.table is not None:
            raise InputError(
                "--space width needs costs at several hidden sizes, and a --table is of one\n"
                "run on the device, or elsewhere with --accept-modelled; or take another --space"
            )
        unknown = sorted({"memory", "energy"} & set(self.costs))
        if unknown:
            raise InputError(
                f"{unknown[0]} is modelled for networks of the model's own hidden size: it cannot be had with --space width\n"
                "leave it out of --objectives and budgets, or take another --space"
            )

    def _check_numbers(self) -> None:
        if self.precisions is not None and len(set(self.precisions)) != max(len(self.precisions), 1):
            raise InputError(f"--precision must name each precision once, got {','.join(self.precisions) or 'none'}")
        for flag, value in self._given():
            for each in (value if isinstance(value, tuple) else (value,)) if flag in BOUNDS else ():
                check_number(flag, each)
        for flag, value in zip(_LIMITS, astuple(self.budgets), strict=True):
            check_number(flag, value)

    def _check_texts(self) -> None:
        for flag, value in self._given():
            for text in value if isinstance(value, tuple) else (value,):
                if isinstance(text, str | Path):
                    check_text(flag, str(text))

    def _given(self) -> Iterator[tuple[str, Any]]:
        """Every field by its flag."""
        return ((f"--{each.name.replace('_', '-')}", getattr(self, each.name)) for each in fields(self))


def options_json(options: Options) -> dict[str, Any]:
    """JSON values that `options_from_json` turns back into the very same."""
    values: dict[str, Any] = TypeAdapter(Options).dump_python(options, mode="json")
    return values


def options_from_json(values: Mapping[str, Any]) -> Options:
    """Inverse of `options_json`."""
    return TypeAdapter(Options).validate_python(values)


_LIMITS = ("--max-latency", "--min-speedup", "--max-memory", "--max-drop", "--max-flips", "--max-class-drop")
"""Flags of the fields of `Budgets`."""


def _choice(flag: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{flag} {printable(repr(value), 80)} is not known; known: {', '.join(allowed)}")
