"""Cases by hypothesis: for each verb, what may be damaged, how, and the flags that are tried beside it."""

import contextlib
from collections.abc import Mapping
from typing import Any
from unittest import mock

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import providers

from tests.hostile.cases import Case, surrogates
from tests.hostile.edits import BYTE_EDITS, JSON_EDITS, KIND_EDITS, Edit
from tests.hostile.tables import CHANGES, FORMATS, LABELS, DataPlan
from tests.hostile.tensors import ONNX, SAFETENSORS
from tests.hostile.values import TEXTS, scalars, values

at = st.integers(0, 5000)

# --- what lies in a folder, by how often it is damaged
MODEL_JSON = (
    "config.json", "config.json", "tokenizer.json", "tokenizer_config.json", "modules.json", "1_Pooling/config.json",
    "sentence_bert_config.json", "config_sentence_transformers.json",
)  # fmt: skip
MODEL_FILES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "encoder": (MODEL_JSON, ("model.safetensors",)),
    "classifier": (MODEL_JSON[:4], ("model.safetensors",)),
    "sharded": (("model.safetensors.index.json", "config.json"), ("model-00001-of-00002.safetensors",)),
    "compiled": (("subnet.json", "subnet.json", "config.json", "tokenizer_config.json"), ("model.safetensors",)),
}
NET_FILES = (
    "config.json", "subnet.json", "subnet.json", "modeling_subnet.py", "serving/http/server.py", "model.onnx", "model.safetensors",
    "tokenizer.json", "tokenizer_config.json", "README.md",
)  # fmt: skip
RUN_JSON = ("front.json", "front.json", "front.json", "run.json", "manifest.json")


def _edit(kinds: tuple[str, ...], files: tuple[str, ...]) -> st.SearchStrategy[Edit]:
    return st.builds(Edit, st.sampled_from(kinds), st.sampled_from(files), at, values)


def _json_or_bytes(files: tuple[str, ...]) -> st.SearchStrategy[Edit]:
    """Mostly changes after which the file still parses."""
    gentle = ("json-set", "json-scale", "json-drop", "json-swap", "json-rename", "json-scale", "json-set")
    return st.one_of(
        *[_edit(gentle, files)] * 5, _edit(JSON_EDITS, files), _edit(BYTE_EDITS, files), _edit(KIND_EDITS, files)
    )


def _some(edit: st.SearchStrategy[Edit], most: int = 3) -> st.SearchStrategy[tuple[Edit, ...]]:
    return st.lists(edit, min_size=1, max_size=most).map(tuple)


# --- flags
number = st.one_of(
    st.sampled_from(("-1", "0", "1", "2", "3", "8", "1e30", "1e400", "nan", "inf", "-0", "0x10", "1_0", "٣", " 4", "", "1.5", "9" * 30, "9" * 5000)),
    st.integers(-(2**65), 2**65).map(str), st.integers(1, 4).map(str),
)  # fmt: skip
quantity = st.one_of(
    st.sampled_from(("2ms", "1us", "0.5s", "1e3ms", "300MB", "1.5GiB", "2x", "1.1", "1%", "0.5%", "0", "-1%", "1..2ms", "1e-400s", "1.MB", "٣ms")),
    number,
)  # fmt: skip
word = st.one_of(st.sampled_from(TEXTS), st.text(max_size=20)).map(surrogates)
path = st.one_of(
    st.sampled_from((
        "<in>/none", "<in>", "<seeds>/data.txt", "<seeds>/encoder", "<in>/run[/x]", "<in>/run[v2]", "<in>/a\nb", "<in>/\x1b[31m",
        "/dev/zero", "/dev/null", "/proc/self/mem", "/proc/x", "", ".", "..", "~nobody/x", "<in>/" + "n" * 300, "<in>/a/b/c", "<in>/\udcff",
        "<in>/é", "<seeds>/table.json", "<seeds>/traffic.json", "<seeds>/targets/null", "<seeds>/targets/null/front.json",
    )),
    word,
)  # fmt: skip


def _enum(*known: str) -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from(known), st.sampled_from(known), word)


COMPILE_FLAGS: Mapping[str, st.SearchStrategy[str]] = {
    **dict.fromkeys(
        ("--batch", "--seq-len", "--threads", "--evaluations", "--epochs", "--learning-rate", "--train-batch-size", "--accumulation",
         "--winners", "--seed", "--opset", "--temperature", "--random-subnets"), number,
    ),
    **dict.fromkeys(("--max-latency", "--min-speedup", "--max-memory", "--max-drop"), quantity),
    "--task": _enum("auto", "classification", "regression", "embedding"),
    "--text-columns": _enum("text", "text,label", "sentence1,sentence2", ",", "text,text"),
    "--label-column": _enum("label", "text", "score"),
    "--encoding": _enum("utf-8", "latin-1", "utf-16", "punycode", "idna", "rot13", "zlib", "undefined", "utf-8-sig", "base64"),
    "--metric": _enum("accuracy", "f1", "matthews", "spearman", "pearson", "mean_cosine"),
    "--pooling": _enum("mean", "cls", "max", "mean_sqrt_len_tokens"),
    "--prompt": word,
    "--effort": _enum("auto", "fast", "balanced", "thorough"),
    "--space": _enum("small", "medium", "layer", "sublayer", "large", "width"),
    "--search": _enum("auto", "exact", "gates", "random", "local", "nsga2", "mo-asha"),
    "--strategy": _enum("full", "sandwich", "kd", "random"),
    "--sampling": _enum("stratified", "uniform"),
    "--order": _enum("importance", "index"),
    "--profile": _enum("auto", "full", "none"),
    "--ray": _enum(
        "here", "h:99999", ":", "127.0.0.1:1", "[::1]:1", "127.0.0.1:0", "a..b:1", "x:²", "x:٣", f"{'a' * 300}:1", f"x:{'9' * 5000}", "ray://h:1",
        " h:1", "auto",
    ),
    "--objectives": _enum("latency", "params", "latency,memory", "latency,latency", ",", "energy"),
    "--percentile": _enum("p50", "p90", "p99"),
    "--precision": _enum("fp32", "fp32,int8", "int8", "fp32,fp32", ",", "fp7"),
    "--runtime": _enum("null", "onnxruntime", "torch", "tensorrt"),
    "--target": _enum("null", "cpu", "a10g", "null:int8", "cpu:fp7", "a10g:", ":"),
    "--traffic": path,
    "--table": path,
    "--out": path,
    "--cache": path,
    "--data": path,
}  # fmt: skip
SWITCHES = (
    "--fresh",
    "--json",
    "--accept-modelled",
    "--accept-noisy-table",
    "--header",
    "--no-header",
    "--demo",
    "--trust-remote-code",
    "--bogus",
)
FLAGS: Mapping[str, tuple[Mapping[str, st.SearchStrategy[str]], tuple[str, ...]]] = {
    "compile": (COMPILE_FLAGS, SWITCHES),
    "profile": (
        {
            "--batch": _enum("1", "1,8", "8,8", "0", ","), "--seq-len": _enum("8", "8,16", "99", "1e9"), "--threads": _enum("1", "1,2", "9999999"),
            "--precision": COMPILE_FLAGS["--precision"], "--runtime": COMPILE_FLAGS["--runtime"], "--target": COMPILE_FLAGS["--target"],
            "--opset": number, "--check-nets": number, "--seed": number, "--samples": number, "--from": path, "--model": path, "-o": path,
        },
        ("--json", "--bogus"),
    ),
    "data": ({name: COMPILE_FLAGS[name] for name in ("--task", "--text-columns", "--label-column", "--encoding")}, ("--json", "--header", "--no-header")),
    "verify": ({}, ("--no-timing", "--json", "--timing", "--bogus")),
    "report": ({}, ("--json", "--bogus")),
    "diff": ({"--fail-if-slower": quantity, "--fail-if-worse": quantity}, ("--json",)),
    "bench": (
        {
            "--baseline": path, "--target": COMPILE_FLAGS["--target"], "--runtime": COMPILE_FLAGS["--runtime"], "--batch": number,
            "--seq-len": number, "--threads": number, "--seconds": number, "--fail-if-slower": quantity, "-o": path,
        },
        ("--json",),
    ),
    "cache": ({"--prune": _enum("0d", "30d", "1h", "9" * 30 + "d", "-1d")}, ("--json",)),
    "targets": ({"": _enum("cpu", "null", "a10g", "a10g:int8")}, ("--json",)),
    "doctor": ({"--cache": path}, ("--json", "--bogus")),
    "worker": ({"--target": COMPILE_FLAGS["--target"], "--ray": COMPILE_FLAGS["--ray"]}, ("--simulated", "--bogus")),
}  # fmt: skip


def _flag(name: str, value: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return value.map(lambda text: (name, text) if name else (text,))


def flags(verb: str, least: int = 0, most: int = 2) -> st.SearchStrategy[tuple[str, ...]]:
    """Flags of a verb with their values; a later one wins over the verb's own."""
    valued, switches = FLAGS[verb]
    one = st.one_of(
        st.sampled_from([(switch,) for switch in switches]),
        *(_flag(*pair) for pair in sorted(valued.items(), key=lambda p: p[0])),
    )
    return st.lists(one, min_size=least, max_size=most).map(
        lambda found: tuple(word for flag in found for word in flag)
    )


def seldom_flags(verb: str) -> st.SearchStrategy[tuple[str, ...]]:
    """None in three of four cases."""
    return st.one_of(*[st.just(())] * 3, flags(verb))


def one_in(count: int) -> st.SearchStrategy[bool]:
    """True once in so many cases."""
    return st.integers(1, count).map(lambda number: number == count // 2 + 1)


def data_plans(form: str, labels: tuple[str, ...] = LABELS, *, changed: bool = True) -> st.SearchStrategy[DataPlan]:
    """A table with no, one or a few changes."""
    change = st.tuples(st.sampled_from(sorted(CHANGES)), at, st.one_of(scalars, scalars, values))
    rows = st.one_of(st.integers(10, 60), st.integers(10, 60), st.integers(0, 9)) if changed else st.just(40)
    return st.builds(
        DataPlan,
        st.just(form),
        st.sampled_from(labels),
        rows,
        st.lists(change, max_size=3 if changed else 0).map(tuple),
    )


def _case(verb: str, part: str, **fields: Any) -> st.SearchStrategy[Case]:
    return st.builds(Case, verb=st.just(verb), part=st.just(part), **{"flags": seldom_flags(verb), **fields})


def data_cases(verb: str, part: str, labels: tuple[str, ...]) -> st.SearchStrategy[Case]:
    """A table, in a third of the cases with damage to the file itself."""

    def of(form: str) -> st.SearchStrategy[Case]:
        files = ("data/train.csv", "data/dev.csv", "data/test.csv") if form == "folder" else (f"data.{form}",)
        damage = _some(_edit((*BYTE_EDITS, *BYTE_EDITS, *KIND_EDITS), files), 2)
        whole = one_in(80) if verb == "compile" else st.just(False)
        return _case(
            verb, part, data=data_plans(form, labels), edits=st.one_of(st.just(()), st.just(()), damage), whole=whole
        )

    return st.one_of(*map(of, FORMATS))


def model_cases(verb: str) -> st.SearchStrategy[Case]:
    """A model folder with damage to its JSON files or weights."""

    def of(base: str) -> st.SearchStrategy[Case]:
        documents, weights = (tuple(f"model/{name}" for name in names) for names in MODEL_FILES[base])
        edit = st.one_of(
            *[_json_or_bytes(documents)] * 4,
            *[_edit(tuple(SAFETENSORS), weights)] * 2,
            _edit(BYTE_EDITS + KIND_EDITS, weights),
        )
        labels = ("class", "none", "int") if base == "classifier" else ("none",)
        plan = data_plans("csv", labels, changed=False) if verb == "compile" else st.none()
        return _case(verb, "model", base=st.just(base), edits=_some(edit), data=plan)

    return st.one_of(*map(of, ("encoder", "encoder", "classifier", "classifier", "sharded", "compiled")))


def document_cases(verb: str, file: str) -> st.SearchStrategy[Case]:
    """A cost table or traffic file with damage."""
    return _case(verb, file, base=st.just(file), edits=_some(_json_or_bytes((file,))))


def run_cases(verb: str) -> st.SearchStrategy[Case]:
    """A run folder with damage to its own documents or to the files of a network."""
    nets = tuple(f"run/{net}/{name}" for net in ("dense", "n001") for name in NET_FILES)
    documents = tuple(f"run/{name}" for name in RUN_JSON)
    json_nets = tuple(name for name in nets if name.endswith(".json"))
    onnx = tuple(name for name in nets if name.endswith(".onnx"))
    edit = st.one_of(
        *[_json_or_bytes(documents)] * 3, _json_or_bytes(json_nets), _edit(BYTE_EDITS + KIND_EDITS, nets),
        _edit(tuple(ONNX), onnx), _edit(tuple(SAFETENSORS), ("run/n001/model.safetensors",)), _outside_path(),
    )  # fmt: skip
    return _case(
        verb, "run", base=st.sampled_from(("targets/null", "targets/null", "run-classifier")), edits=_some(edit), sealed=st.booleans(),
        whole=one_in(60) if verb == "bench" else st.just(False),
    )  # fmt: skip


def _outside_path() -> st.SearchStrategy[Edit]:
    paths = (
        "../model.onnx",
        "../../../canary/home/notes.txt",
        "/etc/passwd",
        "/dev/zero",
        "n001",
        "dense/../../x.onnx",
        "n001/model.safetensors",
    )
    return st.builds(Edit, st.just("artifact"), st.just("run/front.json"), at, st.sampled_from(paths))


def targets_cases() -> st.SearchStrategy[Case]:
    """The folder of a run for several targets."""
    files = ("targets/targets.json", "targets/targets.json", "targets/null/front.json", "targets/a10g/front.json")
    return _case("report", "targets", base=st.just("targets"), edits=_some(_json_or_bytes(files)))


def onnx_cases() -> st.SearchStrategy[Case]:
    """An ONNX file for the benchmark."""
    edit = st.one_of(*[_edit(tuple(ONNX), ("model.onnx",))] * 3, _edit(BYTE_EDITS + KIND_EDITS, ("model.onnx",)))
    return _case("bench", "model.onnx", base=st.just("compiled/model.onnx"), edits=_some(edit), whole=one_in(30))


def flag_cases(verb: str) -> st.SearchStrategy[Case]:
    """Valid input under odd flags and variables."""
    reads = verb in {"compile", "data"}
    plan = (
        st.one_of(*(data_plans(form, ("class", "score", "none"), changed=False) for form in FORMATS))
        if reads
        else st.none()
    )
    seldom = st.one_of(*[st.just(())] * (1 if verb == "doctor" else 5), environments())
    return _case(verb, "flags", data=plan, flags=flags(verb, least=1, most=3), environment=seldom)


def environments() -> st.SearchStrategy[tuple[tuple[str, str], ...]]:
    """Variables that a shell may hold."""
    name = st.sampled_from(
        (
            "PARETOC_CACHE",
            "OMP_NUM_THREADS",
            "CUDA_VISIBLE_DEVICES",
            "COLUMNS",
            "TERM",
            "HF_HOME",
            "RANK",
            "WORLD_SIZE",
            "PARETOC_CACHE_SIZE",
        )
    )
    value = st.one_of(number, word, st.sampled_from(("<in>/none", "/dev/null", "/proc/x", "GPU-0", "-1", "dumb")))
    return st.lists(st.tuples(name, value), max_size=2).map(tuple)


def cache_cases() -> st.SearchStrategy[Case]:
    """A damaged cache folder, or one that is not ours."""
    kinds = (
        "beside",
        "truncate",
        "flip",
        "fifo",
        "device",
        "link-out",
        "link-loop",
        "folder",
        "empty",
        "sparse",
        "remove",
    )
    files = ("cache/scored", "cache/dense", "cache/evaluated", "cache/marker.json", "cache/looked-at")
    ours = _case("cache", "cache", base=st.just("cache"), edits=_some(_edit(kinds, files)), flags=flags("cache"))
    return st.one_of(ours, ours, _case("cache", "others", base=st.just("others"), flags=flags("cache")))


LABELLED = ("class", "class", "int", "none", "score")
SHARES: Mapping[str, tuple[tuple[int, st.SearchStrategy[Case]], ...]] = {
    "compile": (
        (7, data_cases("compile", "data", LABELS)),
        (5, data_cases("compile", "labels", LABELLED)),
        (18, model_cases("compile")),
        (5, document_cases("compile", "table.json")),
        (4, document_cases("compile", "traffic.json")),
        (8, flag_cases("compile")),
    ),
    "profile": ((3, model_cases("profile")), (2, document_cases("profile", "table.json")), (3, flag_cases("profile"))),
    "data": ((16, data_cases("data", "data", LABELS)), (1, flag_cases("data"))),
    "verify": ((6, run_cases("verify")),),
    "report": ((6, run_cases("report")), (3, targets_cases())),
    "diff": ((9, run_cases("diff")), (1, flag_cases("diff"))),
    "bench": ((3, run_cases("bench")), (4, onnx_cases()), (2, flag_cases("bench"))),
    "cache": ((3, cache_cases()),),
    "targets": ((1, flag_cases("targets")),),
    "doctor": ((1, flag_cases("doctor")),),
    "worker": ((1, flag_cases("worker")),),
}
"""How many of a hundred or so cases each strategy gives."""

_CHUNK = 500


def drawn(strategy: st.SearchStrategy[Case], count: int, seed: int) -> list[Case]:
    """So many cases, the same for the same seed."""
    found: list[Case] = []
    for start in range(0, count, _CHUNK):
        found += _chunk(strategy, min(_CHUNK, count - start), seed * 1009 + start)
    return found


def _chunk(strategy: st.SearchStrategy[Case], count: int, seed: int) -> list[Case]:
    found: list[Case] = []

    @hypothesis.seed(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(strategy)
    def collect(case: Case) -> None:
        found.append(case)

    with _no_constants_of_modules():
        collect()
    return found[:count]


def _no_constants_of_modules() -> contextlib.AbstractContextManager[Any]:
    """Hypothesis draws constants of the modules that are loaded, too: the same seed would give other inputs after every change."""
    if not hasattr(providers, "_get_local_constants"):
        return contextlib.nullcontext()
    return mock.patch.object(providers, "_get_local_constants", return_value=providers.Constants())


def cases(count: int, seed: int, verbs: tuple[str, ...]) -> list[Case]:
    """About `count` cases over the verbs, by their shares, of verbs that there are."""
    parts = [(weight, strategy) for verb in verbs for weight, strategy in SHARES[verb] if weight]
    total = sum(weight for weight, _ in parts)
    found: list[Case] = []
    for i, (weight, strategy) in enumerate(parts):
        found += drawn(strategy, max(1, round(count * weight / total)), seed + 31 * i)
    return found
