"""A process that serves one network and tells what memory that took: MODEL INPUTS.npz THREADS CALLS, JSON out.

It holds the interpreter, numpy, ONNX Runtime and paretoc's own light modules, and nothing else.
"""

import json
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def resident_bytes() -> dict[str, int]:
    """Resident size of this process on Linux: `peak` so far and `now`."""
    lines = (line.split() for line in STATUS.read_text(encoding="ascii").splitlines())
    kibibytes = {words[0]: int(words[1]) for words in lines if words[0] in {"VmHWM:", "VmRSS:"}}
    return {"peak": kibibytes["VmHWM:"] * 1024, "now": kibibytes["VmRSS:"] * 1024}


def main() -> None:
    """Load, serve, tell."""
    import numpy as np

    from profilers.runtimes.onnx_session import open_session, package

    model, inputs, threads, calls = sys.argv[1:]
    with np.load(inputs) as arrays:
        feed = dict(arrays)
    package()
    before = resident_bytes()
    session = open_session(Path(model), int(threads))
    loaded = resident_bytes()
    for _ in range(int(calls)):
        session.run(None, feed)
    json.dump({"before": before, "loaded": loaded, "served": resident_bytes()}, sys.stdout)
