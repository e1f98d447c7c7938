"""What every piece of a network costs on a device, and how wrong the table is.

A network's latency is a sum: base (stem, read-out, call) + mask (once, if any attention is kept) + its attention and
FFN sub-blocks + the working memory of the widest of each, which a call touches anew and its other blocks find warm
+ what weights beyond those that stay in the cache from call to call take to be read.
Sizes between measured ones are interpolated, and say so; a workspace is in proportion to its width, and so are weights
beyond the cache to their number. FFN units that do not fill whole multiples of the device's alignment take a remainder more.
"""

import json
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from profilers.cost_table_form import CostTableForm
from profilers.document import check_document
from profilers.interpolation import between
from profilers.measurement import Estimate
from profilers.program import Dimensions
from profilers.sizes import Stack
from profilers.workload import Workload
from targets import Fingerprint
from targets.errors import InputError, TargetError, printable, reason
from targets.json_file import conforming, is_there, parse_json, read_bytes

SCHEMA = 4
Piece = Literal["base", "mask", "attention", "ffn", "ffn_remainder", "attention_workspace", "ffn_workspace", "uncached"]
Source = Literal["measured", "transferred", "roofline", "null"]
Floats = NDArray[np.float64]

_KIND = "paretoc cost table"

_ROWS = ("errors", "entries", "checks")
"""Lists of a table's file that have one line a row."""

_OF_EACH = ("measured", "too_large", "transfers", "warnings")
"""Lists in a table's `how` of which every workload has its own items."""

_NAMING = ("measured", "too_large")
"""Those whose items name their workload."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class CostKey(NamedTuple):
    """A piece of a network at one size under one workload; base and mask have size 0, a workspace the dense model's.

    The size of `uncached` is how many weights of sub-blocks stay in the cache; its seconds are what as many more take.
    """

    piece: Piece
    size: int
    workload: Workload


class Overflow(NamedTuple):
    """Weights of sub-blocks that stay in the cache from call to call, and what each one more takes."""

    fits: int
    a_weight_s: float

    @classmethod
    def under(cls, workload: Workload, entries: Mapping[CostKey, float]) -> "list[Overflow]":
        """One, or none where none was seen."""
        mine = {key.size: s for key, s in entries.items() if (key.piece, key.workload) == ("uncached", workload)}
        return [cls(size, s / size) for size, s in mine.items()]

    def seconds(self, weights: Floats) -> Floats:
        """What networks of so many weights [N] take more, in seconds [N]."""
        return np.asarray(self.a_weight_s * np.maximum(weights - self.fits, 0.0))


def is_uneven(units: NDArray[np.int64], alignment: int, all_units: int) -> NDArray[np.bool_]:
    """Whether numbers of FFN units [N] leave a remainder; all units of a model are a size of their own."""
    return np.asarray((units % alignment != 0) & (units != all_units))


@dataclass(frozen=True, slots=True, kw_only=True)
class TableError:
    """How far predictions were from measurements on networks the table never saw; shares, not percent.

    `control_mape` is the same for a two-parameter linear fit on operations.
    """

    check_nets: int
    mape: float
    p95: float
    max: float
    spearman: float
    control_mape: float

    @classmethod
    def of(cls, predicted_s: Floats, measured_s: Floats, control_s: Floats) -> "TableError":
        """From predictions [N], measurements [N] and the control's predictions [N], all in seconds."""
        from scipy.stats import spearmanr

        off = np.abs(predicted_s / measured_s - 1)
        return cls(
            check_nets=len(off),
            mape=float(off.mean()),
            p95=float(np.percentile(off, 95)),
            max=float(off.max()),
            spearman=float(spearmanr(predicted_s, measured_s).statistic),
            control_mape=float(np.abs(control_s / measured_s - 1).mean()),
        )


class MissingCostError(LookupError):
    """The table has no such key; the message names its nearest neighbours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTable:
    """Seconds of every piece measured; `errors` by workload, `checks` the networks they were taken on.

    `how` is what the runtime says of its sessions, and of each workload how many networks were measured, which FFN sizes
    among them because the curve bends there, and which networks were too large for the device's memory. FFN units that are
    no multiple of `alignment`, all units excepted, have a remainder.
    """

    target: str
    source: Source
    fingerprint: Fingerprint
    dimensions: Dimensions
    entries: Mapping[CostKey, float]
    errors: Mapping[Workload, TableError] = field(default_factory=dict)
    checks: Sequence[Mapping[str, Any]] = ()
    seconds: float = 0.0
    how: Mapping[str, Any] = field(default_factory=dict)
    alignment: int = 1

    @property
    def error(self) -> TableError | None:
        """The error on the workload where it is largest; None where no network was held against the table."""
        return max(self.errors.values(), key=lambda error: error.mape, default=None)

    @classmethod
    def merge(cls, tables: Sequence["CostTable"]) -> "CostTable":
        """One table of several taken on one device, each under workloads of its own.

        Its fingerprint has no number of threads where theirs differ. Of measured and transferred tables it is transferred.
        """
        sources = {table.source for table in tables}
        threads = {table.fingerprint.threads for table in tables}
        return replace(
            tables[0],
            source=tables[0].source if len(sources) == 1 else "transferred",
            fingerprint=replace(tables[0].fingerprint, threads=threads.pop() if len(threads) == 1 else None),
            entries={key: seconds for table in tables for key, seconds in table.entries.items()},
            errors={workload: error for table in tables for workload, error in table.errors.items()},
            checks=tuple(check for table in tables for check in table.checks),
            seconds=sum(table.seconds for table in tables),
            how={**tables[-1].how, **{name: items for name in _OF_EACH if (items := _distinct(name, tables))}},
        )

    def under(self, workloads: Collection[Workload]) -> "CostTable":
        """What the table says of these workloads, its error on them included."""
        return replace(
            self,
            entries={key: seconds for key, seconds in self.entries.items() if key.workload in workloads},
            errors={workload: error for workload, error in self.errors.items() if workload in workloads},
            checks=tuple(check for check in self.checks if _workload(check) in workloads),
            how={
                name: [row for row in found if _workload(row) in workloads] if name in _NAMING else found
                for name, found in self.how.items()
            },
        )

    def holds(self, stack: Stack, workload: Workload) -> bool:
        """Whether the device's memory held a network, as far as it was tried."""
        read = self.weights(workload) if workload.lengths else (workload,)
        return not any(network_row(stack, one) in self.how.get("too_large", ()) for one in read)

    @property
    def at_bends(self) -> int:
        """How many sizes were measured because the curve bends there."""
        return sum(len(row["ffn_units_at_bends"]) for row in self.how.get("measured", ()))

    @property
    def carried_over(self) -> set[Workload]:
        """The workloads whose costs were carried over from another table: those it names, or all where it names none."""
        named = {_workload(row["to"]) for row in self.how.get("transfers", ())}
        return named or ({*self.workloads(), *self.errors} if self.source == "transferred" else set())

    def lookup(self, key: CostKey) -> Estimate:
        """A measured entry; MissingCostError names the nearest sizes there are."""
        if key in self.entries:
            return Estimate(value=self.entries[key], source=self.source)
        sizes = [k.size for k in self.entries if (k.piece, k.workload) == (key.piece, key.workload)]
        near = sorted(sizes, key=lambda size: abs(size - key.size))[:2]
        raise MissingCostError(
            f"no cost of {key.piece} at {key.size} for {key.workload}; nearest sizes: {near or 'none'}"
        )

    def workloads(self) -> list[Workload]:
        """The workloads the table answers for."""
        return list(dict.fromkeys(key.workload for key in self.entries))

    def weights(self, workload: Workload) -> dict[Workload, float]:
        """The workloads to read one at, and how much each weighs: itself, or calls of many lengths between lengths there are.

        MissingCostError where it is not there, or its lengths reach beyond those that are.
        """
        known = self.workloads()
        if workload in known:
            return {workload: 1.0}
        there = sorted(w.tokens for w in known if replace(workload, tokens=w.tokens, lengths=()) == w)
        if not there or not workload.lengths:
            raise MissingCostError(f"no entries for {workload}\nit has: " + "; ".join(map(str, known)))
        if not there[0] <= min(workload.lengths) <= max(workload.lengths) <= there[-1]:
            raise MissingCostError(
                f"only lengths of {', '.join(map(str, there))}, and texts of {min(workload.lengths)} to "
                f"{max(workload.lengths)} tokens are asked"
            )
        shares = between(there, workload.lengths).mean(axis=0)
        return {
            replace(workload, tokens=tokens, lengths=()): float(share)
            for tokens, share in zip(there, shares, strict=True)
            if share
        }

    def curve(self, piece: Piece, largest: int, workload: Workload) -> Floats:
        """Seconds for every size 0 to `largest`: measured where an entry is, linear between entries.

        Size 0 costs nothing; sizes below the smallest entry cost what it costs; the result never falls below zero.
        """
        known = sorted((k.size, s) for k, s in self.entries.items() if (k.piece, k.workload) == (piece, workload))
        if largest == 0:
            return np.zeros(1)
        if not known or known[-1][0] < largest:
            raise MissingCostError(
                f"the table's {piece} sizes end at {known[-1][0] if known else 'none'}, need {largest}"
            )
        sizes, seconds = zip(*known, strict=True)
        curve: Floats = np.maximum(np.interp(np.arange(largest + 1), sizes, seconds), 0.0)
        if piece == "ffn":
            curve += self._remainders(np.arange(largest + 1), workload)
        curve[0] = 0.0
        return curve

    def _remainders(self, units: NDArray[np.int64], workload: Workload) -> Floats:
        """Seconds that each number of units takes more for not filling whole multiples of the alignment."""
        known = sorted((k.size, s) for k, s in self.entries.items() if k[::2] == ("ffn_remainder", workload))
        if not known:
            return np.zeros(len(units))
        sizes, seconds = zip(*known, strict=True)
        more = np.interp(units, sizes, seconds)
        return np.where(is_uneven(units, self.alignment, self.dimensions.ffn_units), more, 0.0)

    def workspace(self, piece: Piece, workload: Workload) -> float:
        """Seconds a head or a unit of the widest sub-block; nothing where the table has no such entry."""
        return next((s / k.size for k, s in self.entries.items() if (k.piece, k.workload) == (piece, workload)), 0.0)

    def overflows(self, workload: Workload) -> list[Overflow]:
        """What weights beyond the cache take: one, or none where none was seen."""
        return Overflow.under(workload, self.entries)

    def predict(self, stack: Stack, workload: Workload) -> Estimate:
        """Latency of a network, in seconds."""
        attention = self.curve("attention", max(sizes.heads for sizes in stack), workload)
        ffn = self.curve("ffn", max(sizes.ffn_units for sizes in stack), workload)
        total = self.lookup(CostKey("base", 0, workload)).value
        if any(sizes.heads for sizes in stack):
            total += self.lookup(CostKey("mask", 0, workload)).value
        total += sum(attention[sizes.heads] + ffn[sizes.ffn_units] for sizes in stack)
        total += self.workspace("attention_workspace", workload) * max(sizes.heads for sizes in stack)
        total += self.workspace("ffn_workspace", workload) * max(sizes.ffn_units for sizes in stack)
        weights = np.array(self.dimensions.weights(stack))
        total += sum(float(overflow.seconds(weights)) for overflow in self.overflows(workload))
        return Estimate(value=float(total), source=self._source_of(stack, workload))

    def _source_of(self, stack: Stack, workload: Workload) -> str:
        pieces = {CostKey("attention", s.heads, workload) for s in stack if s.heads}
        pieces |= {CostKey("ffn", s.ffn_units, workload) for s in stack if s.ffn_units}
        exact = all(key in self.entries for key in pieces)
        return self.source if exact or self.source != "measured" else "interpolated"

    def check_fits(self, dimensions: Dimensions, workload: Workload) -> None:
        """TargetError where the table is of another model shape or workload."""
        mine, theirs = asdict(self.dimensions), asdict(dimensions)
        wrong = [
            f"{k} {mine[k]}, the model has {theirs[k]}"
            for k in mine
            if k not in {"layers", "vocabulary"} and mine[k] != theirs[k]
        ]
        if wrong:
            raise TargetError(f"the cost table is of another model: {wrong[0]}\nprofile this model: compile profile")
        try:
            self.weights(workload)
        except MissingCostError as error:
            raise TargetError(f"the cost table has {error}") from None

    def check_device(self, here: Fingerprint, runtime: str) -> None:
        """TargetError naming the first difference where the table was measured on another device or version."""
        different = self.fingerprint.differences(here, runtime=runtime)
        if different:
            raise TargetError(
                f"the cost table is from another device or version ({different[0]})\nprofile this one: compile profile"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, readable by people."""
        return {
            "schema": SCHEMA,
            "kind": _KIND,
            "target": self.target,
            "source": self.source,
            "fingerprint": self.fingerprint.to_json(),
            "dimensions": self.dimensions.to_json(),
            "errors": [{**workload.to_json(), **asdict(error)} for workload, error in self.errors.items()],
            "seconds_to_measure": round(self.seconds, 1),
            "alignment": self.alignment,
            "how": dict(self.how),
            "entries": [
                {"piece": key.piece, "size": key.size, **key.workload.to_json(), "seconds": seconds}
                for key, seconds in self.entries.items()
            ],
            "checks": [dict(check) for check in self.checks],
        }

    @classmethod
    def from_json(cls, data: Any, name: str = "the cost table") -> "CostTable":
        """Inverse of `to_json`; InputError where the data are not a table, of another schema, or hold no valid time."""
        check_document(data, _KIND, SCHEMA, name)
        conforming(data, CostTableForm, name=f"{name} is damaged", fail=_advise)
        try:
            return cls(
                target=data["target"],
                source=data["source"],
                fingerprint=Fingerprint.from_json(data["fingerprint"]),
                dimensions=Dimensions(**data["dimensions"]),
                entries=_distinct_keys("entries", map(_entry, data["entries"])),
                errors=_distinct_keys("errors", map(_error, data["errors"])),
                checks=tuple(dict(row) for row in data.get("checks", ())),
                seconds=float(data.get("seconds_to_measure", 0.0)),
                how=dict(data.get("how", {})),
                alignment=data["alignment"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _advise(f"{name} is damaged: {reason(error)}") from None

    def write(self, path: Path) -> None:
        """Write as JSON: an indented document in which an error, an entry or a check has one line."""
        items = (f" {json.dumps(name)}: {_lines(name, value)}" for name, value in self.to_json().items())
        path.write_text("{\n" + ",\n".join(items) + "\n}\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Traversable) -> "CostTable":
        """Read a table; InputError where the file is missing, truncated or no table."""
        if isinstance(path, Path) and not is_there(path):
            raise InputError(
                f"no cost table at {printable(str(path))}\nmake one on the device: compile profile --target NAME"
            )
        content = read_bytes(path, name=path.name) if isinstance(path, Path) else path.read_bytes()
        return cls.from_json(parse_json(content, name=path.name), path.name)


def _advise(message: str) -> InputError:
    return InputError(f"{message}\nprofile again: compile profile")


def network_row(stack: Stack, workload: Workload) -> dict[str, Any]:
    """A network and its workload as one row of a table's file."""
    return {
        **workload.to_json(),
        "heads": [sizes.heads for sizes in stack],
        "ffn_units": [sizes.ffn_units for sizes in stack],
    }


def _distinct_keys(what: str, pairs: Iterable[tuple[Key, Value]]) -> dict[Key, Value]:
    """ValueError where two rows are of one key: nobody knows which holds."""
    found: dict[Key, Value] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{what}: {key} stands twice")
        found[key] = value
    return found


def _entry(row: Mapping[str, Any]) -> tuple[CostKey, float]:
    values = dict(row)
    piece, size, seconds = (values.pop(name) for name in ("piece", "size", "seconds"))
    if piece == "uncached" and size < 1:
        raise ValueError(f"{size} weights that stay in the cache")
    return CostKey(piece, size, Workload.from_json(values)), float(seconds)


_WORKLOAD = ("batch", "tokens", "threads", "precision", "runtime", "lengths", "opset")


def _workload(row: Mapping[str, Any]) -> Workload:
    """That of a row which says more."""
    return Workload.from_json({name: row[name] for name in _WORKLOAD if name in row})


def _error(row: Mapping[str, Any]) -> tuple[Workload, TableError]:
    workload = _workload(row)
    return workload, TableError(**{name: value for name, value in row.items() if name not in _WORKLOAD})


def _distinct(name: str, tables: Sequence[CostTable]) -> list[Any]:
    """All items of one list in the tables' `how`, each once."""
    items = [item for table in tables for item in table.how.get(name, ())]
    return [item for i, item in enumerate(items) if item not in items[:i]]


def _lines(name: str, value: Any) -> str:
    """A value of the document as JSON, indented by one."""
    if name in _ROWS and value:
        return "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in value) + "\n ]"
    return json.dumps(value, indent=1).replace("\n", "\n ")
