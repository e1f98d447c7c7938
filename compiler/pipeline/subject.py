"""What is compiled: a checkpoint with its data and the yardsticks that judge its sub-networks."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compiler.data import Split, TextData, demo_data
from compiler.evaluation import Beside, Yardstick, answers, make_yardstick
from compiler.execution import CPU, ComputeDevice, on_host, placed
from compiler.export import declared_tasks, is_compiled, load_model, refuse_two_tasks
from compiler.families import Checkpoint
from compiler.families.checkpoint import resolve
from compiler.families.embedded import embedded_model
from compiler.families.task_model import TaskModel
from compiler.pipeline.asked import (
    check_decisions,
    check_length,
    check_training,
    embedding_dimensions,
    settle_effort,
)
from compiler.pipeline.calibration_texts import FEWEST_RANGE_TEXTS, LIKENESS_EXAMPLES, RANGE_TEXTS, deal
from compiler.pipeline.labels import aligned, head_names
from compiler.pipeline.options import Options
from compiler.tasks import Batches, Metric, Task, encode, read_data, task_named
from compiler.tasks.vector_pairs import VectorPairs
from targets import STATIC
from targets.errors import InputError

SEARCH_EXAMPLES, FINAL_EXAMPLES = 1000, 4000
"""Of a validation split, at most: what candidates are judged on, and of a labelled one the networks that are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A checkpoint, its data and its metric. `effort` is settled: fast, balanced or thorough.

    `train_dense` says that the dense model is fine-tuned first; `max_tokens` is where texts are cut. `pairs`, by split, and
    `embedding_dims` are what finished embedding models are looked at beside. `compute` is where the checkpoint's model is; where
    that is no CPU, `exported` is its twin there.
    """

    checkpoint: Checkpoint
    data: TextData
    metric: Metric
    effort: str
    train_dense: bool
    max_tokens: int
    notes: tuple[str, ...]
    pairs: Mapping[str, VectorPairs] = field(default_factory=dict)
    embedding_dims: tuple[int, ...] = ()
    compute: ComputeDevice = CPU
    exported: TaskModel | None = None

    def key(self, **more: Any) -> dict[str, Any]:
        """What every stored result depends on, with what this one depends on besides."""
        libraries = {name: metadata.version(name) for name in ("torch", "transformers")}
        about = {
            "model": self.checkpoint.digest,
            "recipe": repr(self.checkpoint.model.recipe),
            "data": self.data.sha256,
            "task": self.task.name,
            "metric": self.metric.name,
            "max_tokens": self.max_tokens,
            "libraries": libraries,
        }
        drawn = {"drawn": "every epoch"} if self.task.draws else {}
        return about | drawn | self.compute.arithmetic | more

    @property
    def task(self) -> Task:
        """What the model is for."""
        return self.checkpoint.task

    def dense_outputs(self, batches: Batches) -> NDArray[np.float32]:
        """What is kept of the dense model's outputs [examples, values]."""
        return answers(self.task, batches, self.run)

    def run(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """What is judged of the dense model's outputs."""
        return self.task.judged(self.checkpoint.model(**placed(inputs, self.compute.device)))

    def on(self, compute: ComputeDevice) -> "Subject":
        """The same, learning on another device."""
        if compute.is_cpu:
            return self
        model, checkpoint = self.checkpoint.model, self.checkpoint.on(compute.device)
        return replace(self, checkpoint=checkpoint, compute=compute, exported=model)

    def set_dense(self, parameters: Mapping[str, Tensor]) -> None:
        """Give the dense model trained weights."""
        for model in filter(None, (self.checkpoint.model, self.exported)):
            model.backbone.load_state_dict(dict(parameters), strict=False)

    @property
    def labelled(self) -> bool:
        """Whether there are labels; else networks are judged by their likeness to the dense model."""
        return self.data.train.labels is not None

    def yardstick(
        self, split: Split, dense: Callable[[Batches], Any] | None = None, name: str | None = None
    ) -> Yardstick:
        """The metric on a split; where it is likeness, on some examples of it.

        `dense` gives the dense model's answers, where they are known. A split with a name ("validation", "test") has what is looked
        at beside of finished networks.
        """
        judged = split if self.labelled else split.some(self._at_most(LIKENESS_EXAMPLES))
        return make_yardstick(
            self.checkpoint,
            judged,
            self.metric,
            max_tokens=self.max_tokens,
            dense=dense or self.dense_outputs,
            more=[metric for size in self.embedding_dims for metric in self.task.truncated(size)] if name else (),
            beside=self._beside(name),
        )

    def _beside(self, name: str | None) -> Beside | None:
        pairs = self.pairs.get(name or "")
        if pairs is None:
            return None
        return Beside.of(self.checkpoint, pairs, max_tokens=self.max_tokens, dimensions=self.embedding_dims)

    def range_texts(self, precisions: Collection[str]) -> Batches:
        """A few texts of the train split: what the ranges of statically quantised activations are taken on.

        InputError where there are too few for a precision among these.
        """
        texts = self.data.train.some(RANGE_TEXTS).texts
        if STATIC in precisions and len(texts) < FEWEST_RANGE_TEXTS:
            raise InputError(
                f"{STATIC} takes the ranges of activations on the train split: {len(texts)} texts are too few, "
                f"{FEWEST_RANGE_TEXTS} are the least\ngive more --data, or a precision that needs none"
            )
        lines = self.task.lines_at_once(self.checkpoint, max_tokens=self.max_tokens)
        return encode(self.checkpoint, texts, max_tokens=self.max_tokens, batch_size=lines)

    def _at_most(self, examples: int) -> int:
        return self.task.at_most(examples, max_tokens=self.max_tokens)

    def search_split(self) -> Split:
        """Validation, or some examples of it."""
        return self.data.validation.some(self._at_most(SEARCH_EXAMPLES))

    def final_split(self) -> Split:
        """The same for networks that are written: of more examples."""
        return self.data.validation.some(self._at_most(FINAL_EXAMPLES if self.labelled else LIKENESS_EXAMPLES))


def _read(options: Options, folder: Path) -> tuple[TextData, Task]:
    """The data, and the task: without labels a trained head is still a task, scored by its likeness."""
    heads = declared_tasks(folder, options.task)
    asked = options.task
    if asked == "auto" and is_compiled(folder) and (not heads or heads[0].pretrained_head):
        asked = heads[0].name if heads else "embedding"
    if options.demo:
        return demo_data(options.seed), task_named("embedding")
    if options.data is None:
        raise InputError("no data: give --data FILE, FOLDER or hub name\nor try the built-in example: compile --demo")
    data = read_data(
        options.data,
        task=asked,
        text_columns=options.text_columns,
        label_column=options.label_column,
        encoding=options.encoding,
        header=options.header,
        declared=[task.name for task in heads],
        seed=options.seed,
    )
    if data.label_names is not None or options.labels is not None:
        names = head_names(folder, task_named(data.task), trust_remote_code=options.trust_remote_code)
        data = aligned(data, names, options.labels)
    if asked == "auto" and data.train.labels is None:
        refuse_two_tasks(folder)
    if asked != "auto" or not heads or data.train.labels is not None or task_named(data.task) in heads:
        return data, task_named(data.task)
    return _of_head(data, heads[0]), heads[0]


def _of_head(data: TextData, head: Task) -> TextData:
    """Data without labels for a trained head: it is the head that says the task."""
    notes = [note for note in data.notes if not note.startswith("task inferred")]
    return replace(data, task=head.name, notes=(*notes, f"task: {head.words}, that of the model's own head"))


def _pairs(data: TextData, task: Task) -> dict[str, VectorPairs]:
    """What finished networks are looked at beside, of both splits or of none."""
    found = {
        name: task.pairs_of(split, data.text_columns)
        for name, split in (("validation", data.validation), ("test", data.test))
    }
    return {name: pairs for name, pairs in found.items() if pairs is not None} if all(found.values()) else {}


def _flatten_pairs(data: TextData) -> TextData:
    """Texts one by one, each once, for a task that reads no pairs."""

    def flat(split: Split) -> Split:
        texts = tuple(dict.fromkeys((text,) for texts in split.texts for text in texts))
        return Split(texts=texts, labels=None)

    return replace(data, train=flat(data.train), validation=flat(data.validation), test=flat(data.test))


def _prepared(data: TextData, checkpoint: Checkpoint, max_tokens: int) -> TextData:
    """Data whose examples are texts that the model reads at once; notes that a split is small go where it no longer is."""

    def prepared(split: Split) -> Split:
        return checkpoint.task.prepared(split, checkpoint, max_tokens=max_tokens)

    ready = replace(data, train=prepared(data.train), validation=prepared(data.validation), test=prepared(data.test))
    grown = tuple(f"{r} has only" for r in ("validation", "test") if len(getattr(ready, r)) > len(getattr(data, r)))
    return replace(ready, notes=tuple(note for note in data.notes if not note.startswith(grown)))


def load_subject(options: Options) -> Subject:
    """Read the model and the data and settle what is to be done with them."""
    source = str(embedded_model()) if options.demo else options.model
    folder = resolve(source)
    data, task = _read(options, folder)
    labels = data.train.labels
    checkpoint = load_model(
        folder,
        task=task.name,
        label_names=data.label_names,
        pooling=options.pooling,
        prompt=options.prompt,
        labels=labels,
        seed=options.seed,
        trust_remote_code=options.trust_remote_code,
    )
    if not is_compiled(folder):
        checkpoint = replace(checkpoint, name="all-MiniLM-L6-v2" if options.demo else _display_name(options.model))
    pairs = _pairs(data, task)
    if not task.pairs and not (task.learns_from_labels and labels is not None):
        data = _flatten_pairs(data)
    if options.traffic is None:
        check_length(checkpoint, options.seq_len)
    max_tokens, dealt = min(checkpoint.max_tokens, max(options.seq_len, 128)), list[str]()
    data = _prepared(data, checkpoint, max_tokens)
    labelled = labels is not None
    effort, train_dense = settle_effort(options, labelled=labelled, head_trained=checkpoint.head_trained, task=task)
    check_training(options, effort=effort, trained=labelled and task.learns_from_labels)
    for split in (data.train, data.validation, data.test):
        task.check(checkpoint, split, max_tokens=max_tokens)
    if data.train.labels is None and effort == "fast":
        data, dealt = deal(data, checkpoint, max_tokens=max_tokens, seed=options.seed)
    check_decisions(options, task)
    judged = {"validation": data.validation, "test": data.test}
    limits = task.encoding_notes(checkpoint, judged, max_tokens=max_tokens)
    notes = [*data.notes, *checkpoint.notes, *dealt, *limits]
    if is_compiled(folder):
        notes.append("the model was compiled before: it is the baseline of every ratio here, called dense")
    if task.learns_from_labels and not labelled:
        notes.append("no labels: the metric is agreement with the dense model")
    most = task.at_most(LIKENESS_EXAMPLES, max_tokens=max_tokens)
    if not labelled and max(len(data.validation), len(data.test)) > most:
        what = "networks are judged" if task.word_outputs else "likeness to the dense model is taken"
        notes.append(f"{what} on {most:,} examples of a split")
    if labelled and len(data.validation) > FINAL_EXAMPLES:
        notes.append(f"networks are judged on {FINAL_EXAMPLES:,} of {len(data.validation):,} validation examples")
    return Subject(
        checkpoint=checkpoint,
        data=data,
        metric=task.metric(options.metric, labelled=data.train.labels is not None),
        effort=effort,
        train_dense=train_dense,
        max_tokens=max_tokens,
        notes=tuple(notes),
        pairs=pairs,
        embedding_dims=embedding_dimensions(options, checkpoint),
    )


def _display_name(model: str) -> str:
    return Path(model).resolve().name if Path(model).is_dir() else model


def detached(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters without their gradients' history."""
    return {name: tensor.detach() for name, tensor in parameters.items()}


def as_arrays(parameters: Mapping[str, Tensor]) -> dict[str, Any]:
    """Parameters as arrays, for the store and for ONNX files."""
    return {name: tensor.contiguous().numpy() for name, tensor in on_host(parameters).items()}


def as_tensors(arrays: Mapping[str, Any]) -> dict[str, Tensor]:
    """Arrays from the store as tensors, in torch's own memory: its alignment decides the last bits of a product."""
    return {name: torch.tensor(array) for name, array in arrays.items()}
