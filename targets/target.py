"""What a target is: one device of the catalogue, with the precision it was asked for."""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

from targets.errors import InputError

Kind = Literal["cpu", "gpu", "null"]
Runtime = Literal["onnxruntime", "tensorrt", "torch", "null"]
Checked = Literal["vendor", "citation", "assumed", "defined", "no"]

STATIC = "int8-static"
"""Ranges of activations fixed beforehand: the int8 of GPUs. Plain int8 takes them while the network runs."""

PRECISIONS = ("fp32", "fp16", "bf16", "int8", STATIC)
"""What `NAME:PRECISION` may ask for, where the device and one of its runtimes can."""

RATES = ("fp32", "fp16", "bf16", "int8", "tf32")
"""Number formats a peak rate can be given for."""

V = TypeVar("V")


def number_format(precision: str) -> str:
    """What is multiplied at a precision: one of `RATES`."""
    return "int8" if precision == STATIC else precision


class FrozenMap(Mapping[str, V], Generic[V]):
    """A mapping that cannot be changed, and can be hashed, copied and pickled.

    `types.MappingProxyType` can be neither hashed nor pickled, and a target is a key and goes to worker processes.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, V]) -> None:
        self._items = dict(items)

    def __getitem__(self, key: str) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


@dataclass(frozen=True, slots=True, kw_only=True)
class FactSource:
    """Where one fact of a target comes from.

    Attributes:
        title: The document that states it.
        url: Its address; None where the source is no document.
        checked: How far it was checked: `vendor` the vendor's own page was read, `citation` a public text that
            cites the vendor's document agrees, `assumed` a planning value of ours that no document states,
            `defined` true by definition (the null device), `no` written down without a check.
        note: What a reader has to know about it, or an empty string.
    """

    title: str
    url: str | None
    checked: Checked
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A device as the datasheet describes it, and the precision asked for.

    The facts only ever feed the roofline; a cost that was measured never uses them.

    Attributes:
        name: The name on the command line.
        kind: `cpu`, `gpu` or `null` (simulated, no clock).
        generic: Whether the facts describe a typical host and not one product.
        arch: `sm_86` and the like for a GPU, else `host` or `null`.
        memory_bytes: Device memory; None where the host decides.
        bandwidth_bytes_per_s: Peak memory bandwidth.
        peak_flops_per_s: Peak dense rate of matrix products per number format (operations for int8). Never the
            rate with 2:4 sparsity.
        tdp_w: Power limit of the board as shipped; None where the host decides.
        size_alignment: Sizes that are multiples of this fill the device's matrix units.
        call_overhead_s: Fixed time of one inference call, for the roofline.
        default_runtime: The runtime used when none is asked for.
        default_precision: The precision used when none is asked for.
        runtimes: The runtimes that serve this device.
        precisions: The precisions of each runtime here.
        refused: Precisions this device cannot or should not run, each with the reason.
        precision: The precision asked for.
        nvml_names: Regular expressions, one of which matches the whole name that NVML gives the device.
        sources: The source of each fact, by field name (`peak_flops_per_s.fp16` for a rate).
    """

    name: str
    kind: Kind
    generic: bool
    arch: str
    memory_bytes: int | None
    bandwidth_bytes_per_s: float
    peak_flops_per_s: FrozenMap[float]
    tdp_w: float | None
    size_alignment: int
    call_overhead_s: float
    default_runtime: Runtime
    default_precision: str
    runtimes: tuple[Runtime, ...]
    precisions: FrozenMap[tuple[str, ...]]
    refused: FrozenMap[str]
    precision: str
    nvml_names: tuple[str, ...]
    sources: FrozenMap[FactSource]

    @classmethod
    def parse(cls, text: str) -> "Target":
        """The catalogue's target for `NAME` or `NAME:PRECISION`, in any case.

        `Target.parse(str(target)) == target` for every target, and `str(Target.parse(text)) == text` for every
        text in its full lower-case form.

        Raises:
            InputError: The name is not in the catalogue, or the device does not run the precision.
        """
        from targets.catalog import load_catalog

        name, colon, precision = text.strip().lower().partition(":")
        target = _named(name, load_catalog())
        return target.with_precision(precision) if colon else target

    def __str__(self) -> str:
        return f"{self.name}:{self.precision}"

    @property
    def supported_precisions(self) -> tuple[str, ...]:
        """The precisions that at least one runtime serves here, widest first."""
        return tuple(p for p in PRECISIONS if any(p in self.precisions[r] for r in self.runtimes))

    @property
    def runtime(self) -> Runtime:
        """The runtime for `precision`: the default one if it serves it, else the first that does."""
        return self.runtimes_for(self.precision)[0]

    def runtimes_for(self, precision: str) -> tuple[Runtime, ...]:
        """The runtimes that serve `precision` here, the default one first; empty if none does."""
        able = (r for r in self.runtimes if precision in self.precisions[r])
        return tuple(sorted(able, key=lambda r: r != self.default_runtime))

    def supports(self, precision: str, runtime: str | None = None) -> bool:
        """Whether `runtime` (or, if None, any runtime) serves `precision` here."""
        able = self.runtimes_for(precision)
        return bool(able) if runtime is None else runtime in able

    def with_precision(self, precision: str) -> "Target":
        """This device at another precision; int8 is static int8 where that is the only one.

        Raises:
            InputError: The device does not run it; the message says why and what it does run.
        """
        if precision == "int8" and not self.supports(precision) and self.supports(STATIC):
            precision = STATIC
        if not self.supports(precision):
            choices = ", ".join(self.supported_precisions)
            raise InputError(
                f"{self.name} does not run {precision!r}: {self._why_not(precision)}.\nIt runs: {choices}."
            )
        return replace(self, precision=precision)

    def with_runtime(self, runtime: str) -> "Target":
        """This device with `runtime` as its default one.

        Raises:
            InputError: The runtime does not serve this device, or not at this target's precision.
        """
        found = next((r for r in self.runtimes if r == runtime), None)
        if found is None:
            raise InputError(f"{self.name} is not served by {runtime!r}.\nIt is served by: {', '.join(self.runtimes)}.")
        if self.precision not in self.precisions[found]:
            choices = ", ".join(self.precisions[found])
            raise InputError(f"{runtime} does not run {self.precision} on {self.name}.\nIt runs: {choices}.")
        return replace(self, default_runtime=found)

    def peak_rate(self, precision: str) -> float:
        """Peak dense rate of matrix products at a precision, per second."""
        return self.peak_flops_per_s[number_format(precision)]

    def recognises(self, device_name: str) -> bool:
        """Whether NVML's `device_name` is this device."""
        return any(re.fullmatch(pattern, device_name.strip(), re.IGNORECASE) for pattern in self.nvml_names)

    def _why_not(self, precision: str) -> str:
        if precision in self.refused:
            return self.refused[precision]
        if precision == "tf32":
            return "tf32 is a way to multiply fp32 matrices, not a precision of a model; ask for fp32"
        if precision in PRECISIONS:
            return "none of its runtimes does"
        return "there is no such precision"


def _named(name: str, catalog: Mapping[str, Target]) -> Target:
    if name in catalog:
        return catalog[name]
    near = difflib.get_close_matches(name, catalog, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise InputError(f"no target is called {name!r}.{hint}\nKnown targets: {', '.join(sorted(catalog))}.")
