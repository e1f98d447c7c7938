"""What people call their columns."""

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
    "title",
)
"""In order of preference."""

PAIR_NAMES = (
    ("sentence1", "sentence2"),
    ("sentence_a", "sentence_b"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("text", "text_pair"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "answer"),
    ("question", "context"),
    ("query", "passage"),
    ("query", "document"),
    ("query", "text"),
)

_IDENTIFIERS = {"", "id", "ids", "idx", "index", "guid", "uuid", "uid", "pairid", "row", "no", "nr"}


def plain(name: str) -> str:
    """A column name as these lists spell it."""
    return name.strip().casefold().replace(" ", "_").replace("-", "_")


def is_identifier(name: str) -> bool:
    """Whether a column of this name numbers the rows or names their origin."""
    word = plain(name)
    return word in _IDENTIFIERS or word.endswith("_id") or word.startswith("unnamed:")


def is_known(name: str) -> bool:
    """Whether `name` is what a column is called, rather than a value in one."""
    word = plain(name)
    return word in LABEL_NAMES or word in TEXT_NAMES or any(word in pair for pair in PAIR_NAMES)
