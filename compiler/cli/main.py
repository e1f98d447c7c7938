"""The console script: verbs, flags, exit codes.

0 done; 1 an entry of a fleet failed; 2 bad input or usage; 3 the target is not what was asked for; 4 no candidate meets the
budget; 5 verification failed; 70 an error of the program itself, whose trace is kept in a file; 130 interrupted (SIGINT), 143
ended (SIGTERM), 141 nobody reads the answer any more (SIGPIPE).
"""

import errno
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from compiler.cli.bench import bench_command
from compiler.cli.cache import cache_command
from compiler.cli.crash import report_crash
from compiler.cli.data import data_command
from compiler.cli.diff import diff_command
from compiler.cli.doctor import doctor_command
from compiler.cli.fleet import fleet_command
from compiler.cli.help import TASKS_HELP
from compiler.cli.signals import Stopped, exit_code, message, stopping
from compiler.cli.streams import flush_answer, is_pipe_broken, leave_pipe, prepare_streams
from compiler.cli.targets import run_targets
from compiler.cli.verify import verify_command
from compiler.cli.worker import worker_command
from targets.bounds import check_text
from targets.errors import InputError, ParetocError, printable, reason

VERBS = ("profile", "targets", "cache", "report", "bench", "verify", "diff", "data", "doctor", "worker", "fleet")
ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "MKL_CBWR": "AUTO",
    "MKL_DYNAMIC": "FALSE",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "2048",
}
"""Read when torch is loaded: the same products bit for bit in every process, so that a resumed run ends the same; and room
for code for all shapes of product that training meets (`compiler/slicing/few_shapes.py`), a quarter of a megabyte each."""

_FORBIDDEN = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENAMETOOLONG,
    errno.ENOTDIR, errno.ELOOP, errno.EMFILE, errno.ENFILE,
}  # fmt: skip
"""What the system says of a disk, a folder or a limit, and not of this program."""

_USAGE_ERROR: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""typer brings its own copy of click and exports only the leaves of its exceptions."""

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Measure, search, cut and export the sub-networks of a pre-trained transformer that trade error against cost best.",
    epilog="Exit codes: 0 done, 1 an entry of a fleet failed, 2 bad input or usage, 3 target not here, 4 nothing meets the budget, 5 verification failed, "
    "70 an error of the program (its trace is kept in a file), 130 interrupted, 141 nobody reads the answer, 143 ended.",
)


def _split(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


@app.command("compile", help="Compile MODEL (a folder or hub name). The verb may be left out: compile MODEL …")
def compile_command(
    model: Annotated[str | None, typer.Argument(help="model folder or hub name")] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="device of the catalogue, NAME[:PRECISION] (cpu); several: out/NAME/ for each"),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32,int8: searched together with the structure (wins over the target's suffix)")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="CSV, TSV, JSON lines, Parquet or text file, folder, or hub name")
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="the embedded default: MiniLM on this CPU")] = False,
    out: Annotated[Path, typer.Option(help="run directory: an empty folder, or one of an earlier run")] = Path("out"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="write into a folder of other files, over those of the same names")
    ] = False,
    task: Annotated[str, typer.Option(help=TASKS_HELP)] = "auto",
    text_columns: Annotated[str | None, typer.Option(help="one or two columns, A,B")] = None,
    label_column: Annotated[
        str | None, typer.Option(help="the column with labels or scores, or several of 0 and 1: A,B,C")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="names of the data's labels in the model: data=model,…")] = None,
    encoding: Annotated[str | None, typer.Option(help="encoding of text files (UTF-8)")] = None,
    header: Annotated[
        bool | None, typer.Option("--header/--no-header", help="whether CSV and TSV name their columns")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="accuracy, f1, matthews, spearman, pearson, mean_cosine, …")
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(
            help="embedding models: mean, cls, max, mean_sqrt_len_tokens, weightedmean, lasttoken, or several: cls+mean"
        ),
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="embedding models: text put before every input")] = None,
    embedding_dim: Annotated[
        str | None, typer.Option(help="embedding models: quality of vectors cut to so many dimensions, 256,128")
    ] = None,
    effort: Annotated[
        str,
        typer.Option(help="fast: no training; balanced: + fine-tuning where needed, polish; thorough: super-network"),
    ] = "auto",
    space: Annotated[str, typer.Option(help="small, medium, layer, sublayer, large or width")] = "medium",
    search: Annotated[
        str,
        typer.Option(
            help="auto (exact where nothing but winners is trained, else nsga2), exact, gates, random, local, nsga2, nsga3 (many objectives), mo-rea, "
            "bandit, surrogate, ehvi, rs-bo, ls-bo or mo-asha (trains every sub-network on its own)"
        ),
    ] = "auto",
    strategy: Annotated[str, typer.Option(help="super-network training: full, sandwich, kd, random, …")] = "full",
    sampling: Annotated[
        str, typer.Option(help="of random sub-networks: stratified by cost, or uniform as in the paper")
    ] = "stratified",
    order: Annotated[
        str, typer.Option(help="which heads and units a count keeps: by importance, or the first by index")
    ] = "importance",
    temperature: Annotated[float, typer.Option(help="of distillation while the super-network trains")] = 10.0,
    random_subnets: Annotated[int, typer.Option(help="sub-networks drawn in each sandwich step")] = 2,
    objectives: Annotated[
        str, typer.Option(help="latency, params, memory, energy, throughput (error is always one)")
    ] = "latency",
    max_latency: Annotated[str | None, typer.Option(help="budget, like 2ms")] = None,
    min_speedup: Annotated[str | None, typer.Option(help="budget, like 2x")] = None,
    max_memory: Annotated[str | None, typer.Option(help="budget on the serving process, like 300MB")] = None,
    max_drop: Annotated[str | None, typer.Option(help="budget on the metric, relative to dense, like 1%")] = None,
    max_flips: Annotated[
        str | None, typer.Option(help="budget on answers that are others than the dense model's, like 1%")
    ] = None,
    max_class_drop: Annotated[
        str | None, typer.Option(help="budget on what any class loses of its answers that are right, like 3%")
    ] = None,
    batch: Annotated[int, typer.Option(help="sequences a call")] = 1,
    seq_len: Annotated[int, typer.Option(help="tokens a sequence")] = 128,
    threads: Annotated[int, typer.Option(help="threads it will be served with")] = 1,
    runtime: Annotated[str | None, typer.Option(help="onnxruntime, torch or null (no clock)")] = None,
    opset: Annotated[
        int, typer.Option(help="ONNX operator set of the graphs, 17 to 23; older runtimes need an older one")
    ] = 23,
    traffic: Annotated[
        str | None, typer.Option(help="lengths really asked, instead of --seq-len: a JSON file, or the word data")
    ] = None,
    percentile: Annotated[str, typer.Option(help="what a latency budget is held against: p50, p90, p99")] = "p50",
    table: Annotated[
        list[Path] | None, typer.Option(help="cost table measured elsewhere; of several targets, one for each")
    ] = None,
    profile_: Annotated[
        str, typer.Option("--profile", help="auto: carry a near cost table over where its error allows; full: never")
    ] = "auto",
    accept_modelled: Annotated[bool, typer.Option("--accept-modelled", help="accept a datasheet estimate")] = False,
    accept_noisy_table: Annotated[
        bool, typer.Option("--accept-noisy-table", help="accept a table above its bound")
    ] = False,
    evaluations: Annotated[int | None, typer.Option(help="sub-networks to evaluate")] = None,
    epochs: Annotated[float | None, typer.Option(help="epochs of training")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="highest learning rate of training (5e-5; polish has its own)")
    ] = None,
    train_batch_size: Annotated[
        int | None, typer.Option(help="examples in a batch of training, all GPUs together (32)")
    ] = None,
    accumulation: Annotated[int | None, typer.Option(help="batches that a step of training adds up (1)")] = None,
    winners: Annotated[int, typer.Option(help="sub-networks to export")] = 8,
    seed: Annotated[int, typer.Option(help="of everything that is drawn")] = 0,
    device: Annotated[
        str,
        typer.Option(help="what ranks, re-solves, judges and trains: auto (a GPU that has room), cpu, cuda, cuda:1"),
    ] = "auto",
    ray: Annotated[
        str | None,
        typer.Option(help="do the work on a Ray cluster: auto, local or HOST:PORT (pip install paretoc[ray])"),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="use and keep nothing of earlier runs")] = False,
    cache: Annotated[
        str | None,
        typer.Option(help="where results are kept: a folder, or s3://BUCKET/FOLDER or gs://… for many machines"),
    ] = None,
    cache_size: Annotated[
        str | None,
        typer.Option(
            "--cache-size",
            "--cache-limit",
            help="largest size of the cache, like 50GB (20GB, of a folder a tenth of the disk)",
        ),
    ] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="run a checkpoint's own code")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
) -> None:
    """Read the flags and run."""
    from compiler.pipeline import Budgets, Options
    from compiler.supernet import follow, follows
    from targets import quantities

    if model is None and not demo:
        raise InputError("no model: give a folder or hub name\nor try the built-in example: compile --demo")
    if model is not None and demo:
        raise InputError(f"--demo compiles its own model; leave out {model!r} or --demo")
    targets, tables = target or ["cpu"], table or []
    budgets = Budgets(
        max_latency_s=None if max_latency is None else quantities.seconds(max_latency, "--max-latency"),
        min_speedup=None if min_speedup is None else quantities.ratio(min_speedup, "--min-speedup"),
        max_memory_bytes=None if max_memory is None else quantities.size_bytes(max_memory, "--max-memory"),
        max_drop=None if max_drop is None else quantities.share(max_drop, "--max-drop"),
        max_flips=None if max_flips is None else quantities.share(max_flips, "--max-flips"),
        max_class_drop=None if max_class_drop is None else quantities.share(max_class_drop, "--max-class-drop"),
    )
    options = Options(
        model=model or "", target=targets[0], precisions=_split(precision), data=data, demo=demo, out=out, task=task,
        text_columns=_split(text_columns), label_column=label_column, labels=_split(labels), encoding=encoding, header=header,
        metric=metric, pooling=pooling, prompt=prompt, embedding_dim=() if embedding_dim is None else quantities.whole_numbers(embedding_dim, "--embedding-dim"), effort=effort, space=space, search=search, strategy=strategy,
        sampling=sampling, order=order, temperature=temperature, random_subnets=random_subnets,
        objectives=_split(objectives) or (), budgets=budgets, batch=batch, seq_len=seq_len, threads=threads,
        runtime=runtime, opset=opset, percentile=percentile, traffic=traffic, accept_modelled=accept_modelled,
        profile=profile_, accept_noisy_table=accept_noisy_table, evaluations=evaluations, epochs=epochs, learning_rate=learning_rate,
        train_batch_size=train_batch_size, accumulation=accumulation, winners=winners, seed=seed, device=device, ray=ray, fresh=fresh, cache=cache, overwrite=overwrite,
        cache_bytes=None if cache_size is None else quantities.size_bytes(cache_size, "--cache-size"),
        trust_remote_code=trust_remote_code,
    )  # fmt: skip
    if follows():
        follow()
    elif len(targets) > 1:
        run_targets(options, targets, tables, as_json=as_json, quiet=quiet)
    elif len(tables) > 1:
        raise InputError(f"--table is given {len(tables)} times for one target\ngive one table a target at most")
    else:
        _run(replace(options, table=tables[0] if tables else None), as_json=as_json, quiet=quiet)


def _run(options: Any, *, as_json: bool, quiet: bool) -> None:
    from compiler.cli.console import answer_console, chosen_as, progress, result_table
    from compiler.pipeline import compile_model
    from compiler.report.manifest import FILE as MANIFEST
    from compiler.report.manifest import read_with_digest
    from compiler.report.schema import plain

    with progress(quiet=quiet) as monitor:
        front = compile_model(options, monitor)
    if as_json:
        print(json.dumps(plain(front)))  # noqa: T201  this is the answer
        return
    console = answer_console()
    console.print(result_table(front))
    out = options.out
    best = next(c for c in (front["dense"], *front["candidates"]) if c["id"] == front["best"])
    console.print(
        f"* {chosen_as(front)}: {out / best['artifact']['path']}\nreport: {out / 'report.html'}   data: {out / 'front.json'}",
        soft_wrap=True,
    )  # fmt: skip
    for note in front["notes"] if quiet else ():  # elsewhere stderr has each where it arose
        console.print(note, soft_wrap=True)
    console.print(f"{MANIFEST}: sha256 {read_with_digest(out)[1]}", soft_wrap=True)


@app.command("profile")
def profile_command(
    target: Annotated[str, typer.Option(help="device of the catalogue")] = "cpu",
    model: Annotated[str | None, typer.Option(help="model folder or hub name (the demo's MiniLM if left out)")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="table to write")] = Path("table.json"),
    batch: Annotated[str, typer.Option(help="sequences a call, one number or several: 1,8")] = "1",
    seq_len: Annotated[str, typer.Option(help="tokens a sequence, one number or several: 32,128")] = "128",
    threads: Annotated[str, typer.Option(help="threads, one number or several: 1,2")] = "1",
    precision: Annotated[
        str | None, typer.Option(help="fp32,int8 (wins over the target's suffix); fp32 always comes with it")
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(help="onnxruntime, torch or null (no clock: poses as the target)")
    ] = None,
    opset: Annotated[int, typer.Option(help="ONNX operator set of the graphs, 17 to 23")] = 23,
    check_nets: Annotated[int, typer.Option(help="networks the table never sees, to take its error on")] = 20,
    seed: Annotated[int, typer.Option(help="of the check networks and the order")] = 0,
    base: Annotated[
        Path | None, typer.Option("--from", help="table of another device or workload to carry over to this one")
    ] = None,
    samples: Annotated[int | None, typer.Option(help="networks to measure for --from (10 if left out)")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the table as one JSON object on stdout, too")] = False,
) -> None:
    """Measure a cost table here, or carry one over from a few networks, and publish its error.

    Of several batches, lengths, thread counts and precisions every combination is profiled, into one table.
    """
    from compiler.cli.console import error_console, progress
    from compiler.cli.outputs import check_table
    from compiler.pipeline.profile import ProfileOptions, profile
    from compiler.store.disk import replaced
    from targets import quantities

    options = ProfileOptions(
        target=target, model=model, batches=quantities.whole_numbers(batch, "--batch"),
        lengths=quantities.whole_numbers(seq_len, "--seq-len"), threads=quantities.whole_numbers(threads, "--threads"),
        precisions=_split(precision), runtime=runtime, opset=opset, check_nets=check_nets, seed=seed, base=base, samples=samples,
    )  # fmt: skip
    check_table(output, base, model)
    console = error_console()
    with progress(quiet=False) as monitor:
        found = profile(options, monitor)
    table = found.table
    with replaced(output) as new:
        table.write(new)
    lines = [_error_line(part) for part in found.parts]
    modelled = {row["from"]["source"] for row in table.how.get("transfers", ())} & {"null", "roofline"}
    times = f", whose times are modelled ({', '.join(modelled)})," if modelled else ""
    lines += [
        f"{workload}: carried over from {base}{times} by {transfer.samples} networks: off by {transfer.rmse:.1%} "
        f"(root mean square), {base} times one constant by {transfer.scaled_rmse:.1%}"
        for workload, transfer in found.transfers.items()
    ]
    lines += [f"warning: {warning}" for warning in _warnings(table)]
    lines.append(f"{output}: {len(table.entries)} entries in {table.seconds:.0f} s")
    console.print("\n".join(lines), soft_wrap=True)
    if as_json:
        print(json.dumps(table.to_json()))  # noqa: T201  this is the answer


def _error_line(part: Any) -> str:
    """How long the table of one workload took, and how far off it is."""
    ((workload, error),) = part.errors.items()
    measured = "".join(
        f" from {row['networks']} networks, {part.at_bends} sizes placed where the curve bends,"
        for row in part.how.get("measured", ())
    )
    return (
        f"{workload}: {len(part.entries)} entries{measured} in {part.seconds:.0f} s; on {error.check_nets} unseen networks off by "
        f"{error.mape:.1%} on average, {error.p95:.1%} at p95, {error.max:.1%} at most, rank correlation "
        f"{error.spearman:.3f} (linear fit on operations: {error.control_mape:.1%})"
    )


def _warnings(table: Any) -> list[str]:
    """What there is to know before a table is used."""
    from compiler.pipeline.measuring import too_noisy

    found = list(table.how.get("warnings", ()))
    if too_large := table.how.get("too_large"):
        count = f"{len(too_large)} network{'' if len(too_large) == 1 else 's'}"
        found.append(f"{count} did not fit into the device's memory; the table says which")
    if noisy := too_noisy(table):
        found.append(f"{noisy}: runs refuse it\nprofile again when the machine is quiet")
    return found


@app.command("targets")
def targets_command(
    name: Annotated[str | None, typer.Argument(help="one target in full")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """List the catalogue: what is on this machine, which measured tables ship."""
    from compiler.cli.catalogue import describe, facts, overview, tables_of
    from compiler.cli.console import answer_console
    from targets import Target, present, survey

    target = None if name is None else Target.parse(name)
    if as_json:
        rows = [(row.target, row.presence) for row in survey()] if target is None else [(target, present(target))]
        print(json.dumps({"targets": [facts(*row) for row in rows]}))  # noqa: T201
        return
    console = answer_console()
    if target is None:
        console.print(overview())
        return
    console.print(describe(target))
    if (tables := tables_of(target)).row_count:
        console.print(tables)


@app.command("report")
def report_command(
    folder: Annotated[Path, typer.Argument(help="run directory")],
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """Rebuild report.html from a run's data; of several targets, the page that compares them."""
    from compiler.report.comparison import FILE, rewrite_comparison
    from compiler.report.html import write_report
    from compiler.report.manifest import refresh
    from targets.json_file import is_there

    rebuild = rewrite_comparison if is_there(folder / FILE) else write_report
    report = rebuild(folder)
    if rebuild is write_report:
        refresh(folder, [report.name])
    print(json.dumps({"report": str(report)}) if as_json else printable(str(report)))  # noqa: T201


app.command("cache")(cache_command)
app.command("bench")(bench_command)
app.command("verify")(verify_command)
app.command("diff")(diff_command)
app.command("data")(data_command)
app.command("doctor")(doctor_command)
app.command("worker")(worker_command)
app.command("fleet")(fleet_command)


def _with_verb(arguments: Sequence[str]) -> list[str]:
    """`compile MODEL …` is `compile compile MODEL …`: a first word that is a verb is the verb."""
    first = arguments[0] if arguments else "--help"
    if first in {*VERBS, "compile", "--help", "-h"}:
        return list(arguments) or ["--help"]
    return ["compile", *arguments]


def _complain(error: ParetocError) -> int:
    print(f"error: {error}", file=sys.stderr)  # noqa: T201
    return error.exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; whatever goes wrong is at most three lines, never a traceback."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    prepare_streams()
    try:
        return flush_answer(_run_guarded(sys.argv[1:] if arguments is None else arguments))
    except OSError as error:  # a full disk behind stdout
        return _complain(InputError(f"the answer cannot be written to stdout: {reason(error)}"))


def _run_guarded(arguments: Sequence[str]) -> int:
    """Run a verb; every error has become its lines on stderr."""
    try:
        _check_words(arguments)
        with stopping():
            result = app(_with_verb(arguments), standalone_mode=False, prog_name="compile")
    except ParetocError as error:
        return _complain(error)
    except Stopped as stop:
        print(message(stop.number), file=sys.stderr)  # noqa: T201
        return exit_code(stop.number)
    except (KeyboardInterrupt, typer.Abort):
        print(message(signal.SIGINT), file=sys.stderr)  # noqa: T201
        return exit_code(signal.SIGINT)
    except _USAGE_ERROR as error:
        return _complain(InputError(f"{error.format_message()}\nsee: compile --help"))
    except BaseException as error:  # noqa: BLE001  panics of Rust libraries are no Exceptions
        return leave_pipe() if is_pipe_broken() else _stop(error)
    return result if isinstance(result, int) else 0


_MAY_BE_EMPTY = {"--prompt"}
"""A model's own prompt is switched off by an empty one. An empty name of a file would be the folder one is in."""


def _check_words(words: Sequence[str]) -> None:
    """InputError for a word that no file name can be, and for an empty one."""
    for before, word in zip(("", *words), words, strict=False):
        check_text("an argument", word, most=100_000)
        flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if not word:
            flag = before
        if not value and (equals or not word) and flag not in _MAY_BE_EMPTY:
            raise InputError(
                f"{flag if flag.startswith('-') else 'an argument'} '' is empty\nleave it out, or name something"
            )


def _stop(error: BaseException) -> int:
    """What a handler of signals raised says its code itself; what the system forbids is the user's; the rest was not foreseen."""
    if isinstance(error, SystemExit):
        if isinstance(error.__context__, BrokenPipeError):  # typer takes one of a process of ours for one of a stream
            return report_crash(error.__context__)
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, OSError) and error.errno in _FORBIDDEN:
        where = "" if error.filename is None else f"{error.filename}: "
        return _complain(InputError(f"{where}{error.strerror}\nmake room or take another folder, and start again"))
    return report_crash(error)
