"""Numbers as people read them: three significant digits, a unit, and a dash for what is not known."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

UNKNOWN = "\N{EN DASH}"
MISMEASURED = "peak mismeasured"
TIMES = "\N{MULTIPLICATION SIGN}"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | None, digits: int = 3) -> str:
    """`value` to `digits` significant digits: 5.10, 12,300, a power of ten where it is tiny; a dash for `None` and non-finite values."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value == 0:
        return "0"
    value = float(f"{value:.{digits - 1}e}")
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude < -4:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}{TIMES}10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
    return f"{value:,.{max(0, digits - 1 - magnitude)}f}"


def score(value: float | None) -> str:
    """A metric or an error, three decimals so that columns align."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:.3f}"


def _with_unit(text: str, unit: str) -> str:
    return text if text == UNKNOWN else f"{text}{unit}"


def milliseconds(value: float | None) -> str:
    """A latency given in milliseconds: `5.10 ms`."""
    return _with_unit(number(value), "\u00a0ms")


def ratio(value: float | None) -> str:
    """A speed-up: 2.10 and the sign of multiplication."""
    return _with_unit(number(value), TIMES)


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction as percent: 0.021 is `2.1 %`."""
    if fraction is None or not math.isfinite(fraction):
        return UNKNOWN
    return f"{100 * fraction:.{digits}f}\u00a0%"


def share_of_peak(fraction: float | None) -> str:
    """A share of what the device can do at best; `peak mismeasured` where a run of an older version has one above 100 %."""
    if fraction is not None and fraction > 1:
        return MISMEASURED
    return percent(fraction, digits=0)


def signed_percent(fraction: float) -> str:
    """A deviation as percent with its sign, a true minus: 0.021 is `+2.1 %`."""
    return f"{100 * fraction:+.1f}\u00a0%".replace("-", "\u2212")


def count(value: float) -> str:
    """A large count: `14.2 M`, `820 k`."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{number(value / factor)}\u00a0{unit}"
    return number(value)


def size(value_bytes: float | None) -> str:
    """Bytes in decimal units: `45.3 MB`."""
    if value_bytes is None:
        return UNKNOWN
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value_bytes >= factor:
            return f"{number(value_bytes / factor)}\u00a0{unit}"
    return f"{value_bytes:.0f}\u00a0B"


def joules(value: float | None) -> str:
    """An energy given in joules: `1.20 J`, `35.0 mJ`."""
    if value is not None and value < 0.1:
        return _with_unit(number(value * 1e3), "\u00a0mJ")
    return _with_unit(number(value), "\u00a0J")


def per_second(value: float | None) -> str:
    """Sequences a second: `1,200 /s`."""
    return _with_unit(number(value), "\u00a0/s")


def seconds(value: float) -> str:
    """A duration given in seconds: `31.2 s`, `4 min 05 s`, `2 h 10 min`."""
    if value < 100:
        return f"{number(value)}\u00a0s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}\u00a0min {rest:02d}\u00a0s"
    return f"{minutes // 60}\u00a0h {minutes % 60:02d}\u00a0min"


def form(net: Mapping[str, Any]) -> str:
    """The precision of a network, and what of it stays in fp32: `int8, layer 1 ffn in fp32`."""
    kept = ", ".join(f"layer {block['layer']} {block['piece']}" for block in net.get("exceptions", ()))
    return f"{net['precision']}, {kept} in fp32" if kept else str(net["precision"])


def words(name: str) -> str:
    """An identifier as words: `mean_cosine` is `mean cosine`."""
    return name.replace("_", " ")


def limit(name: str, value: Any) -> str:
    """One budget limit with the unit its name carries: `max latency 6 ms`."""
    if not isinstance(value, int | float):
        return f"{words(name)} {value}"
    if name.endswith("_ms"):
        return f"{words(name.removesuffix('_ms'))} {value:g}\u00a0ms"
    if name.endswith("_bytes"):
        return f"{words(name.removesuffix('_bytes'))} {size(value)}"
    return f"{words(name)} {value:g}{TIMES if 'speedup' in name else ''}"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of a free-form mapping as (name, text), nested names joined by a space."""
    for key, value in tree.items():
        name = f"{prefix}{words(str(key))}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{name} ")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(map(str, value))
        else:
            yield name, UNKNOWN if value is None else str(value)
