"""A task: everything that depends on what a model is for, in one object."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compiler.data import Split
from compiler.tasks.batches import Batches, Reader, encode, joined
from compiler.tasks.losses import Outputs
from compiler.tasks.metric import Metric, against_dense
from compiler.tasks.route import Route
from targets.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from compiler.data.columns import Columns
    from compiler.data.table import Table
    from compiler.data.text_data import Labels
    from compiler.tasks.scores import ScoreScale
    from compiler.tasks.vector_pairs import VectorPairs

Array = NDArray[Any]

_OF_TOKENS = 3  # axes of outputs that each token has


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the user and the model say about data, before any is read.

    `declared` are the names of the tasks that the head of the model may have been trained for; `chosen` says that the user named
    the task.
    """

    text_columns: tuple[str, ...] = ()
    label_column: str | None = None
    declared: tuple[str, ...] = ()
    chosen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """Labels by role of a table (train, validation, test), the classes that they number, and notes."""

    labels: Mapping[str, Labels]
    names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The examples of tables, by role, before missing splits are drawn.

    `shown` are the notes that a description says in lines of their own; `unused` columns gave no text and no label.
    """

    task: Task
    text_columns: tuple[str, ...]
    label_column: str | None
    splits: Mapping[str, Split]
    label_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    numbered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Words of a model card: hub's pipeline tag, the library that loads it first, Optimum's class, and what answers are.

    `optimum_arguments` are those of its `from_pretrained` beside the usual ones, `limits` what the graph does not do.
    """

    pipeline: str
    library: str
    optimum: str
    answers: str
    optimum_arguments: str = ""
    limits: tuple[str, ...] = ()


def undecided(source: str, found: Mapping[str, str]) -> InputError:
    """The refusal of data that several tasks fit equally well: reasons by task, in words that follow "because"."""
    told = " and ".join(f"{name} (because {why})" for name, why in found.items())
    return InputError(f"{source} fits {told}.\nSay which with --task.")


class Task(ABC):
    """One object a task; `compiler.tasks.TASKS` lists them. What no task changes stands elsewhere and asks it.

    A network's *outputs* are tensors by name, those of its graph. Of these, `judged` takes what is scored, `answers` makes what is
    kept of it for each example, and metrics compare that with a *reference*: labels, or answers of the dense model.

    Attributes:
        name: in flags, files and keys.
        words: what sentences call it.
        auto_class: of transformers, that loads a model for it.
        head: how the names of such classes end in `architectures` ("SequenceClassification"); empty for the encoder alone.
        other_heads: endings of other classes whose heads hold the same one.
        pretrained_head: whether the head is one of pre-training, which is nothing that fine-tuning must make.
        causal: whether tokens must see only those before them, for outputs to mean what they say.
        embeds_as_well: whether texts alone are asked of a model with such a head as often for its embeddings.
        output_names: of the graph, in order: those under which Optimum's and sentence-transformers' loaders look.
        metrics: the first is the one by default.
        needs_labels: whether labels are read from a column: True for always, None where there is one; False where they may be
            none, or the texts themselves.
        learns_from_labels: whether a training without a teacher is one.
        decides: whether answers are decisions on classes (`decisions`).
        guides: whether answers need the dense model's outputs on the same batch (`guide`).
        grouped: whether one unit of a metric spans several lines, so that no first look at some batches is taken.
        units: what a metric's values are of, in words: examples, or what the task judges as one.
        draws: whether training draws what is predicted anew in every epoch (`drawn`).
        word_outputs: whether outputs are logits of all words, so that each is learnt and the table of words may be the head.
        batch_size: examples of a batch in training, unless the user says how many.
        pairs: whether an example may have two texts, that are read as one line.
        polish_share: epochs of a polish, of those of a run.
        polish_rate: learning rate of a polish.
        keep: share of the dense metric, without labels of the likeness, that `best` keeps unless a budget says otherwise.
        route: how it is served.
        card: words of a model card.
    """

    name: ClassVar[str]
    words: ClassVar[str]
    auto_class: ClassVar[str]
    head: ClassVar[str]
    other_heads: ClassVar[tuple[str, ...]] = ()
    pretrained_head: ClassVar[bool] = False
    causal: ClassVar[bool] = False
    embeds_as_well: ClassVar[bool] = False
    output_names: ClassVar[tuple[str, ...]] = ("logits",)
    metrics: ClassVar[tuple[Metric, ...]]
    needs_labels: ClassVar[bool | None] = True
    learns_from_labels: ClassVar[bool] = True
    decides: ClassVar[bool] = False
    guides: ClassVar[bool] = False
    grouped: ClassVar[bool] = False
    units: ClassVar[str] = "examples"
    draws: ClassVar[bool] = False
    word_outputs: ClassVar[bool] = False
    batch_size: ClassVar[int] = 32
    pairs: ClassVar[bool] = True
    polish_share: ClassVar[float] = 0.5
    polish_rate: ClassVar[float] = 5e-5
    keep: ClassVar[float] = 0.99
    route: ClassVar[Route]
    card: ClassVar[Card]

    def __repr__(self) -> str:
        """The name: keys of the store are made of it."""
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        """There is one object a task in every process."""
        from compiler.tasks import task_named

        return task_named, (self.name,)

    # Loading

    def serves(self, settings: Mapping[str, Any], name: str) -> bool:
        """Whether a declared head of class `head` is of this task, by what config.json says of its outputs.

        `name` is what messages call the file. InputError where its settings contradict each other.
        """
        return True

    def label_settings(self, label_names: Sequence[str] | None) -> dict[str, Any]:
        """Settings of the configuration that declare a new head for these labels."""
        names = list(label_names or ())
        return {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: i for i, name in enumerate(names)},
        }

    def outputs_needed(self, label_names: Sequence[str] | None, outputs: int) -> int:
        """How many outputs a head must have for these labels; `outputs` are those that a declared one has."""
        return len(label_names) if label_names else outputs

    def scale(self, backbone: nn.Module, labels: Labels) -> ScoreScale | None:
        """The scale of training labels [N], as the head of a network can have it: a new head starts there, and trains in standard units."""
        return None

    # Data

    def recognises(self, table: Table, asked: Asked) -> str | None:
        """Why a table is of this task, in words that follow "because"; None where its columns do not show it."""
        return None

    def read(self, tables: Mapping[str, Table], asked: Asked) -> Reading:
        """The examples of tables by role. InputError, with lines, for what cannot be used."""
        from compiler.tasks.plain import read_plain

        return read_plain(tables, asked, self)

    def columns_in_use(self, tables: Mapping[str, Table], columns: Columns, asked: Asked) -> Columns:
        """The columns that the task reads of those that were found."""
        return columns

    def label(self, tables: Mapping[str, Table], column: str) -> Labelled:
        """Labels in a column of values, by role. InputError, with lines, for values that are no labels of the task."""
        raise NotImplementedError

    def renumbered(self, labels: Labels, ids: NDArray[np.int64], count: int) -> Labels:
        """Labels whose classes got other numbers, `ids` by the old ones, of `count` in all."""
        return ids[labels]

    def check(self, reader: Reader, split: Split, *, max_tokens: int) -> None:  # noqa: B027  most tasks can read any text
        """InputError for examples that cannot be encoded; it is asked before anything of a run is computed."""

    def examples(self, split: Split) -> Split:
        """A split as a network reads and learns it."""
        return split

    def prepared(self, split: Split, reader: Reader, *, max_tokens: int) -> Split:
        """A split whose texts a network of `max_tokens` reads at once, each an example."""
        return split

    def at_most(self, examples: int, *, max_tokens: int) -> int:
        """How many prepared examples a limit on examples comes to."""
        return examples

    # Encoding and judging

    def lines_at_once(self, reader: Reader, *, max_tokens: int) -> int:
        """Lines of a batch, at most, so that its outputs fit into memory."""
        return 32

    label_type: ClassVar[Any] = np.int64

    def encode(self, reader: Reader, split: Split, *, max_tokens: int, batch_size: int = 32) -> Batches:
        """Batches of a split; with its labels, if it has any, as the loss takes them."""
        labels = None if split.labels is None else {"labels": list(np.array(split.labels, dtype=self.label_type))}
        return encode(reader, split.texts, max_tokens=max_tokens, batch_size=batch_size, extras=labels)

    def drawn(self, reader: Reader, tokens: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
        """A line of a training batch, int64 [tokens] per input name and "labels", as one epoch has it."""
        return dict(tokens)

    def encoding_notes(self, reader: Reader, splits: Mapping[str, Split], *, max_tokens: int) -> tuple[str, ...]:
        """Notes on what the limit of tokens takes from judged splits, by name; mostly none."""
        return ()

    def judged(self, outputs: Outputs) -> Tensor:
        """What is scored of a network's outputs: [lines, values], or [lines, tokens, values] of tokens."""
        return outputs[-1]

    def answers(self, judged: Tensor, inputs: Mapping[str, Tensor], extras: Mapping[str, Any]) -> NDArray[np.float32]:
        """What is kept of a batch [lines, values]: as little as the metrics need."""
        return judged.float().cpu().numpy()

    def sample(self, judged: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """A few of the judged values of each line [lines, values], by which two graphs are held against each other.

        Where there are values of every token they are those of the one in the middle.
        """
        if judged.ndim < _OF_TOKENS:
            return judged
        return judged[torch.arange(len(judged), device=judged.device), inputs["attention_mask"].sum(dim=1) // 2]

    def joined(self, rows: Sequence[NDArray[np.int64]], parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Answers [examples, values] in the order of the examples, from those of the lines of every batch."""
        return joined(rows, parts)

    def guide(self, judged: Tensor, inputs: Mapping[str, Tensor], extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """What `answers` needs of the dense model's outputs on a batch, to be put beside its extras; mostly nothing."""
        return {}

    def reference(self, split: Split) -> Array:
        """What labelled examples are held against [examples, ...]."""
        assert split.labels is not None  # noqa: S101  it is asked for labelled splits
        return split.labels

    @abstractmethod
    def dense_reference(self, answers: Array, split: Split) -> Array:
        """What unlabelled examples are held against, from the dense model's answers."""

    def decisions(self, answers: Array) -> NDArray[np.int64] | None:
        """Classes that were decided on [examples, decisions], by number, -1 for none; None where a task decides on none."""
        return None

    def decided(self, reference: Array) -> NDArray[np.int64]:
        """The same of a reference, of a task that decides."""
        raise NotImplementedError

    def metrics_of(self, *, labelled: bool) -> tuple[Metric, ...]:
        """The metrics of a run; without labels they are against the dense model, under names that say so."""
        return self.metrics if labelled else tuple(map(against_dense, self.metrics))

    def truncated(self, dimensions: int) -> tuple[Metric, ...]:
        """The metrics of answers cut to so many dimensions, of tasks whose answers may be cut."""
        return ()

    def pairs_of(self, split: Split, columns: Sequence[str]) -> VectorPairs | None:
        """What shows the use of finished networks beside the metric, of a split as it was read; None where nothing does."""
        return None

    def metric(self, name: str | None = None, *, labelled: bool = True) -> Metric:
        """The first metric, or the named one. InputError lists them."""
        of_run = self.metrics_of(labelled=labelled)
        known = {metric.name: metric for metric in of_run}
        aliases = {old.name: new for old in self.metrics for new in of_run if new.score is old.score}
        if name is None:
            return of_run[0]
        if name not in known | aliases:
            raise InputError(f"metric {name!r} does not fit a {self.words} task; known: {', '.join(known)}")
        return (aliases | known)[name]

    def bound(self, metric: Metric, label_names: Sequence[str]) -> Metric:
        """A metric that knows the names of the model's classes, where they decide what counts; mostly the metric itself."""
        return metric

    def doubt(self, metric: Metric, answers: Array, split: Split, names: Sequence[str]) -> str | None:
        """What is wrong with a dense model of these answers; None where it is better than chance for sure.

        Without labels its own answers are the reference: they are never wrong, and of no use where all are the same.
        """
        return None

    # Learning

    @abstractmethod
    def loss(
        self, outputs: Outputs, mask: Tensor, labels: Tensor | None, teacher: Outputs | None, temperature: float
    ) -> Tensor:
        """A scalar, lower is better: outputs against labels, a teacher's outputs, or both.

        `mask` is [lines, tokens], 1 where a token is real. ValueError where there is neither.
        """

    @abstractmethod
    def probe(
        self, outputs: Outputs, inputs: Mapping[str, Tensor], extras: Mapping[str, Any], generator: torch.Generator
    ) -> Tensor:
        """A scalar whose gradient, squared and averaged over draws, weighs errors inside the network at its output.

        It is the sum over lines of outputs times a random covector whose second moment is the metric of the outputs: the identity
        for scores, the Fisher matrix of its own predictions for classes.
        """
