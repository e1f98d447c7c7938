"""Questions whose answers stand in a text: SQuAD's JSON as a table, and what columns say of questions, contexts and answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from compiler.data.names import plain
from compiler.data.table import Form, Table, as_number, is_missing, shorten
from targets.errors import InputError

Record = Mapping[str, Any]
Answers = dict[str, list[Any]]
"""SQuAD's own form: {"text": texts, "answer_start": characters from 0}; both empty where the context has no answer."""

QUESTION_NAMES = ("question", "query")
CONTEXT_NAMES = ("context", "passage", "paragraph", "document", "article", "text")
TITLE_NAMES = ("title", "article_title", "article_id", "document_id", "doc_id")
ANSWER_NAMES = ("answer_text", "answer", "answers")
START_NAMES = ("answer_start", "answer_start_char", "start_char")

_LEAST_ARTICLES = 5
"""Articles at least to be shared out whole: 30 % of them must be two, for validation and test."""


def question_error(source: str) -> InputError:
    """Refusal of SQuAD and its kind as data of another task."""
    return InputError(
        f"{source} holds questions with answers to be found in a text (SQuAD): that is question answering.\n"
        "Pass --task question_answering, or say with --text-columns and --label-column what is to be read of them."
    )


def are_articles(records: Sequence[Any]) -> bool:
    """Whether records are articles of paragraphs, as SQuAD nests its questions."""
    return bool(records) and all(isinstance(record, Mapping) and "paragraphs" in record for record in records)


def article_table(articles: Sequence[Record], source: str, lines: Sequence[int] | None) -> Table:
    """Table with one row a question: title, context, question and answers (None where nothing is said of them).

    `lines` are those of the articles in a file of JSON lines. InputError, with article and paragraph, for other shapes.
    """
    rows = [(i, row) for i, article in enumerate(articles) for row in _questions(article, f"{source} article {i + 1}")]
    columns = {name: [row[name] for _, row in rows] for name in ("title", "context", "question", "answers")}
    at = None if lines is None else [lines[i] for i, _ in rows]
    return Table(source=source, columns=columns, lines=at, form=Form(format="SQuAD JSON"))


def _questions(article: Record, place: str) -> Iterator[Record]:
    for j, paragraph in enumerate(_mappings(article.get("paragraphs"), f"{place}: paragraphs")):
        here = f"{place}, paragraph {j + 1}"
        if is_missing(paragraph.get("context")):
            raise InputError(
                f"{here} has no context, in which answers could be found.\nAdd it, or remove its questions."
            )
        for asked in _mappings(paragraph.get("qas"), f"{here}: qas"):
            answers = [] if asked.get("is_impossible") else asked.get("answers")
            yield {
                "title": article.get("title"),
                "context": paragraph["context"],
                "question": asked.get("question"),
                "answers": answers,
            }


def _mappings(value: Any, what: str) -> list[Record]:
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise InputError(f"{what} is {shorten(value)}, not a list of objects.\nWrite it as SQuAD does.")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionColumns:
    """Names of columns: `answers` holds SQuAD's form, or texts where `start` says at which character; None for what is not there."""

    question: str
    context: str
    answers: str | None
    start: str | None
    title: str | None


def answer_columns(table: Table) -> tuple[str, str | None] | None:
    """The column of answers, and that of their first characters where answers are texts alone; None where there is none."""
    for name, values in table.columns.items():
        if any(_is_nested(value) for value in values):
            return name, None
    text, start = _named(table, ANSWER_NAMES), _named(table, START_NAMES)
    return None if text is None or start is None else (text, start)


def _is_nested(value: Any) -> bool:
    """Whether a value says of an answer where it starts."""
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, Mapping) and "answer_start" in first


def _named(table: Table, names: Sequence[str]) -> str | None:
    by_name = {plain(name): name for name in reversed(list(table.columns))}
    return next((by_name[name] for name in names if name in by_name), None)


def question_columns(table: Table, text_columns: Sequence[str], label_column: str | None) -> QuestionColumns:
    """The columns of a table, by what the user says, else by their names. InputError, with the columns, for what is not there."""
    for name in (*text_columns, *([label_column] if label_column is not None else [])):
        if name not in table.columns:
            raise InputError(f"{table.source} has no column {shorten(name)}.\nIts columns: {table.describe()}.")
    named = (_named(table, QUESTION_NAMES), _named(table, CONTEXT_NAMES))
    question, context = tuple(text_columns) if len(text_columns) == 2 else (None, None) if text_columns else named
    if question is None or context is None or question == context:
        lacking = "two text columns" if text_columns else "a column of questions and one of contexts"
        raise InputError(
            f"Question answering needs {lacking}; {table.source} has {table.describe()}.\n"
            "Name both with --text-columns QUESTION,CONTEXT."
        )
    answers, start = answer_columns(table) or (None, None)
    if label_column is not None and label_column != answers:
        nested = any(_is_nested(value) for value in table.columns[label_column])
        answers, start = label_column, None if nested else _named(table, START_NAMES)
        if not nested and start is None:
            raise InputError(
                f"{table.source}: {shorten(label_column)} does not say where answers start in their contexts.\n"
                f"Give answers as SQuAD does, or their first characters in a column {START_NAMES[0]}."
            )
    return QuestionColumns(
        question=question, context=context, answers=answers, start=start, title=_named(table, TITLE_NAMES)
    )


def read_answers(
    table: Table, columns: QuestionColumns, texts: Sequence[tuple[str, ...]]
) -> tuple[npt.NDArray[Any] | None, list[str]]:
    """`Answers` of every row as objects [rows], None where no row has any; and notes.

    An answer that is not at its character is moved to where its text occurs, if that is one place. InputError, with lines,
    where it is none or several, and for answers of no known form.
    """
    if columns.answers is None or columns.answers not in table.columns:
        return None, []
    found, moved, wrong = np.empty(len(table), dtype=object), list[int](), list[int]()
    for row, (_, context) in enumerate(texts):
        answers: Answers = {"text": [], "answer_start": []}
        found[row] = answers
        for text, start in _given(table, columns, row):
            place = _place(text, start, context)
            if place is None:
                wrong.append(row)
                continue
            if place != start:
                moved.append(row)
            answers["text"].append(text)
            answers["answer_start"].append(place)
    if wrong:
        _refuse(table, columns, sorted(set(wrong)), texts)
    if not any(answers["text"] for answers in found):
        return None, []
    return found, _notes(table, found, moved)


def _notes(table: Table, found: npt.NDArray[Any], moved: Sequence[int]) -> list[str]:
    notes, without = [], sum(not answers["text"] for answers in found)
    if moved:
        notes.append(
            f"{table.source}: {len(moved)} answer(s) were not at their character, and were moved to the one place where they "
            f"occur, the first at {table.place(moved[0])}"
        )
    if without:
        notes.append(f"{table.source}: {without} of {len(table)} questions have no answer in their context")
    return notes


def _given(table: Table, columns: QuestionColumns, row: int) -> list[tuple[str, int]]:
    """Texts and first characters of the answers in a row; -1 for one without. InputError for other forms."""
    value = table.columns[str(columns.answers)][row]
    if columns.start is not None:
        start = table.columns[columns.start][row]
        pairs = [] if is_missing(value) else [(value, -1 if is_missing(start) else start)]
    elif isinstance(value, Mapping):
        texts, starts = (value.get(name) for name in ("text", "answer_start"))
        listed = isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts)
        pairs = list(zip(texts, starts, strict=True)) if listed else [(texts, starts)]  # type: ignore[arg-type]
    elif isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
        pairs = [(each.get("text"), each.get("answer_start")) for each in value]
    else:
        pairs = [] if is_missing(value) else [(None, None)]
    numbers = [as_number(start) for _, start in pairs]
    if any(not isinstance(text, str) for text, _ in pairs) or not all(
        n is not None and n.is_integer() for n in numbers
    ):
        raise InputError(
            f"{table.place(row)}: the answer ({columns.answers}) is {shorten(value)}, not a text and its first character.\n"
            'Write it as SQuAD does: {"text": ["…"], "answer_start": [0]}.'
        )
    return [(text, int(n or 0)) for (text, _), n in zip(pairs, numbers, strict=True) if text.strip()]


def _place(text: str, start: int, context: str) -> int | None:
    """Where an answer stands in its context: where it is said to, else in the one place where it occurs."""
    if start >= 0 and context.startswith(text, start):
        return start
    first = context.find(text)
    return None if first < 0 or context.find(text, first + 1) >= 0 else first


def _refuse(table: Table, columns: QuestionColumns, rows: Sequence[int], texts: Sequence[tuple[str, ...]]) -> None:
    context = texts[rows[0]][1]
    given = _given(table, columns, rows[0])
    text, start = next(pair for pair in given if _place(*pair, context) is None)
    there = shorten(context[max(start, 0) :][: len(text)])
    times = "several times" if text in context else "nowhere"
    raise InputError(
        f"{table.places(rows)}: the answer {shorten(text)} is not at character {start} of its context ({there} is), and occurs "
        f"in it {times}; {len(rows)} of {len(table)} rows are like that.\nCorrect answer_start, which counts characters from 0."
    )


def article_numbers(
    table: Table, title: str | None, texts: Sequence[tuple[str, ...]]
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Numbers [rows] of the articles that questions belong to, by title, else of their contexts; and a note where articles are too few."""
    contexts = [("context", context) for _, context in texts]
    titles = [None] * len(texts) if title is None or title not in table.columns else list(table.columns[title])
    named = [at if is_missing(name) else ("title", str(name)) for name, at in zip(titles, contexts, strict=True)]
    few = len(set(named)) < _LEAST_ARTICLES <= len(set(contexts))
    note = f"{table.source}: {len(set(named))} article(s) cannot be shared out among splits: contexts are kept whole"
    keys = contexts if few else named
    numbers = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], dtype=np.int64), [note] if few else []
