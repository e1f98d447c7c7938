"""Train a super-network, fine-tune the dense network it is compared with, and polish sub-networks."""

import copy
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, distributed

from compiler.data import Split
from compiler.families import Checkpoint, TaskModel
from compiler.families.tied import assign
from compiler.slicing import build_skeleton, has_bf16
from compiler.spaces import Space, Subnet
from compiler.spaces.sampling import CostFunction
from compiler.supernet.checkpoints import last_checkpoint, shapes_of
from compiler.supernet.dropout import ByteDropout
from compiler.supernet.examples import Examples, plan_batches
from compiler.supernet.strategies import (
    WHOLE,
    Plan,
    Turn,
    check_strategy,
    plan_step,
    stratified_sampler,
    uniform_sampler,
)
from compiler.supernet.words import words_only
from targets.errors import InputError

WRITTEN_OUT_TOKENS = 128
"""Of the longest text at most, for attention to be computed by plain products where a CPU trains in bfloat16: forward and
backward, they take a fifth of the time of PyTorch's fused kernel at 14 tokens, a third at 128 and more than it at 256."""

Progress = Callable[[float, str], None]
"""Share done, from 0 to 1, and what to say about it."""

StepPlanner = Callable[[int, int], Plan]
"""The turns of a step, from its number (0-based) and the number of all steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """How to train. `epochs` may be a fraction; `warmup_share` is the part of all steps with a rising learning rate.

    `batch_size` is examples a backward pass, `accumulation` the batches of an optimiser step. `sampling` says how random
    sub-networks are drawn: "stratified" over their cost, or "uniform" as in the paper. `bf16` is autocast: weights and
    optimiser stay float32; it is ignored where the processor has no such arithmetic. `dropout` replaces the model's own
    rates; 0 also saves the time of drawing the masks.
    """

    strategy: str = "full"
    sampling: Literal["stratified", "uniform"] = "stratified"
    epochs: float = 5
    learning_rate: float = 5e-5
    batch_size: int = 32
    accumulation: int = 1
    warmup_share: float = 0.06
    weight_decay: float = 0.01
    temperature: float = 10.0
    random_subnets: int = 2
    seed: int = 0
    bf16: bool = True
    dropout: float | None = None


def train_supernet(
    checkpoint: Checkpoint,
    split: Split,
    *,
    space: Space,
    cost: CostFunction,
    options: TrainingOptions,
    max_tokens: int,
    work_dir: Path,
    progress: Progress,
) -> dict[str, Tensor]:
    """Train the weights that all sub-networks of a space share; the trained parameters by backbone name.

    Without labels, and for embedding models, every network learns from a frozen copy of the checkpoint. The checkpoint
    itself is left as it is. `work_dir` belongs to this run alone: a run that was killed continues from there and, on a
    CPU, ends with the same bits. InputError for an unknown strategy, no examples, or a loss that is not finite.
    """
    check_strategy(options.strategy)
    sampler = uniform_sampler(space) if options.sampling == "uniform" else stratified_sampler(space, cost)

    def planner(step: int, total_steps: int) -> Plan:
        return plan_step(
            options.strategy,
            space,
            sampler,
            step=step,
            total_steps=total_steps,
            seed=options.seed,
            random_subnets=options.random_subnets,
        )

    teacher = None if _learns_alone(checkpoint, split) else copy.deepcopy(checkpoint.model)
    run = _Run(checkpoint, split, options, max_tokens, work_dir, progress)
    return run.train_shared(copy.deepcopy(checkpoint.model), planner, teacher)


def fine_tune(
    checkpoint: Checkpoint,
    split: Split,
    *,
    options: TrainingOptions,
    max_tokens: int,
    work_dir: Path,
    progress: Progress,
) -> dict[str, Tensor]:
    """Fine-tune the dense network in the ordinary way: the baseline. `options.strategy` plays no part.

    Like `train_supernet` in what it returns, leaves and raises; InputError too where there are no labels.
    """
    _need_labels(checkpoint, split)
    run = _Run(checkpoint, split, options, max_tokens, work_dir, progress)
    return run.train_shared(copy.deepcopy(checkpoint.model), lambda *_: WHOLE, None)


def train_alone(
    checkpoint: Checkpoint,
    subnet: Subnet,
    parameters: Mapping[str, Tensor],
    *,
    split: Split,
    options: TrainingOptions,
    max_tokens: int,
    work_dir: Path,
    progress: Progress,
) -> dict[str, Tensor]:
    """Train one sub-network on the labels, from weights of its own that are already sliced; nothing teaches it.

    Like `fine_tune` otherwise.
    """
    from compiler.supernet.trainer import Students

    _need_labels(checkpoint, split)
    network = build_skeleton(checkpoint.model, checkpoint.architecture, subnet.shape, subnet.width)
    _assign(network, parameters)
    plan = (Turn(subnet=subnet, role="learn"),)
    run = _Run(checkpoint, split, options, max_tokens, work_dir, progress)
    run.train(Students([subnet], [network], checkpoint.architecture), lambda *_: plan, None)
    return _parameters(network)


def _learns_alone(checkpoint: Checkpoint, split: Split) -> bool:
    """Whether there is something to learn without a teacher."""
    return split.labels is not None and checkpoint.task.learns_from_labels


def _need_labels(checkpoint: Checkpoint, split: Split) -> None:
    if not _learns_alone(checkpoint, split):
        raise InputError("training without a teacher needs a task that learns from labels, and data that have them")


def polish(
    checkpoint: Checkpoint,
    teacher_parameters: Mapping[str, Tensor],
    subnets: Sequence[Subnet],
    parameters: Sequence[Mapping[str, Tensor]],
    *,
    split: Split,
    options: TrainingOptions,
    max_tokens: int,
    work_dir: Path,
    progress: Progress,
) -> list[dict[str, Tensor]]:
    """Distil sub-networks from the dense network, side by side: each batch passes the teacher once for all of them.

    `parameters` are those of each sub-network, already sliced, `teacher_parameters` those of the dense network; what
    comes back is trained, under the same names. They learn the teacher's logits or embeddings, and the labels where there
    are any; none has a part in another's gradient. Raises as `train_supernet` does.
    """
    from compiler.supernet.trainer import Students

    teacher = copy.deepcopy(checkpoint.model)
    _assign(teacher, teacher_parameters)
    networks = [build_skeleton(checkpoint.model, checkpoint.architecture, s.shape, s.width) for s in subnets]
    for network, own in zip(networks, parameters, strict=True):
        _assign(network, own)
    plan = tuple(Turn(subnet=subnet, role="learn") for subnet in subnets)
    run = _Run(checkpoint, split, options, max_tokens, work_dir, progress)
    run.train(Students(subnets, networks, checkpoint.architecture), lambda *_: plan, teacher)
    return [_parameters(network) for network in networks]


def _parameters(network: TaskModel) -> dict[str, Tensor]:
    """By backbone name, on the CPU."""
    return {name: p.detach().to("cpu", copy=True) for name, p in network.backbone.named_parameters()}


def _assign(network: TaskModel, parameters: Mapping[str, Tensor]) -> None:
    """Give a network copies of these parameters, all trainable. ValueError if any is missing, left over or misshapen."""
    names = {name for name, _ in network.backbone.named_parameters()}
    if names != set(parameters):
        odd = sorted(names ^ set(parameters))
        raise ValueError(f"parameters do not fit the network: {len(odd)} names differ, {odd[0]} among them")
    copies = {name: tensor.detach().to(torch.float32, copy=True) for name, tensor in parameters.items()}
    assign(network.backbone, copies)
    network.requires_grad_(True)


def _set_dropout(network: torch.nn.Module, rate: float) -> None:
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = rate


def _write_attention_out(network: torch.nn.Module) -> None:
    from transformers import PreTrainedModel

    for module in network.modules():
        if isinstance(module, PreTrainedModel):
            module.set_attn_implementation("eager")


@contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    """The Trainer seeds every global generator; put them back afterwards."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


@dataclass(frozen=True, slots=True)
class _Run:
    """One training run: everything but the network, the plan and the teacher."""

    checkpoint: Checkpoint
    split: Split
    options: TrainingOptions
    max_tokens: int
    work_dir: Path
    progress: Progress

    def train_shared(self, network: TaskModel, planner: StepPlanner, teacher: TaskModel | None) -> dict[str, Tensor]:
        """Train the weights that all sub-networks of a network share; its parameters."""
        from compiler.supernet.trainer import SuperNetwork

        self.train(SuperNetwork(network, self.checkpoint.architecture), planner, teacher)
        return _parameters(network)

    def train(self, model: torch.nn.Module, planner: StepPlanner, teacher: TaskModel | None) -> None:
        """Train in place what runs the sub-network of each turn."""
        from compiler.supernet.trainer import SubnetTrainer, networks_of

        options, checkpoint = self.options, self.checkpoint
        if options.dropout is not None:
            _set_dropout(model, options.dropout)
        split, labels = self.split, self.split.labels
        scale = None if labels is None else checkpoint.task.scale(checkpoint.model.backbone, labels)
        if scale is not None and labels is not None:
            split = replace(split, labels=scale.standard(labels))
        examples = Examples(checkpoint, split, max_tokens=self.max_tokens, seed=options.seed)
        if self._in_bf16 and self.device.type == "cpu" and examples.lengths.max() <= WRITTEN_OUT_TOKENS:
            _write_attention_out(model)
        batches = plan_batches(
            examples.lengths, batch_size=options.batch_size, epochs=options.epochs, seed=options.seed
        )
        total_steps = -(-len(batches) // options.accumulation)
        learning = [*networks_of(model), *([] if teacher is None else [teacher])]
        words = self._words_only(learning, examples)
        standard = nullcontext() if scale is None else scale.taken([network.backbone for network in learning])
        with _current(self.device), _random_state_kept(self.device), words, standard, ByteDropout():
            trainer = SubnetTrainer(
                model=model,
                arguments=self._arguments(total_steps),
                examples=examples,
                batches=batches,
                planner=lambda step: planner(step, total_steps),
                loss=partial(checkpoint.task.loss, temperature=options.temperature),
                teacher=teacher,
                progress=self.progress,
            )
            resumed = last_checkpoint(self.work_dir, shapes_of(model))
            trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))

    def _words_only(self, networks: Sequence[TaskModel], examples: Examples) -> AbstractContextManager[None]:
        """Networks without the words that no text reads, unless they predict words."""
        if self.checkpoint.task.word_outputs:
            return nullcontext()
        return words_only(networks, self.checkpoint.architecture, examples.renumbered())

    @property
    def _in_bf16(self) -> bool:
        return self.options.bf16 and has_bf16(self.device)

    @property
    def device(self) -> torch.device:
        """Where the checkpoint's model is; of several processes each has the GPU that torchrun dealt to it."""
        own = self.checkpoint.device
        if own.type == "cpu" or not distributed.is_initialized():
            return own
        return torch.device(own.type, int(os.environ["LOCAL_RANK"]))

    def _arguments(self, total_steps: int) -> Any:
        """One of the Trainer's epochs is the whole run, and one of its examples a planned batch."""
        from transformers import TrainingArguments

        options = self.options
        arguments = TrainingArguments(
            output_dir=str(self.work_dir),
            num_train_epochs=1,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=options.accumulation,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            warmup_steps=round(options.warmup_share * total_steps),
            bf16=self._in_bf16,
            use_cpu=self.device.type == "cpu",
            seed=options.seed,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            ddp_find_unused_parameters=True,
        )
        if self.device.type != "cpu" and not distributed.is_initialized():
            _pin(arguments, self.device)
        return arguments


def _pin(arguments: Any, device: torch.device) -> None:
    """Have the Trainer use one GPU: left to itself it takes the first, and copies the network to all others as well."""
    arguments.__dict__["_setup_devices"] = device
    arguments._n_gpu = 1  # noqa: SLF001  there is no public name
    torch.cuda.set_device(device)


def _current(device: torch.device) -> AbstractContextManager[Any]:
    """CUDA's current device inside the block, which accelerate moves a network to."""
    return nullcontext() if device.type == "cpu" else torch.cuda.device(device)
