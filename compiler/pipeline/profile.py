"""`compile profile`: a cost table of a model on a device, with its published error."""

from pathlib import Path
from tempfile import TemporaryDirectory

from compiler.export import ModelWorkbench
from compiler.families import load_checkpoint
from compiler.families.embedded import embedded_model
from compiler.pipeline.costs import find_device, find_table
from compiler.pipeline.graphs import find_template
from compiler.pipeline.monitor import Monitor
from compiler.pipeline.options import Options
from compiler.pipeline.subject import check_length
from compiler.store import Store, default_root
from profilers import CostTable


def profile(
    target: str,
    *,
    model: str | None,
    batch: int,
    tokens: int,
    threads: int,
    runtime: str | None,
    seed: int,
    monitor: Monitor,
) -> CostTable:
    """Measure a table now: nothing of earlier measurements is used. TargetError where the device is not here."""
    options = Options(
        model=model or "", target=target, batch=batch, seq_len=tokens, threads=threads, runtime=runtime, seed=seed,
        accept_noisy_table=True,
    )  # fmt: skip
    device = find_device(options)
    monitor.stage("load")
    checkpoint = load_checkpoint(model or str(embedded_model()), task="embedding")
    check_length(checkpoint, tokens)
    monitor.stage("export dense graph")
    bench = ModelWorkbench(checkpoint, find_template(checkpoint, Store(default_root())))
    monitor.stage("profile")
    with TemporaryDirectory() as folder:
        table, _ = find_table(options, device, bench, Store(Path(folder)), monitor.progress)
    return table
