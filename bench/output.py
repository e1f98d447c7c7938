"""Where the benchmarks put what they found."""

import json
from pathlib import Path
from typing import Any


def write_json(path: Path | None, record: Any) -> None:
    """Write a record, its folder made where there is none; nothing without a path."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
