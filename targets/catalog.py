"""The catalogue: one file of datasheet facts per device, each fact with its source, checked when it is read."""

import functools
import math
import re
import tomllib
from collections.abc import Iterable
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, get_args

from targets.errors import InputError
from targets.target import PRECISIONS, RATES, Checked, FactSource, FrozenMap, Kind, Runtime, Target, number_format

_TOP = {"name", "kind", "generic", "default_runtime", "default_precision", "nvml_names"}
_TABLES = {"runtimes", "refused", "sources", "facts"}
_FACTS = {
    "arch",
    "memory_bytes",
    "bandwidth_bytes_per_s",
    "tdp_w",
    "size_alignment",
    "call_overhead_s",
    "peak_flops_per_s",
}
_HOST_DECIDES = {"memory_bytes", "tdp_w"}


def load_catalog(folder: Traversable | None = None) -> dict[str, Target]:
    """Every target of the catalogue by name, each at its default precision.

    Args:
        folder: Where the TOML files are; the shipped catalogue if None.

    Raises:
        InputError: A file is not a target; the message names the file and the key.
    """
    if folder is not None:
        return _load(folder)
    return dict(_shipped())


@functools.cache
def _shipped() -> dict[str, Target]:
    return _load(resources.files("targets") / "catalog")


def _load(folder: Traversable) -> dict[str, Target]:
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return {target.name: target for target in map(_read, files)}


def _read(file: Traversable) -> Target:
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise _fault(file.name, "the file", "TOML", error) from error
    entry = _Entry(file.name, data)
    entry.only("the file", data, _TOP | _TABLES)
    target = entry.target()
    if f"{target.name}.toml" != file.name:
        raise _fault(file.name, "name", repr(file.name.removesuffix(".toml")), repr(target.name))
    return target


def _fault(file: str, key: str, expected: object, got: object) -> InputError:
    return InputError(f"target catalogue, {file}: {key}: expected {expected}, got {got}.")


class _Entry:
    """One file: the table and the checks that turn it into a target."""

    def __init__(self, file: str, data: dict[str, Any]) -> None:
        self.file = file
        self.data = data
        self.sources: dict[str, FactSource] = {}

    def target(self) -> Target:
        kind: Kind = self.one_of("kind", get_args(Kind))
        precisions = self.precisions()
        runtimes: tuple[Runtime, ...] = tuple(self.one_of(r, get_args(Runtime), r) for r in precisions)
        default: Runtime = self.one_of("default_runtime", runtimes)
        precision: str = self.one_of("default_precision", precisions[default])
        self.only("facts", self.table("facts"), _FACTS)
        return Target(
            name=self.text("name", self.data.get("name")),
            kind=kind,
            generic=self.flag("generic"),
            arch=self.text("facts.arch", self.fact("arch")),
            memory_bytes=self.whole_or_host("memory_bytes"),
            bandwidth_bytes_per_s=self.number("bandwidth_bytes_per_s"),
            peak_flops_per_s=FrozenMap(self.rates(precisions.values())),
            tdp_w=self.number_or_host("tdp_w"),
            size_alignment=self.whole("size_alignment"),
            call_overhead_s=self.number("call_overhead_s"),
            default_runtime=default,
            default_precision=precision,
            runtimes=runtimes,
            precisions=FrozenMap(precisions),
            refused=FrozenMap(self.refused()),
            precision=precision,
            nvml_names=self.nvml_names(kind),
            sources=FrozenMap(self.sources),
        )

    def only(self, where: str, table: dict[str, Any], known: Iterable[str]) -> None:
        unknown = sorted(set(table) - set(known))
        if unknown:
            raise _fault(self.file, where, f"only {', '.join(sorted(known))}", ", ".join(unknown))

    def table(self, key: str) -> dict[str, Any]:
        value = self.data.get(key, {})
        if not isinstance(value, dict):
            raise _fault(self.file, key, "a table", repr(value))
        return value

    def text(self, key: str, value: object) -> str:
        if not isinstance(value, str) or not value:
            raise _fault(self.file, key, "a text", repr(value))
        return value

    def one_of(self, key: str, choices: Iterable[str], value: object = None) -> Any:
        allowed = tuple(choices)
        value = self.data.get(key) if value is None else value
        if value not in allowed:
            raise _fault(self.file, key, f"one of {', '.join(allowed)}", repr(value))
        return value

    def flag(self, key: str) -> bool:
        value = self.data.get(key, False)
        if not isinstance(value, bool):
            raise _fault(self.file, key, "true or false", repr(value))
        return value

    def precisions(self) -> dict[str, tuple[str, ...]]:
        table = self.table("runtimes")
        if not table:
            raise _fault(self.file, "runtimes", "at least one runtime", "none")
        for runtime, names in table.items():
            if not isinstance(names, list) or not names or set(names) - set(PRECISIONS):
                raise _fault(self.file, f"runtimes.{runtime}", f"a list of {', '.join(PRECISIONS)}", repr(names))
        return {runtime: tuple(names) for runtime, names in table.items()}

    def refused(self) -> dict[str, str]:
        return {name: self.text(f"refused.{name}", why) for name, why in self.table("refused").items()}

    def nvml_names(self, kind: Kind) -> tuple[str, ...]:
        names = self.data.get("nvml_names", [])
        if not isinstance(names, list) or bool(names) != (kind == "gpu"):
            raise _fault(self.file, "nvml_names", "a list of patterns for a gpu, none otherwise", repr(names))
        for name in names:
            try:
                re.compile(self.text("nvml_names", name))
            except re.error as error:
                raise _fault(self.file, "nvml_names", "regular expressions", f"{name!r} ({error})") from error
        return tuple(names)

    def fact(self, key: str) -> Any:
        """The value at `facts.KEY`, its source remembered; None exactly where the host decides."""
        node: Any = self.table("facts")
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise _fault(self.file, f"facts.{key}", "a table with value, source and checked", repr(node))
        self.only(f"facts.{key}", node, {"value", "source", "checked", "note", "host_decides"})
        self.sources[key] = self.source(key, node)
        if node.get("host_decides") is True and key in _HOST_DECIDES:
            return None
        if node.get("value") is None:
            raise _fault(self.file, f"facts.{key}", "a value", repr(node))
        return node["value"]

    def source(self, key: str, node: dict[str, Any]) -> FactSource:
        name = self.text(f"facts.{key}.source", node.get("source"))
        document = self.table("sources").get(name)
        if not isinstance(document, dict):
            raise _fault(self.file, f"facts.{key}.source", f"one of {', '.join(self.table('sources'))}", repr(name))
        self.only(f"sources.{name}", document, {"title", "url"})
        url = document.get("url")
        return FactSource(
            title=self.text(f"sources.{name}.title", document.get("title")),
            url=None if url is None else self.text(f"sources.{name}.url", url),
            checked=self.one_of(f"facts.{key}.checked", get_args(Checked), node.get("checked", "")),
            note=str(node.get("note", "")),
        )

    def number(self, key: str) -> float:
        return float(self.positive(key, self.fact(key)))

    def number_or_host(self, key: str) -> float | None:
        value = self.fact(key)
        return None if value is None else float(self.positive(key, value))

    def whole(self, key: str) -> int:
        return self.integer(key, self.fact(key))

    def whole_or_host(self, key: str) -> int | None:
        value = self.fact(key)
        return None if value is None else self.integer(key, value)

    def positive(self, key: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise _fault(self.file, f"facts.{key}.value", "a number above 0", repr(value))
        return value

    def integer(self, key: str, value: object) -> int:
        if not isinstance(value, int) or self.positive(key, value) < 1:
            raise _fault(self.file, f"facts.{key}.value", "a whole number above 0", repr(value))
        return value

    def rates(self, precisions: Iterable[tuple[str, ...]]) -> dict[str, float]:
        given = self.table("facts").get("peak_flops_per_s")
        if not isinstance(given, dict):
            raise _fault(self.file, "facts.peak_flops_per_s", "a table", repr(given))
        self.only("facts.peak_flops_per_s", given, RATES)
        missing = sorted({number_format(p) for names in precisions for p in names} - set(given))
        if missing:
            raise _fault(self.file, "facts.peak_flops_per_s", "a rate for every precision", f"none for {missing}")
        return {name: self.number(f"peak_flops_per_s.{name}") for name in given}
