"""`compile cache`: what is stored, how much of the cap it takes, and what goes."""

import json
from typing import Annotated

import typer


def cache_command(
    cache: Annotated[str | None, typer.Option(help="cache folder, or the URL of a shared cache")] = None,
    prune: Annotated[str | None, typer.Option(help="delete what was not used for so long, like 30d")] = None,
    cache_size: Annotated[
        str | None,
        typer.Option(
            "--cache-size",
            "--cache-limit",
            help="largest size, like 20GB: of what was not used for longest the rest is deleted",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """List what is stored, or prune it. What a run that goes on has used stays."""
    from compiler.store import default_place, local_folder, open_store
    from targets.quantities import age_seconds, size_bytes

    folder = local_folder(cache)
    root = folder or cache or default_place()
    if folder is not None and not folder.exists():
        _tell({"cache": str(root), "stages": {}, "bytes": 0}, f"{root}: nothing is stored there", as_json=as_json)
        return
    cap = None if cache_size is None else size_bytes(cache_size, "--cache-size")
    store = open_store(root, cap)
    if prune is not None or cap is not None:
        freed = 0 if prune is None else store.prune(age_seconds(prune, "--prune"))
        freed += 0 if cap is None else store.trim()
        _tell({"freed_bytes": freed}, f"freed {freed / 1e6:.1f} MB", as_json=as_json)
        return
    sizes: dict[str, tuple[int, int]] = {}
    for entry in store.entries():
        count, size = sizes.get(entry.stage, (0, 0))
        sizes[entry.stage] = (count + 1, size + entry.size_bytes)
    total = sum(size for _, size in sizes.values())
    stages = {stage: {"entries": count, "bytes": size} for stage, (count, size) in sorted(sizes.items())}
    lines = [f"{stage:<14} {count:>6} entries {size / 1e6:>10.1f} MB" for stage, (count, size) in sorted(sizes.items())]
    lines.append(f"{root}: {total / 1e6:.1f} MB of {store.cap_bytes / 1e6:,.0f} MB at most")
    answer = {"cache": str(root), "stages": stages, "bytes": total, "most_bytes": int(store.cap_bytes)}
    _tell(answer, "\n".join(lines), as_json=as_json)


def _tell(answer: object, text: str, *, as_json: bool) -> None:
    print(json.dumps(answer) if as_json else text)  # noqa: T201  this is the answer
