"""A small file of examples for every task, written where a test says: words whose labels follow from them."""

import json
import random

from tests.cli import texts
from tests.tiny import WORDS

COUNT = 72


def _texts(folder):
    path = folder / "data.txt"
    path.write_text("\n".join(texts(COUNT)), encoding="utf-8")
    return path


def _rows(folder, header, rows):
    path = folder / "data.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def classification(folder):
    return _rows(folder, "text,label", [f"{text},{('bad', 'fair', 'good')[len(text) % 3]}" for text in texts(COUNT)])


def regression(folder):
    return _rows(folder, "text,score", [f"{text},{len(text) / 7:.3f}" for text in texts(COUNT)])


def multi_label(folder):
    rows = [f"{text},{len(text) % 2},{len(text.split()) % 2},{int('a' in text)}" for text in texts(COUNT)]
    return _rows(folder, "text,long,odd,vowel", rows)


def reranking(folder):
    lines = texts(COUNT)
    return _rows(
        folder, "query_id,query,passage,label",
        [f"q{i // 6},{lines[i // 6]},{lines[i]} {i},{int(i % 6 in {1, 4})}" for i in range(COUNT)],
    )  # fmt: skip


def token_classification(folder):
    path, rng = folder / "data.conll", random.Random(0)
    sentences = [
        [(word, "B-X" if word in WORDS[:6] else "O") for word in rng.choices(WORDS, k=7)] for _ in range(COUNT)
    ]
    path.write_text(
        "\n".join("".join(f"{word}\t{tag}\n" for word, tag in each) for each in sentences), encoding="utf-8"
    )
    return path


def question_answering(folder):
    path, rng, articles = folder / "data.json", random.Random(0), []
    for i in range(12):
        words = rng.choices(WORDS, k=40)
        asked = []
        for place in range(4, 34, 5):
            answer = {"text": " ".join(words[place : place + 2]), "answer_start": len(" ".join(words[:place])) + 1}
            asked.append({"question": " ".join(words[place - 2 : place]), "answers": [answer]})
        articles.append({"title": f"t{i}", "paragraphs": [{"context": " ".join(words), "qas": asked}]})
    path.write_text(json.dumps({"version": "1.1", "data": articles}), encoding="utf-8")
    return path


WRITERS = {
    "classification": classification,
    "multi_label": multi_label,
    "regression": regression,
    "reranking": reranking,
    "token_classification": token_classification,
    "question_answering": question_answering,
    "embedding": _texts,
    "masked_lm": _texts,
    "causal_lm": _texts,
}
"""By the name of the task."""
