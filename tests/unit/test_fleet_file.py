"""Fleet files: what entries they make, and one line for whatever is wrong, with the file and the key."""

from pathlib import Path

import pytest

from compiler.fleet import read_fleet
from targets.errors import InputError
from tests.fleet import write_model, write_toml

WHOLE = """
[defaults]
targets = ["cpu", "a10g:fp16"]
effort = "fast"
seq-len = 32
[[entry]]
name = "reviews"
model = "enc"
data = "rows.csv"
budgets = [{ min_speedup = 2 }, { name = "small", max-memory = "300MB", max_drop = "1%" }]
seed = 3
"""


def read(tmp_path, text, name="fleet.toml"):
    write_model(tmp_path / "enc")
    (tmp_path / "rows.csv").write_text("text,label\na,1\n", encoding="utf-8")
    return read_fleet(write_toml(tmp_path / name, text), tmp_path / "out", cache="c")


def entry(text="", model='"enc"', name="e"):
    return f'[[entry]]\nname = "{name}"\nmodel = {model}\n{text}\n'


def message(tmp_path, text):
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def test_an_entry_is_the_product_of_its_targets_and_budgets(tmp_path):
    found = read(tmp_path, WHOLE)
    assert [each.name for each in found] == [
        "reviews-cpu-min-speedup-2", "reviews-cpu-small", "reviews-a10g-fp16-min-speedup-2", "reviews-a10g-fp16-small",
    ]  # fmt: skip
    last = found[-1].options
    assert (last.target, last.effort, last.seq_len, last.seed) == ("a10g:fp16", "fast", 32, 3)
    assert (last.model, last.data) == (str(tmp_path / "enc"), str(tmp_path / "rows.csv"))
    assert last.budgets.limits() == {"max_memory_bytes": 3e8, "max_drop": 0.01}
    assert (last.out, last.cache) == (tmp_path / "out" / "reviews-a10g-fp16-small", "c")


def test_an_entry_overrides_defaults_and_its_own_limits_hold_under_every_budget(tmp_path):
    text = "[defaults]\neffort = 'fast'\ntarget = 'cpu'\n" + entry(
        "effort = 'thorough'\ntargets = ['null']\nmax_drop = 0.02\nbudgets = [{min_speedup = '2x'}, {min_speedup = '3x', max_drop = 0.5}]"
    )
    two, three = read(tmp_path, text)
    assert (two.options.effort, two.options.target) == ("thorough", "null")
    assert two.options.budgets.limits() == {"min_speedup": 2, "max_drop": 0.02}
    assert three.options.budgets.limits() == {"min_speedup": 3, "max_drop": 0.5}


def test_several_models_make_an_entry_each_with_the_folder_in_the_name(tmp_path):
    write_model(tmp_path / "other")
    found = read(tmp_path, entry(model='["enc", "other", "hub/name"]'))
    assert [each.name for each in found] == ["e-enc-cpu", "e-other-cpu", "e-name-cpu"]
    assert [each.options.model for each in found] == [str(tmp_path / "enc"), str(tmp_path / "other"), "hub/name"]


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("precision = 'fp32,int8'", "precisions", ("fp32", "int8")),
        ("precision = ['fp32', 'int8']", "precisions", ("fp32", "int8")),
        ("embedding-dim = [16, 8]", "embedding_dim", (16, 8)),
        ("embedding_dim = 8", "embedding_dim", (8,)),
        ("header = false", "header", False),
        ("epochs = 2", "epochs", 2.0),
        ("label-column = 'a,b'", "label_column", "a,b"),
        ("traffic = 'data'", "traffic", "data"),
        ("trust-remote-code = true", "trust_remote_code", True),
        ("objectives = ['latency', 'params']", "objectives", ("latency", "params")),
    ],
)
def test_flags_are_keys(tmp_path, line, field, value):
    (found,) = read(tmp_path, entry(line))
    assert getattr(found.options, field) == value


def test_every_flag_of_compile_is_a_key_or_belongs_to_the_campaign():
    import inspect

    from compiler.cli.main import compile_command
    from compiler.fleet.settings import CAMPAIGN, SHARED_KEYS

    flags = {name.removesuffix("_") for name in inspect.signature(compile_command).parameters}
    assert flags - {"target", "as_json", "quiet"} <= {*SHARED_KEYS, *CAMPAIGN}


def test_a_table_is_given_for_a_target_and_lies_beside_the_file(tmp_path):
    (tmp_path / "a10g.json").write_text("{}", encoding="utf-8")
    found = read(tmp_path, entry("targets = ['cpu', 'a10g:fp16']\ntable = { a10g = 'a10g.json' }"))
    assert [each.options.table for each in found] == [None, tmp_path / "a10g.json"]
    assert "table must say of which target" in message(tmp_path, entry("targets = ['cpu', 't4']\ntable = 'a10g.json'"))


def test_defaults_go_down_to_included_files_and_come_up_where_a_file_has_none(tmp_path):
    write_toml(tmp_path / "sub" / "common.toml", "[defaults]\neffort = 'fast'\nwinners = 3\nseed = 1")
    write_toml(tmp_path / "sub" / "team.toml", "[defaults]\nseed = 2\n" + entry(name="team", model='"../enc"'))
    found = read(
        tmp_path,
        "include = ['sub/common.toml', 'sub/team.toml']\n[defaults]\nwinners = 5\n" + entry(name="own", model='"enc"'),
    )
    team, own = (each.options for each in found)
    assert (team.seed, team.winners, team.model) == (2, 5, str(tmp_path / "enc"))
    assert (own.seed, own.winners, own.effort) == (2, 5, "fast")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (entry("effrt = 'fast'"), "fleet.toml: entry 'e': no key is called 'effrt'\ndid you mean 'effort'?"),
        ("[defaults]\nsed = 1\n" + entry(), "fleet.toml: [defaults]: no key is called 'sed'\ndid you mean 'seed'?"),
        ("[default]\nseed = 1\n" + entry(), "fleet.toml: top level: no key is called 'default'\ndid you mean 'defaults'?"),
        (entry("budgets = [{max_ram = '1GB'}]"), "entry 'e': budgets: no key is called 'max_ram'"),
        (entry("out = 'x'"), "'out' is of the whole campaign"),
        (entry("seq-len = 3\nseq_len = 4"), "'seq_len' is given twice"),
        (entry("seed = 'a'"), "entry 'e': --seed must be a whole number, got 'a'"),
        (entry("seed = true"), "--seed must be a whole number, got True"),
        (entry("header = 1"), "--header must be true or false"),
        ("[defaults]\nepochs = 'x'\n" + entry("epochs = 1"), "fleet.toml: [defaults]: --epochs must be a number"),
        (entry("effort = 'quick'"), "entry 'e': --effort 'quick' is not known"),
        (entry("max-latency = 5"), "entry 'e': --max-latency '5' is no time"),
        (entry("targets = ['a10']"), "entry 'e': no target is called 'a10'"),
        (entry("targets = ['cpu', 'cpu']"), "targets must name each once"),
        (entry("targets = 3"), "targets must be a text or a list of texts"),
        (entry("budgets = {min_speedup = 2}"), "budgets must be a list"),
        (entry("budgets = [2]"), "budgets must be a table"),
        (entry() + entry(), "fleet.toml: two entries have the name 'e-cpu'"),
        (entry("budgets = [{min_speedup = 2}, {min-speedup = 2}]"), "two entries have the name"),
        (entry() + entry(name="E"), "two entries have the name 'E-cpu'"),
        ("[[entry]]\nname = 'e'", "entry 'e' has no model"),
        ("[[entry]]\nmodel = 'e'", "an entry has the name None"),
        (entry(name="../e"), "an entry has the name '../e'"),
        ("[entry]\nname = 'e'", "entry must be written [[entry]]"),
        ("include = 'a'", "include must be a list of files"),
        ("include = ['none.toml']", "none.toml cannot be read"),
        ("include = ['fleet.toml']", "files include each other: fleet.toml → fleet.toml"),
        ("a = ", "fleet.toml is not TOML"),
        ("", "has no entry"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_message(tmp_path, text, said):
    assert said in message(tmp_path, text)


def test_a_cycle_of_includes_is_named(tmp_path):
    write_toml(tmp_path / "b.toml", "include = ['c.toml']")
    write_toml(tmp_path / "c.toml", "include = ['./fleet.toml']")
    assert "fleet.toml → b.toml → c.toml → fleet.toml" in message(tmp_path, "include = ['b.toml']\n" + entry())


def test_two_files_with_one_name_of_an_entry_are_both_named(tmp_path):
    write_toml(tmp_path / "b.toml", entry())
    assert message(tmp_path, "include = ['b.toml']\n" + entry()).startswith("b.toml and fleet.toml: two entries")


def test_a_file_that_makes_too_many_entries_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("compiler.fleet.file.MOST_ENTRIES", 3)
    assert "more than 3 entries" in message(tmp_path, "".join(entry(name=f"e{i}") for i in range(5)))


def test_what_is_no_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(InputError):
            read_fleet(path, Path("out"))
