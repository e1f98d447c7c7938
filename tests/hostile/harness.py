"""All cases over a few workers: seeds, warm imports, forks, and the results."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.hostile.cases import Case
from tests.hostile.hooks import rehearse, warm
from tests.hostile.oracle import failure
from tests.hostile.worker import Outcome, Slot, freeze

ROOT = Path(__file__).parents[2]
MODULES = "modules"
LIMIT_S, WHOLE_LIMIT_S = 20.0, 120.0
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "COLUMNS": "140",
    "PYTHONWARNINGS": "ignore", "ARROW_DEFAULT_MEMORY_POOL": "system",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A case, its outcome and, where that is wrong, what is wrong with it."""

    number: int
    case: Case
    outcome: Outcome
    failure: str | None

    @property
    def kind(self) -> str:
        """What came of it, for counting."""
        if self.failure:
            return "FAILED"
        if self.outcome.reached:
            return "reached the pipeline"
        if self.outcome.code == 0:
            return "answered"
        names = {2: "read" if self.outcome.reading else "refused", 3: "target", 4: "budget", 5: "verification"}
        return f"{self.outcome.code} {names[self.outcome.code or 0]}"

    @property
    def past_parsing(self) -> bool:
        """Whether its bytes and flags were read: it was answered, reached the pipeline, or was refused for what it means."""
        return not self.failure and (self.outcome.code == 0 or self.outcome.reached or not self.outcome.reading)


def prepare(work: Path, seeds: Path | None = None) -> Path:
    """The valid inputs, made unless they are there; and all that valid runs import, imported here."""
    os.environ |= ENVIRONMENT
    os.environ["HF_HOME"] = str(work / "hub")
    seeds = seeds or work / "seeds"
    make_seeds_apart(seeds)
    warm(seeds / MODULES)
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        rehearse(seeds, Path(folder))
    return seeds


def make_seeds_apart(seeds: Path) -> None:
    """Make them in a process of its own, as one that has run threads must not be forked, and note what it had imported."""
    if (seeds / MODULES).is_file():
        return
    code = (
        "import sys; from pathlib import Path; from tests.hostile.seeds import make_seeds; make_seeds(Path(sys.argv[1])); "
        "Path(sys.argv[1], sys.argv[2]).write_text('\\n'.join(sorted(n for n in sys.modules if n.split('.')[0] != '__main__')))"
    )
    seeds.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **ENVIRONMENT, "PARETOC_CACHE": str(seeds / "cache")}
    command = [sys.executable, "-c", code, str(seeds), MODULES]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the seeds cannot be made:\n{done.stderr[-3000:]}")


def run_cases(cases: Sequence[Case], seeds: Path, work: Path, *, workers: int, first: int = 0) -> Iterator[Result]:
    """Results as workers end; the number of a case is its place."""
    base = freeze()
    slots = [Slot(work / f"slot{i}-{first}", seeds) for i in range(workers)]
    waiting = list(enumerate(cases, start=first))[::-1]
    busy: dict[int, tuple[int, Slot]] = {}
    while waiting or busy:
        for i, slot in enumerate(slots):
            if i not in busy and waiting:
                number, case = waiting.pop()
                slot.start(case, WHOLE_LIMIT_S if case.whole else LIMIT_S)
                busy[i] = (number, slot)
        for i, (number, slot) in list(busy.items()):
            outcome = slot.poll(base)
            if outcome is not None:
                del busy[i]
                assert slot.case is not None
                yield Result(number=number, case=slot.case, outcome=outcome, failure=failure(slot.case, outcome))
        time.sleep(0.002)
    for slot in slots:
        shutil.rmtree(slot.folder, ignore_errors=True)


def smallest(result: Result, seeds: Path, work: Path) -> Case:
    """The case without every edit, flag and variable that it fails alike without."""
    case = result.case
    for name in ("edits", "flags", "environment"):
        for part in getattr(case, name):
            fewer = replace(case, **{name: tuple(p for p in getattr(case, name) if p is not part)})
            (again,) = run_cases([fewer], seeds, work, workers=1, first=10**6)
            case = fewer if again.failure == result.failure else case
    return case


def keep(result: Result, case: Case, seeds: Path, folder: Path) -> None:
    """The input, its command line and what came of it, below a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "canary").mkdir()
    arguments = case.prepare(seeds, folder)
    (folder / "command.json").write_text(json.dumps(arguments), encoding="utf-8")
    (folder / "case.txt").write_text(repr(case), encoding="utf-8", errors="backslashreplace")
    shown = f"{result.failure}\n\n{result.outcome.err[-4000:]}\n{result.outcome.trace[-4000:]}"
    (folder / "outcome.txt").write_text(shown, encoding="utf-8", errors="backslashreplace")
