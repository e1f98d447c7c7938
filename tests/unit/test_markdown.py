"""Names in Markdown, YAML and on the terminal stay text, whatever they hold."""

import io
from pathlib import Path

import yaml
from rich.table import Table

from compiler.cli.console import ConsoleMonitor, PlainConsole, result_table
from compiler.report.card import render_card
from compiler.report.html import render_report
from compiler.report.markdown import code, inline
from compiler.report.markdown import yaml as as_yaml
from tests.report_sample import sample_evaluated, sample_front

HOSTILE = "a|b`c`\n---\n# [x](y) <b>{{ 7*7 }}</b>\x1b[31m [/red] :smile: \u202e\u2028"


def shown(draw) -> str:
    out = io.StringIO()
    draw(PlainConsole(file=out, width=400))
    return out.getvalue()


def hostile_front():
    front = sample_front()
    front["model"]["name"] = front["data"]["source"] = front["metric"]["description"] = HOSTILE
    front["target"]["fingerprint"]["device_name"] = front["tool"]["version"] = HOSTILE
    front["notes"] = [HOSTILE]
    return front


def test_a_card_has_one_header_and_its_tables_keep_their_columns():
    front = hostile_front()
    card = render_card(front, front["candidates"][0], {"license": f"mit\n{HOSTILE}", "language": HOSTILE})
    _, header, body = card.split("---\n", 2)
    found = yaml.safe_load(header)
    assert found["base_model"] == HOSTILE
    assert found["license"] == f"mit\n{HOSTILE}"
    assert "\x1b" not in card
    assert "&lt;b>" in next(line for line in body.splitlines() if line.startswith("# "))
    assert not any(line.startswith(("---", "# [")) for line in body.splitlines())


def test_a_line_of_markdown_and_a_word_of_yaml():
    assert inline("a|b*c*`d`[e]<f>\n") == "a\\|b\\*c\\*\\`d\\`\\[e\\]&lt;f>\\\\n"
    assert code("plain") == "`plain`"
    assert code("a``b") == "``` a``b ```"
    assert as_yaml("apache-2.0") == "apache-2.0"
    assert yaml.safe_load(as_yaml("a: b\n- c")) == "a: b\n- c"


def test_names_are_no_markup_and_no_codes_for_the_terminal():
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    for draw in (
        lambda c: c.print(HOSTILE),
        lambda c: c.print(table),
        lambda c: c.print(result_table(hostile_front())),
    ):
        text = shown(draw)
        assert "[/red]" in text
        assert ":smile:" in text
        assert "\\x1b[31m" in text
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_stages_and_notes_are_no_markup():
    def run(console):
        with ConsoleMonitor(console) as monitor:
            monitor.stage("run[/x]")
            monitor.note("note[v2] \x1b[0m")

    text = shown(run)
    assert "run[/x]: 0.0 s" in text
    assert "note[v2] \\x1b[0m" in text


def test_a_path_in_brackets_is_printed_as_it_is():
    assert (
        shown(lambda console: console.print(f"report: {Path('run[v2]') / 'report.html'}"))
        == "report: run[v2]/report.html\n"
    )


def test_a_page_holds_no_markup_of_a_name():
    page = render_report(hostile_front(), sample_evaluated())
    assert "<b>{{" not in page
    assert "&lt;b&gt;" in page
