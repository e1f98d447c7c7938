"""`compile bench`: flags, the table on the terminal, the exit code of a file that is too slow."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

if TYPE_CHECKING:
    from compiler.report.benchmark import Benchmark


def bench_command(
    paths: Annotated[list[Path], typer.Argument(help="ONNX files and run directories")],
    baseline: Annotated[Path | None, typer.Option(help="ONNX file of every ratio (the first; of a run, dense)")] = None,
    target: Annotated[str, typer.Option(help="device of the catalogue")] = "cpu",
    runtime: Annotated[str, typer.Option(help="onnxruntime or tensorrt")] = "onnxruntime",
    batch: Annotated[int | None, typer.Option(help="sequences a call (the files', the run's, or 1)")] = None,
    seq_len: Annotated[int | None, typer.Option(help="tokens a sequence (the files', the run's, or 128)")] = None,
    threads: Annotated[int | None, typer.Option(help="threads (the run's, or 1)")] = None,
    seconds: Annotated[float, typer.Option(help="time to spend")] = 30.0,
    fail_if_slower: Annotated[
        str | None, typer.Option(help="exit 5 where a file surely takes that much more time, like 3%")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="folder for bench.json, bench.md and bench.html")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """Time ONNX files against each other: percentiles, throughput, speed-up with its interval, share of the peak."""
    from compiler.cli.console import progress
    from compiler.cli.outputs import check_benchmark
    from compiler.pipeline.bench import BenchOptions, bench, check_speed
    from compiler.report.benchmark import write_benchmark
    from compiler.store.store import check_writable
    from targets import quantities

    options = BenchOptions(
        paths=tuple(paths), baseline=baseline, target=target, runtime=runtime, batch=batch, seq_len=seq_len,
        threads=threads, seconds=seconds,
        fail_if_slower=None if fail_if_slower is None else quantities.share(fail_if_slower, "--fail-if-slower"),
    )  # fmt: skip
    if output is not None:
        check_benchmark(output, paths)
        check_writable(output, "--output")
    with progress(quiet=False) as monitor:
        found = bench(options, monitor)
    if output is not None:
        write_benchmark(found, output)
    if as_json:
        print(json.dumps(found))  # noqa: T201  this is the answer
    else:
        _show(found, output)
    check_speed(found)


def _show(found: "Benchmark", output: Path | None) -> None:
    from compiler.cli.console import answer_console
    from compiler.report.benchmark import asked, summary

    console = answer_console()
    console.print(bench_table(found))
    lines = [summary(found), asked(found), *found["notes"]]
    if output is not None:
        lines.append(f"report: {output / 'bench.html'}   data: {output / 'bench.json'}")
    console.print("\n".join(lines), soft_wrap=True)


def bench_table(found: "Benchmark") -> Table:
    """One row a file, the baseline first."""
    from compiler.report.benchmark import COLUMNS, row

    table = Table()
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in {"file", "verdict"} else "right")
    for file in found["files"]:
        table.add_row(*row(found, file))
    return table
