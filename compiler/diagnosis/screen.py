"""A diagnosis on one screen: at most 40 lines of 100 columns."""

import textwrap
from collections.abc import Iterator

from compiler.diagnosis.form import Diagnosis, Library, Problem
from targets.errors import printable

COLUMNS, LINES = 100, 40
_MARKS = {"error": "error", "warning": "warn", "note": "note"}


def screen(found: Diagnosis) -> list[str]:
    """What is here, then what is wrong, errors first; problems that find no room are counted."""
    facts = [line for name, text in _facts(found) for line in _row(name, text)]
    problems = [_problem(problem) for problem in found["problems"]]
    room = LINES - len(facts) - 1
    shown: list[str] = []
    for i, lines in enumerate(problems):
        if len(shown) + len(lines) > room - (i < len(problems) - 1):
            shown.append(f"{len(problems) - i} more: compile doctor --json")
            break
        shown += lines
    verdict = "ready" if found["usable"] else "not usable as it is"
    return [*facts, *shown, f"{verdict}: {_counted(found['problems'])}"]


def _counted(problems: list[Problem]) -> str:
    counts = [(kind, sum(problem["severity"] == kind for problem in problems)) for kind in _MARKS]
    return ", ".join(f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in counts)


def _row(name: str, text: str, most: int = 5) -> list[str]:
    lines = textwrap.wrap(
        printable(text, 2000), COLUMNS - 13, max_lines=most, placeholder=" …", break_on_hyphens=False
    ) or ["-"]
    return [f"{name if i == 0 else '':<12} {line}" for i, line in enumerate(lines)]


def _problem(problem: Problem) -> list[str]:
    return _row(_MARKS[problem["severity"]], f"{problem['what']}; {problem['remedy']}", most=2)


def _facts(found: Diagnosis) -> Iterator[tuple[str, str]]:
    system, processor, memory = found["system"], found["processor"], found["memory"]
    yield "paretoc", found["version"] or "not installed: run from a source folder"
    if system is not None:
        load = "not known" if system["load"] is None else f"{system['load']:.2f}"
        yield (
            "system",
            f"Python {system['python']}, {system['platform']}, clock {system['clock_source'] or 'not known'}, load {load}",
        )
    if processor is not None:
        sets = " ".join(processor["instruction_sets"]) or "no known instruction sets"
        yield "processor", f"{processor['name']}, {processor['usable']} of {processor['count']} usable; {sets}"
    if memory is not None:
        limit = f", limit {_size(memory['limit_bytes'])}" if memory["limit_bytes"] else ""
        yield "memory", f"{_size(memory['available_bytes'])} of {_size(memory['total_bytes'])} available{limit}"
    yield "disk", f"{_size(found['out_free_bytes'])} free in the working folder"
    yield from _cache(found)
    yield from _devices(found)
    yield from _software(found)


def _cache(found: Diagnosis) -> Iterator[tuple[str, str]]:
    cache = found["cache"]
    if cache is not None:
        cap = "" if cache["cap_bytes"] is None else f" of at most {_size(cache['cap_bytes'])}"
        yield (
            "cache",
            f"{cache['folder']}: {_size(cache['bytes'])}{cap} in {cache['entries']} files, {_size(cache['free_bytes'])} free",
        )


def _devices(found: Diagnosis) -> Iterator[tuple[str, str]]:
    devices = found["devices"]
    if devices is None:
        return
    yield "targets", f"here: {', '.join(devices['targets'])}"
    gpus = ", ".join(f"{gpu['name']} ({_size(gpu['memory_total_bytes'])})" for gpu in devices["gpus"])
    driver = f"; driver {devices['driver']}, CUDA {devices['cuda']}" if devices["driver"] else ""
    yield "GPUs", (gpus or f"none: {devices['why_none'] or 'the driver sees none'}") + driver


def _software(found: Diagnosis) -> Iterator[tuple[str, str]]:
    packages = [p for p in found["packages"] or [] if p["found"] is not None]
    if packages:
        yield "packages", ", ".join(f"{p['name']} {p['found']}{'' if p['fits'] else ' (!)'}" for p in packages)
    libraries = found["libraries"] or []
    if libraries:
        yield "peaks", ", ".join(map(_peak, libraries)) + " (float32 product)"
    providers = [
        provider.removesuffix("ExecutionProvider") for library in libraries for provider in library["providers"]
    ]
    if providers:
        yield "providers", f"of ONNX Runtime: {', '.join(providers)}"


def _peak(library: Library) -> str:
    rate = library["flops_per_s"]
    return f"{library['name']} {'not loaded' if rate is None else f'{rate / 1e9:.0f} GFLOP/s'}"


def _size(size: float | None) -> str:
    if size is None:
        return "not known"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
