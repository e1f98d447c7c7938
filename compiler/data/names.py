"""What people call their columns."""

import re

LABEL_NAMES = (
    "label",
    "labels",
    "score",
    "target",
    "class",
    "category",
    "gold_label",
    "similarity",
    "similarity_score",
    "intent",
    "sentiment",
    "rating",
    "stars",
    "quality",
    "is_duplicate",
    "relevance",
    "coarse_label",
    "label_text",
    "y",
)
"""In order of preference."""

SCORE_NAMES = ("score", "similarity", "similarity_score", "relevance")
"""Labels that are quantities even when they are written as integers."""

TEXT_NAMES = (
    "text",
    "sentence",
    "content",
    "review",
    "document",
    "body",
    "comment",
    "utterance",
    "tweet",
    "message",
    "question",
    "query",
    "passage",
    "premise",
    "description",
    "abstract",
    "article",
    "paragraph",
    "post",
    "statement",
    "title",
)
"""In order of preference."""

PAIR_NAMES = (
    ("sentence1", "sentence2"),
    ("sentence_a", "sentence_b"),
    ("sentence", "sentence_pair"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("text", "text_pair"),
    ("#1_string", "#2_string"),
    ("premise", "hypothesis"),
    ("anchor", "positive"),
    ("anchor", "entailment"),
    ("question1", "question2"),
    ("question_1", "question_2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "answer"),
    ("question", "context"),
    ("question", "response"),
    ("question", "duplicate"),
    ("query", "passage"),
    ("query", "document"),
    ("query", "doc"),
    ("query", "text"),
    ("query", "answer"),
    ("query", "response"),
    ("query", "positive"),
    ("query", "pos"),
    ("claim", "evidence"),
    ("context", "response"),
    ("prompt", "response"),
    ("instruction", "response"),
    ("caption1", "caption2"),
    ("first", "second"),
    ("left", "right"),
    ("a", "b"),
)
"""From GLUE, SuperGLUE and sentence-transformers' data sets; in order of preference."""

ROLES = {
    "train": ("train", "training", "trn", "learn", "fit"),
    "validation": ("validation", "valid", "val", "validate", "dev", "devel", "development", "eval", "evaluation"),
    "test": ("test", "testing", "tst", "heldout", "holdout"),
}
"""Words for a split, by the split's own name."""

_VALUES_TOO = {
    "positive", "entailment", "duplicate", "pos", "a", "b", "first", "second", "left", "right", "doc", "response",
    "claim", "evidence", "prompt", "instruction", "anchor",
}  # fmt: skip
"""Names of a pair's columns that are as well labels, or words of a text: alone they do not show that a line is a header."""

_TWINS = (("1", "2"), ("a", "b"), ("first", "second"), ("left", "right"), ("one", "two"), ("i", "ii"))

_NO_LABELS = {
    "date", "time", "datetime", "timestamp", "created_at", "created", "updated_at", "year", "month", "day",
    "url", "link", "source", "author", "user", "username", "user_name", "name", "language", "lang", "locale",
    "split", "fold", "set", "length", "len", "word_count", "n_words", "n_tokens", "num_tokens", "count",
    "country", "city", "location", "age", "price", "version", "annotator", "worker", "file", "filename", "path",
}  # fmt: skip

QUERY_NAMES = {"query_id", "qid", "question_id", "queryid", "q_id", "topic_id"}
"""Columns that say which rows are candidates for one query."""

QUERY_TEXTS = {"query", "question", "search_query"}
"""Texts that candidates may be ranked for, where a column repeats them."""

_IDENTIFIERS = {
    "", "id", "ids", "idx", "index", "guid", "uuid", "uid", "pairid", "row", "no", "nr", "docid", "docno", "pid",
    *QUERY_NAMES,
}  # fmt: skip


def plain(name: str) -> str:
    """A column name as these lists spell it."""
    return name.strip().casefold().replace(" ", "_").replace("-", "_")


def is_identifier(name: str) -> bool:
    """Whether a column of this name numbers the rows or names their origin."""
    word = plain(name)
    return word in _IDENTIFIERS or word.endswith("_id") or word.startswith("unnamed:")


def are_twins(first: str, second: str) -> bool:
    """Whether two names differ in one word that counts two of a kind: text 1 and text 2, left side and right side."""
    pair = (plain(first), plain(second))
    words = [re.split(r"[_.# ]+|(?<=[a-z])(?=\d)", name) for name in pair]
    if len(words[0]) != len(words[1]):
        return False
    differing = [each for each in zip(*words, strict=True) if each[0] != each[1]]
    return len(differing) == 1 and differing[0] in _TWINS and len(words[0]) > 1


def describes_rows(name: str) -> bool:
    """Whether a column of this name says where a row comes from, so that it is no label unless the user says so."""
    return plain(name) in _NO_LABELS


def is_known(name: str) -> bool:
    """Whether `name` is what a column is called, rather than a value in one."""
    word = plain(name)
    in_pair = word not in _VALUES_TOO and any(word in pair for pair in PAIR_NAMES)
    return word in LABEL_NAMES or word in TEXT_NAMES or in_pair
