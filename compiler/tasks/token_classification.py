"""Token classification: a tag for each word, as of named entities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding
from torch import Tensor
from torch.nn import functional

from compiler.data import Split
from compiler.data.token_columns import SPACE, label_of_rows, token_columns
from compiler.tasks.batches import IGNORED, Batches, Reader, batched
from compiler.tasks.chance import doubt_of_tags, one_tag
from compiler.tasks.entities import Scheme, Shares, accuracy_parts, f1_parts, precision_parts, recall_parts
from compiler.tasks.losses import Outputs, distilled, total
from compiler.tasks.metric import Metric
from compiler.tasks.noise import share_values
from compiler.tasks.probes import fisher
from compiler.tasks.route import Route, labels
from compiler.tasks.tagged import lists, matrix, read_tokens
from compiler.tasks.task import Asked, Card, Reading, Task
from compiler.tasks.tokenising import tokenised
from targets.errors import InputError

if TYPE_CHECKING:
    from compiler.data.table import Table
    from compiler.data.text_data import Labels

Array = NDArray[Any]

_NO_WORD = -1
"""Answer at places [sentences, words] behind a sentence's last word, and of words that no token of the input stands for."""


def _score(predicted: Array, true: Array, *, parts: Shares, scheme: Scheme | None = None) -> float:
    """The share over all sentences; 0 where it is of nothing, as in seqeval."""
    part, whole = (side.sum() for side in parts(predicted, true, _known(scheme)))
    return float(part / whole) if whole else 0.0


def _values(predicted: Array, true: Array, *, parts: Shares, scheme: Scheme | None = None) -> Array:
    return share_values(*parts(predicted, true, _known(scheme)))


def _known(scheme: Scheme | None) -> Scheme:
    if scheme is None:
        raise ValueError("tags have no meaning without their names: take the metric of Task.bound")
    return scheme


def _metric(name: str, description: str, parts: Shares) -> Metric:
    score, values = partial(_score, parts=parts), partial(_values, parts=parts)
    return Metric(name=name, description=description, score=score, values=values)


class TokenClassification(Task):
    """A tag for each word of a sentence: that of its first token, as transformers trains and pipelines read it.

    A sentence is its words with one space between, read as a server reads raw text; words are found by the characters that tokens
    stand for. Labels are lists of tag ids, a word each; answers are tag ids [sentences, words of the longest], -1 behind the last
    word. Words beyond the token limit get no tag, and their entities count as missed.
    """

    name = "token_classification"
    words = "token classification"
    auto_class = "AutoModelForTokenClassification"
    head = "TokenClassification"
    pairs = False
    decides = True
    route = Route(file="token_classification", paths=("/tag",), facts=labels)
    metrics = (
        _metric("entity_f1", "F1 of entities, by seqeval's definition", f1_parts),
        _metric("entity_precision", "share of predicted entities that are right", precision_parts),
        _metric("entity_recall", "share of true entities that are found", recall_parts),
        _metric("token_accuracy", "share of words with the right tag", accuracy_parts),
    )
    card = Card(
        pipeline="token-classification",
        library="transformers",
        optimum="ORTModelForTokenClassification",
        answers="logits of the tags for each token, of which a word's first counts",
    )

    def serves(self, settings: Mapping[str, Any], name: str) -> bool:
        """Every head of the class. InputError where its tags have no names: where entities begin and end is said by these."""
        names = settings.get("id2label") or {}
        if all(str(label) == f"LABEL_{number}" for number, label in dict(names).items()):
            raise InputError(
                f"{name}: the outputs of its head have no names, which say where entities begin and end\n"
                "name each in id2label and label2id, as O, B-PER and I-PER"
            )
        return True

    # Data

    def recognises(self, table: Table, asked: Asked) -> str | None:
        """Lists of words beside lists of tags; or alone, where the model is trained to tag.

        InputError where each text has a label as well, and neither user nor model says which is to be learnt.
        """
        columns = token_columns(table, asked.text_columns, asked.label_column)
        if columns is None or (columns.tags is None and (self.name not in asked.declared or asked.label_column)):
            return None
        if columns.tags is None:
            return f"{columns.tokens} has lists of words"
        why = f"{columns.tags} has a tag for each word of {columns.tokens}"
        if (label := label_of_rows(table)) and asked.label_column is None and self.name not in asked.declared:
            raise InputError(
                f"{table.source} fits {self.name} (because {why}) and classification (because {label} labels each row).\n"
                f"Say which with --task {self.name}, or with --label-column {label}."
            )
        return why

    def read(self, tables: Mapping[str, Table], asked: Asked) -> Reading:
        """Sentences, and the tags of their words."""
        return read_tokens(tables, asked, self)

    def renumbered(self, labels: Labels, ids: NDArray[np.int64], count: int) -> Labels:
        """Every tag of every word."""
        return lists([ids[np.array(tags, dtype=np.int64)].tolist() for tags in labels])

    # Encoding and judging

    def encode(self, reader: Reader, split: Split, *, max_tokens: int, batch_size: int = 32) -> Batches:
        """Batches with "first_tokens", the places of words' first tokens, "most_words" of the split, and "token_labels".

        InputError where the tokenizer does not say which characters tokens stand for.
        """
        encoded, first = _placed(reader, split, max_tokens)
        extras: dict[str, Sequence[Any]] = {
            "first_tokens": first,
            "most_words": [max(map(len, first), default=0)] * len(first),
        }
        if split.labels is not None:
            lines = zip(encoded, first, split.labels, strict=True)
            extras["token_labels"] = [_token_labels(len(line.ids), places, tags) for line, places, tags in lines]
        return batched(reader, encoded, max_tokens=max_tokens, batch_size=batch_size, extras=extras)

    def encoding_notes(self, reader: Reader, splits: Mapping[str, Split], *, max_tokens: int) -> tuple[str, ...]:
        """How many words have no token: those beyond the limit, and those that the tokenizer leaves out."""
        notes = []
        for role, split in splits.items():
            _, first = _placed(reader, split, max_tokens)
            lost, words = sum(int((places < 0).sum()) for places in first), sum(map(len, first))
            if lost:
                notes.append(
                    f"{lost:,} of {words:,} words of {role} have no token of their own within {max_tokens} a sentence: "
                    "their entities count as missed"
                )
        return tuple(notes)

    def answers(self, judged: Tensor, inputs: Mapping[str, Tensor], extras: Mapping[str, Any]) -> NDArray[np.float32]:
        """Tag ids [lines, words of the longest in the split]; NaN where logits are not finite."""
        best = judged.argmax(dim=-1).float().masked_fill(~torch.isfinite(judged).all(dim=-1), torch.nan).cpu().numpy()
        result = np.full((len(best), max(extras["most_words"])), _NO_WORD, dtype=np.float32)
        for line, (row, places) in enumerate(zip(best, extras["first_tokens"], strict=True)):
            result[line, : len(places)] = np.where(places < 0, _NO_WORD, row[places])
        return result

    def reference(self, split: Split) -> Array:
        """Tag ids [sentences, words of the longest]."""
        assert split.labels is not None  # noqa: S101  it is asked for labelled splits
        return matrix(split.labels.tolist())

    def dense_reference(self, answers: Array, split: Split) -> Array:
        """The dense model's tags."""
        return answers.astype(np.int64)

    def decisions(self, answers: Array) -> NDArray[np.int64]:
        """The tag of every word [sentences, words]."""
        return np.nan_to_num(answers, nan=_NO_WORD).astype(np.int64)

    def decided(self, reference: Array) -> NDArray[np.int64]:
        """The tags of the reference."""
        return np.asarray(reference)

    def bound(self, metric: Metric, label_names: Sequence[str]) -> Metric:
        """With the scheme that the names of the tags are in."""
        scheme, score, values = Scheme.of(label_names), cast("Any", metric.score), cast("Any", metric.values)
        return replace(metric, score=partial(score, scheme=scheme), values=partial(values, scheme=scheme))

    def doubt(self, metric: Metric, answers: Array, split: Split, names: Sequence[str]) -> str | None:
        """Chance, one tag for all words, or tags that look permuted."""
        told = [str(name) for name in names]
        if split.labels is None:
            return one_tag(answers, told)
        return doubt_of_tags(self.bound(metric, told), answers, self.reference(split), told)

    # Learning

    def loss(
        self,
        outputs: Outputs,
        mask: Tensor,
        labels: Tensor | None,
        teacher: Outputs | None,
        temperature: float,
    ) -> Tensor:
        """Cross-entropy of words' first tokens, and the divergence of real tokens from the teacher's softened logits."""
        logits, terms = outputs[0], list[Tensor]()
        if teacher is not None:
            real = mask.bool()
            terms.append(distilled(logits[real], teacher[0][real], temperature))
        if labels is not None:
            known = labels != IGNORED
            summed = functional.cross_entropy(logits[known], labels[known], reduction="sum")
            terms.append(summed / known.sum().clamp(min=1))
        return total(terms)

    def probe(
        self,
        outputs: Outputs,
        inputs: Mapping[str, Tensor],
        extras: Mapping[str, Any],
        generator: torch.Generator,
    ) -> Tensor:
        """Twice the Kullback-Leibler divergence of the tags of words' first tokens, to first order."""
        places = [(line, int(place)) for line, own in enumerate(extras["first_tokens"]) for place in own if place >= 0]
        lines, columns = zip(*places, strict=True) if places else ((), ())
        return fisher(outputs[0][list(lines), list(columns)], generator)


def _placed(reader: Reader, split: Split, max_tokens: int) -> tuple[list[Encoding], list[NDArray[np.int64]]]:
    """Every sentence as tokens, and the places [words] of its words' first tokens."""
    encoded = tokenised(reader.tokenizer, [(reader.prompt + text,) for (text,) in split.texts], max_tokens=max_tokens)
    lines = zip(encoded, split.texts, strict=True)
    first = [first_tokens(line, text, len(reader.prompt)) for line, (text,) in lines]
    if first and not any((places >= 0).any() for places in first):
        raise InputError(
            f"{type(reader.tokenizer).__name__} does not say which characters its tokens stand for: words cannot be tagged\n"
            "use a tokenizer with offsets (tokenizer.json)"
        )
    return encoded, first


def first_tokens(encoding: Encoding, text: str, before: int = 0) -> NDArray[np.int64]:
    """The place [words] of the first token that stands for a character of each word of a text, -1 where none does.

    Words are what spaces separate; `before` characters of a prompt stand before the text.
    """
    word_at = np.full(before + len(text), -1, dtype=np.int64)
    count, start = 0, 0
    for gap in (*SPACE.finditer(text), None):
        end = len(text) if gap is None else gap.start()
        if end > start:
            word_at[before + start : before + end] = count
            count += 1
        start = len(text) if gap is None else gap.end()
    first = np.full(count, -1, dtype=np.int64)
    for place, (begin, end) in enumerate(encoding.offsets):
        for word in set(word_at[begin:end].tolist()) - {-1}:
            if first[word] < 0:
                first[word] = place
    return first


def _token_labels(tokens: int, places: NDArray[np.int64], tags: Sequence[int]) -> NDArray[np.int64]:
    """Tag ids [tokens] at words' first tokens, `IGNORED` elsewhere."""
    labels = np.full(tokens, IGNORED, dtype=np.int64)
    for place, tag in zip(places.tolist(), tags, strict=True):
        if place >= 0 and labels[place] == IGNORED:
            labels[place] = tag
    return labels
