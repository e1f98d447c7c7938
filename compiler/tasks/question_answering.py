"""Extractive question answering: a span of a text that answers a question, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compiler.data import Split
from compiler.data.questions import (
    answer_columns,
    article_numbers,
    question_columns,
    read_answers,
)
from compiler.data.table import shorten
from compiler.data.texts import read_texts
from compiler.tasks.batches import Batches, Reader, batched
from compiler.tasks.chance import surely_better
from compiler.tasks.losses import Outputs, classification_loss
from compiler.tasks.metric import Metric
from compiler.tasks.probes import fisher
from compiler.tasks.route import Route
from compiler.tasks.spans import LONGEST, best_spans, best_windows, golds, overlap, same, spelt
from compiler.tasks.task import Asked, Card, Reading, Task
from compiler.tasks.tokenising import unchanged
from targets.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Encoding

    from compiler.data.questions import QuestionColumns
    from compiler.data.table import Table

Array = NDArray[Any]

STRIDE = 128
"""Tokens of the context that a window shares with the one before it, at most."""

_PADDING = -1e4
"""A logit that is never the largest, and finite in half precision."""


def stride_of(max_tokens: int) -> int:
    """Tokens that windows of so many tokens share: 128, but a third of the window at most."""
    return min(STRIDE, max_tokens // 3)


def longest_question(reader: Reader, max_tokens: int) -> int:
    """Tokens of a question, at most: a window has room for as many tokens of the context as windows share, and one more."""
    return max_tokens - stride_of(max_tokens) - int(reader.tokenizer.num_special_tokens_to_add(pair=True)) - 1


def _facts(checkpoint: Any) -> Mapping[str, Any]:
    """How the server makes windows: as they are made here, of as many tokens as the model reads."""
    most = checkpoint.max_tokens
    return {"STRIDE": stride_of(most), "QUESTION": longest_question(checkpoint, most), "ANSWER": LONGEST}


def _spans(answers: Array, reference: Array) -> list[str]:
    """Texts of answers; that there is none is an answer where one of the questions has none."""
    none_allowed = any(not any(each["answers"]) for each in reference)
    return spelt(answers, [each["context"] for each in reference], none_allowed=none_allowed)


def _best(compare: Any, answers: Array, reference: Array) -> Array:
    """What each answer is worth [examples]: the best comparison with any of the given ones."""
    texts = _spans(answers, reference)
    return np.array(
        [
            max(compare(text, gold) for gold in golds(each["answers"]))
            for text, each in zip(texts, reference, strict=True)
        ]
    )


def _mean(compare: Any, answers: Array, reference: Array) -> float:
    return float(_best(compare, answers, reference).mean())


class QuestionAnswering(Task):
    """The span of a context that answers a question; answers are [N, 4] (`compiler.tasks.spans`), labels SQuAD's answers as objects.

    A context that is longer than the network reads is read in windows, which share `stride_of` tokens; the answer is that of the
    window whose span scores best. Such windows are the lines of a batch. References are objects {"context", "answers"}.
    """

    name = "question_answering"
    words = "question answering"
    auto_class = "AutoModelForQuestionAnswering"
    head = "QuestionAnswering"
    output_names = ("start_logits", "end_logits")
    grouped = True
    route = Route(
        file="question_answering",
        paths=("/answer",),
        outputs=("start_logits", "end_logits"),
        example='{"question": "a question", "context": "a text that answers it"}',
        facts=_facts,
    )
    metrics = (
        Metric(
            name="f1",
            description="F1 of the words of the answer, by SQuAD's definition",
            score=partial(_mean, overlap),
            values=partial(_best, overlap),
        ),
        Metric(
            name="exact_match",
            description="share of answers that are one of the given ones, by SQuAD's definition",
            score=partial(_mean, same),
            values=partial(_best, same),
        ),
    )
    card = Card(
        pipeline="question-answering",
        library="transformers",
        optimum="ORTModelForQuestionAnswering",
        answers="logits of the first and the last token of the answer",
    )

    # Loading

    def label_settings(self, label_names: Sequence[str] | None) -> dict[str, Any]:
        """Two outputs a token, which transformers takes apart."""
        return super().label_settings(["start", "end"])

    def outputs_needed(self, label_names: Sequence[str] | None, outputs: int) -> int:
        """Two."""
        return 2

    # Data

    def recognises(self, table: Table, asked: Asked) -> str | None:
        """By a column of answers that says where they start, or by the model's head."""
        found = answer_columns(table)
        if found is not None:
            return f"{found[0]} holds answers and where they start in a text"
        return f"the model's head is for {self.words}" if self.name in asked.declared else None

    def read(self, tables: Mapping[str, Table], asked: Asked) -> Reading:
        """Questions, contexts and answers; those of an article, else of a context, belong together."""
        train = next(iter(tables.values()))
        columns = question_columns(train, asked.text_columns, asked.label_column)
        read = {role: _read(table, columns, shared_out=table is train) for role, table in tables.items()}
        labelled = next(iter(read.values()))[0].labels is not None
        unused = [role for role, (split, _) in read.items() if role == "test" and labelled and split.labels is None]
        splits = {role: split for role, (split, _) in read.items() if role not in unused}
        notes = [note for role in splits for note in read[role][1]]
        notes += [f"{tables[role].source} has no answers and is not used" for role in unused]
        _refuse_half_labelled(tables, splits)
        told = [] if asked.text_columns else [f"text columns inferred: {columns.question}, {columns.context}"]
        used = {columns.question, columns.context, *([columns.answers, columns.start] if labelled else [])}
        return Reading(
            task=self,
            text_columns=(columns.question, columns.context),
            label_column=columns.answers if labelled else None,
            splits=splits,
            notes=(*told, *notes),
            unused=tuple(name for name in train.columns if name not in used),
            shown=tuple(told),
        )

    def check(self, reader: Reader, split: Split, *, max_tokens: int) -> None:
        """InputError for examples without a context, and where a question leaves a context no more than windows share."""
        if any(len(texts) != 2 for texts in split.texts):
            raise InputError(
                "question answering reads a question and the context that answers it, and the data have single texts\n"
                "name both columns with --text-columns QUESTION,CONTEXT"
            )
        most = longest_question(reader, max_tokens)
        with unchanged(reader.tokenizer) as backend:
            backend.no_truncation()
            backend.no_padding()
            questions = [reader.prompt + question for question, _ in split.texts]
            lengths = [len(each.ids) for each in backend.encode_batch(questions, add_special_tokens=False)]
        long = [row for row, length in enumerate(lengths) if length > most]
        if long:
            raise InputError(
                f"{len(long)} question(s) leave no room for a context: {shorten(split.texts[long[0]][0])} has {lengths[long[0]]} "
                f"tokens\nof {max_tokens} that are read at once, a question may have {most}: shorten or remove it, or raise --seq-len"
            )

    # Encoding and judging

    def encode(self, reader: Reader, split: Split, *, max_tokens: int, batch_size: int = 32) -> Batches:
        """Windows, with the characters of the context that each token stands for ("offsets", -1 elsewhere).

        Labels are the tokens [2] that the first answer starts and ends at; the first token of all, twice, where a window lacks it.
        """
        windows = _windows(reader, split.texts, max_tokens)
        rows = np.array([row for row, encodings in enumerate(windows) for _ in encodings], dtype=np.int64)
        encoded = [encoding for encodings in windows for encoding in encodings]
        offsets = list(map(_offsets, encoded))
        extras: dict[str, Sequence[Any]] = {"offsets": offsets}
        if split.labels is not None:
            extras["labels"] = [_tokens_of(split.labels[row], each) for row, each in zip(rows, offsets, strict=True)]
        return batched(reader, encoded, max_tokens=max_tokens, batch_size=batch_size, rows=rows, extras=extras)

    def judged(self, outputs: Outputs) -> Tensor:
        """Logits of start and end [lines, tokens, 2]."""
        return torch.stack(outputs, dim=-1)

    def answers(self, judged: Tensor, inputs: Mapping[str, Tensor], extras: Mapping[str, Any]) -> NDArray[np.float32]:
        """The best span of every window [lines, 4]."""
        tokens = judged.shape[1]
        offsets = [np.pad(each, ((0, tokens - len(each)), (0, 0)), constant_values=-1) for each in extras["offsets"]]
        return best_spans(judged.float().cpu().numpy(), np.stack(offsets))

    def joined(self, rows: Sequence[NDArray[np.int64]], parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Of the windows on an example, the answer of the best."""
        return best_windows(np.concatenate(rows), np.concatenate(parts))

    def reference(self, split: Split) -> Array:
        """Contexts and the answers that were given."""
        assert split.labels is not None  # noqa: S101  it is asked for labelled splits
        return _references(split, [each["text"] for each in split.labels])

    def dense_reference(self, answers: Array, split: Split) -> Array:
        """Contexts and the dense model's answers."""
        texts = spelt(answers, [context for _, context in split.texts], none_allowed=True)
        return _references(split, [[text] if text else [] for text in texts])

    def doubt(self, metric: Metric, answers: Array, split: Split, names: Sequence[str]) -> str | None:
        """One answer for all, or no better than the first words of every context, or than no answer."""
        reference = self.dense_reference(answers, split) if split.labels is None else self.reference(split)
        said = set(_spans(answers, reference))
        if len(said) == 1 and len(set(split.texts)) > 1:
            answer = shorten(said.pop() or "no answer")
            return f"the dense model answers {answer} to each of {len(split):,} validation questions"
        if split.labels is None:
            return None
        found, blind = _best(overlap, answers, reference), _blind(reference)
        if surely_better(found - blind, float(found.mean() - blind.mean())):
            return None
        return (
            f"the dense model is at chance: F1 {found.mean():.3f} on {len(split):,} validation questions, where answering without "
            f"reading them gives {blind.mean():.3f}; check that the model was trained to find answers in such texts"
        )

    # Learning

    def loss(
        self,
        outputs: Outputs,
        mask: Tensor,
        labels: Tensor | None,
        teacher: Outputs | None,
        temperature: float,
    ) -> Tensor:
        """Half the sum of what start and end cost: cross-entropy over real tokens, and the divergence from the teacher's."""
        ours = _over_real(outputs, mask)
        theirs: Sequence[Tensor | None] = (None, None) if teacher is None else _over_real(teacher, mask)
        places: Sequence[Tensor | None] = (None, None) if labels is None else labels.unbind(dim=1)
        sides = [classification_loss(*side, temperature) for side in zip(ours, places, theirs, strict=True)]
        return (sides[0] + sides[1]) / 2

    def probe(
        self,
        outputs: Outputs,
        inputs: Mapping[str, Tensor],
        extras: Mapping[str, Any],
        generator: torch.Generator,
    ) -> Tensor:
        """Twice the divergence of the predicted places of start and end among real tokens, to first order."""
        start, end = _over_real(outputs, inputs["attention_mask"])
        return fisher(start, generator) + fisher(end, generator)


def _read(table: Table, columns: QuestionColumns, *, shared_out: bool) -> tuple[Split, list[str]]:
    """Examples, and notes: on articles only where they are shared out among splits."""
    texts, changed = read_texts(table, (columns.question, columns.context))
    labels, said = read_answers(table, columns, texts)
    groups, told = article_numbers(table, columns.title, texts)
    return Split(texts=texts, labels=labels, groups=groups), [*changed, *said, *(told if shared_out else [])]


def _refuse_half_labelled(tables: Mapping[str, Table], splits: Mapping[str, Split]) -> None:
    """InputError where one split has answers and another none."""
    without = [role for role, split in splits.items() if split.labels is None]
    if without and len(without) < len(splits):
        raise InputError(
            f"{tables[without[0]].source} has no answers, which the other files have.\nAdd them, or leave the file out."
        )


def _windows(reader: Reader, texts: Sequence[tuple[str, ...]], max_tokens: int) -> list[list[Encoding]]:
    """The windows on every example, in order: the whole question and a part of the context each."""
    with unchanged(reader.tokenizer) as backend:
        backend.enable_truncation(max_tokens, stride=stride_of(max_tokens), strategy="only_second", direction="right")
        backend.no_padding()
        encodings = backend.encode_batch([(reader.prompt + question, context) for question, context in texts])
        return [[encoding, *encoding.overflowing] for encoding in encodings]


def _offsets(window: Encoding) -> NDArray[np.int64]:
    """Characters [tokens, 2] of the context that tokens stand for; -1 for those of the question and special ones."""
    in_context = np.array([part == 1 for part in window.sequence_ids])
    return np.where(in_context[:, None], np.array(window.offsets, dtype=np.int64), -1)


def _tokens_of(answers: Mapping[str, Any], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """The tokens [2] of a window that the first answer starts and ends at; the first token, twice, where it is not all in it."""
    nowhere = np.zeros(2, dtype=np.int64)
    known = np.flatnonzero(offsets[:, 0] >= 0)
    if not answers["text"] or not len(known):
        return nowhere
    text, at = answers["text"][0], answers["answer_start"][0]
    start, end = at + len(text) - len(text.lstrip()), at + len(text.rstrip())
    covered = known[(offsets[known, 0] < end) & (offsets[known, 1] > start)]
    if not len(covered) or offsets[known[0], 0] > start or offsets[known[-1], 1] < end:
        return nowhere
    return np.array([covered[0], covered[-1]])


def _references(split: Split, answers: Sequence[Sequence[str]]) -> Array:
    found = np.empty(len(split), dtype=object)
    for row, ((_, context), given) in enumerate(zip(split.texts, answers, strict=True)):
        found[row] = {"context": context, "answers": list(given)}
    return found


def _blind(reference: Array) -> Array:
    """F1 [examples] of what needs no reading: the first words of every context, as many as answers mostly have, or no answer."""
    counts = [len(text.split()) for each in reference for text in each["answers"][:1]]
    words = int(np.median(counts)) if counts else 1
    first = [
        max(overlap(" ".join(each["context"].split()[:words]), gold) for gold in golds(each["answers"]))
        for each in reference
    ]
    none = [float(not any(each["answers"])) for each in reference]
    return max(np.array(first), np.array(none), key=lambda values: float(values.mean()))


def _over_real(outputs: Outputs, mask: Tensor) -> tuple[Tensor, ...]:
    """Logits [lines, tokens] of start and end, with padding never the largest."""
    return tuple(logits.masked_fill(mask == 0, _PADDING) for logits in outputs)
