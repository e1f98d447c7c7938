"""`python -m tests.hostile --count N --seed S`: make, run and judge so many bad inputs."""

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path

from compiler.cli.main import VERBS
from targets import usable_cpus
from tests.hostile import harness, summary
from tests.hostile.strategies import SHARES, cases


def main() -> int:
    """0 where every outcome was right."""
    flags = argparse.ArgumentParser(prog="tests.hostile", description=__doc__)
    flags.add_argument("--count", type=int, default=2000, help="inputs")
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--verbs", default="", help="like compile,data (all)")
    flags.add_argument("--workers", type=int, default=usable_cpus())
    flags.add_argument("--keep", type=Path, default=None, help="folder for one small reproduction a cause")
    flags.add_argument(
        "--seeds", type=Path, default=None, help="folder of the valid inputs, made where it is empty (a new one)"
    )
    flags.add_argument("--json", type=Path, default=None, help="file for the counts")
    given = flags.parse_args()
    verbs = tuple(given.verbs.split(",")) if given.verbs else tuple(SHARES)
    verbs = tuple(verb for verb in verbs if verb in {*VERBS, "compile"})
    with tempfile.TemporaryDirectory(prefix="hostile-", ignore_cleanup_errors=True) as folder:
        return _run(given, verbs, Path(folder))


def _run(given: argparse.Namespace, verbs: tuple[str, ...], work: Path) -> int:
    start = time.monotonic()
    made = cases(given.count, given.seed, verbs)
    drawn_s = time.monotonic() - start
    seeds = harness.prepare(work, given.seeds)
    print(
        f"{len(made):,} inputs drawn in {drawn_s:.0f} s; seeds and imports {time.monotonic() - start - drawn_s:.0f} s",
        file=sys.stderr,
    )
    start, results = time.monotonic(), []
    for result in harness.run_cases(made, seeds, work, workers=given.workers):
        results.append(result)
        if len(results) % 500 == 0:
            failed = sum(1 for r in results if r.failure)
            print(
                f"{len(results):,} done, {failed} failed, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True
            )
    found = summary.to_json(results, time.monotonic() - start)
    print("\n".join(found["text"]).encode("utf-8", "backslashreplace").decode())
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if given.keep is not None:
        _keep(results, seeds, work, given.keep)
    return 1 if found["failures"] else 0


def _keep(results: list[harness.Result], seeds: Path, work: Path, folder: Path) -> None:
    """The smallest case of each cause, its seeds copied beside it: what it says runs again."""
    for number, (cause, group) in enumerate(summary.by_cause(results).items()):
        first = min(group, key=lambda r: len(r.case.edits) + len(r.case.flags))
        name = re.sub(r"[^\w.-]+", "-", cause)[:80]
        harness.keep(first, harness.smallest(first, seeds, work), seeds, folder / f"{number:03d}-{name}" / "case")


if __name__ == "__main__":
    sys.exit(main())
