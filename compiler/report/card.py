"""A model card for each network of a run: README.md in its folder, in the form the model hub reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from compiler.export.preprocessing import lines_of_server
from compiler.export.reload import MODULE
from compiler.report import text
from compiler.report.artifact_path import artifact_path
from compiler.report.markdown import code, inline, yaml
from compiler.report.schema import CandidateInfo, Front
from compiler.report.view import layers
from compiler.store.store import write_atomically
from compiler.tasks import task_named


def read_base_card(folder: Path) -> Mapping[str, Any]:
    """What the base model's own card says in its header (`license`, `language`, ...); nothing where there is none."""
    from huggingface_hub import metadata_load

    try:
        return metadata_load(folder / "README.md") or {}
    except Exception:  # noqa: BLE001  no card, or whatever a library raises on one that cannot be read
        return {}


def render_card(
    front: Front, net: CandidateInfo, base: Mapping[str, Any], lines: str = "", *, stock: bool = False
) -> str:
    """The card of one network as Markdown; `base` is the base model's card's header, `lines` are the server's, from texts to arrays.

    `stock` says that transformers loads the network with code of its own.
    """
    environment = Environment(
        loader=PackageLoader("compiler.report", package_path=""), undefined=StrictUndefined, autoescape=False,  # noqa: S701  Markdown
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    for name in ("score", "milliseconds", "ratio", "percent", "share_of_peak", "count", "size", "words", "form"):
        environment.filters[name] = getattr(text, name)
    environment.filters |= {"inline": inline, "code": code, "yaml": yaml}
    task = task_named(front["task"])
    licence, languages = base.get("license"), base.get("language")
    return environment.get_template("card.md.txt").render(
        front=front,
        net=net,
        layers=list(layers(front, net)),
        embedding=not task.head,
        licence=licence,
        languages=languages,
        licence_line=f"Licence: {licence}, that of the base model."
        if licence
        else "The base model's card names no licence: ask its authors before you pass this on.",
        library=task.card.library,
        pipeline=task.card.pipeline,
        auto=task.auto_class,
        outputs=", ".join(task.output_names) + ("," if len(task.output_names) == 1 else ""),
        ort=task.card.optimum,
        ort_arguments=task.card.optimum_arguments,
        limits=task.card.limits,
        file=Path(net["artifact"]["path"]).name,
        preprocessing=lines.splitlines(),
        stock=stock,
        headline=_headline(front, net),
        interval=_interval(net),
        measured_on=_measured_on(front, net),
        asked=_asked(front),
        times=text.TIMES,
    )


def write_cards(run_dir: Path, front: Front, base: Mapping[str, Any]) -> None:
    """README.md beside every network of a run."""
    for net in (front["dense"], *front["candidates"]):
        folder = artifact_path(run_dir, net).parent
        stock = not (folder / f"{MODULE}.py").is_file()
        card = render_card(front, net, base, lines_of_server(folder), stock=stock)
        write_atomically(folder / "README.md", card.encode())


def _headline(front: Front, net: CandidateInfo) -> str:
    if net["speedup"] is None:
        return f" for {front['target']['name']}"
    return f": {text.ratio(net['speedup'])} the speed on {front['target']['name']}"


def _interval(net: CandidateInfo) -> str:
    return " ({} to {})".format(*map(text.ratio, net["speedup_interval"])) if net["speedup_interval"] else ""


def _asked(front: Front) -> str:
    asked = front["workload"]
    tokens = "the traffic that was given" if asked["traffic"] else f"{asked['tokens']} tokens"
    return f"{tokens}, {asked['threads']} thread{'s' if asked['threads'] > 1 else ''} in {asked['runtime']}"


def _measured_on(front: Front, net: CandidateInfo) -> str:
    name = front["target"]["fingerprint"].get("device_name", front["target"]["name"])
    if net["measured"] is None:
        return f"Nothing was measured on {front['target']['name']} yet: `compile verify` does it there."
    return f"Latencies: {name}, batch {front['workload']['batch']}, {_asked(front)}, alternating with the dense model in one run."
