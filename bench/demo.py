"""The demo from nothing: wall time and the table the README shows.

    python bench/demo.py --json bench/results/demo.json

Runs `compile --demo --fresh` as a user would, in a process of its own, and keeps its front.json and timings.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from output import write_json


def main() -> None:
    """Run and sum up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("bench/results/demo.json"))
    parser.add_argument(
        "--out", type=Path, default=None, help="keep the run there: docs/report.png shows its report.html"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.out or Path(folder)
        command = [sys.executable, "-m", "compiler", "--demo", "--fresh", "--out", str(out)]
        start = time.monotonic()
        subprocess.run(command, check=True)
        wall_s = time.monotonic() - start
        front = json.loads((out / "front.json").read_text(encoding="utf-8"))
    record = {"command": "compile --demo --fresh", "wall_s": round(wall_s, 1), "front": front}
    write_json(arguments.json, record)


if __name__ == "__main__":
    main()
