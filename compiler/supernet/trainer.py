"""transformers' Trainer, taught to run several sub-networks in one optimiser step."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from compiler.families import Architecture, TaskModel
from compiler.slicing import SubnetRunner, run_with
from compiler.spaces import Subnet
from compiler.supernet.checkpoints import (
    TRAINER,
    load_generators,
    load_model,
    load_optimiser,
    save_generators,
    save_model,
    save_optimiser,
    seal,
)
from compiler.supernet.examples import Examples, PlannedBatch, own_rows
from compiler.supernet.strategies import Plan, Turn
from compiler.supernet.training import Progress
from compiler.tasks import Outputs
from targets.errors import InputError

CHECKPOINT_SECONDS = 120.0
"""A killed run loses at most this much work."""

_STEPS_BETWEEN_CHECKPOINTS = 500  # with several ranks, whose clocks may disagree
_LOG_ROWS = 100  # of a whole run, about

Loss = Callable[[Outputs, Tensor, Tensor | None, Outputs | None], Tensor]
"""Of outputs, attention mask [lines, tokens], labels and a teacher's outputs (`compiler.tasks.Task.loss`)."""

Planner = Callable[[int], Plan]
"""The turns of a step (0-based)."""


class SuperNetwork(nn.Module):
    """A network of which any sub-network can be run; slicing happens in `forward`.

    It must: data-parallel wrappers synchronise the gradients of what runs inside the wrapped module's `forward`.
    """

    def __init__(self, network: TaskModel, architecture: Architecture) -> None:
        super().__init__()
        self.network = network
        self.run = SubnetRunner(network, architecture)

    def forward(self, inputs: dict[str, Tensor], subnet: Subnet | None = None) -> Outputs:
        """Task outputs of a sub-network, or of the whole network, for a padded batch."""
        outputs: Outputs = self.network(**inputs) if subnet is None else self.run(subnet, inputs)
        return outputs


class Students(nn.Module):
    """Several sub-networks with weights of their own, which learn side by side."""

    def __init__(self, subnets: Sequence[Subnet], networks: Sequence[TaskModel], architecture: Architecture) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.rows = {subnet.digest: row for row, subnet in enumerate(subnets)}
        self.architecture = architecture

    def forward(self, inputs: dict[str, Tensor], subnet: Subnet) -> Outputs:
        """Task outputs of one of them for a padded batch."""
        network: Any = self.networks[self.rows[subnet.digest]]
        return run_with(network, self.architecture, dict(network.backbone.named_parameters()), inputs)


def networks_of(model: nn.Module) -> Sequence[TaskModel]:
    """Those that a training trains."""
    if isinstance(model, SuperNetwork):
        return [model.network]
    assert isinstance(model, Students)  # noqa: S101  there is no other
    return list(model.networks)  # type: ignore[arg-type]


class Watch(TrainerCallback):
    """Reports progress after every step, and asks for a row of the log or a checkpoint when one is due and at the end."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.loss = math.nan
        self.saved_at = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the Trainer when `state.global_step` steps are done."""
        done, total = state.global_step, state.max_steps
        if args.world_size > 1:
            due = done % _STEPS_BETWEEN_CHECKPOINTS == 0
        else:
            due = time.monotonic() - self.saved_at >= CHECKPOINT_SECONDS
        control.should_save = due or done == total
        control.should_log = done % max(1, total // _LOG_ROWS) == 0 or done == total
        if state.is_world_process_zero:
            self.progress(done / total, f"step {done:,} of {total:,}, loss {self.loss:.3g}")

    def on_save(self, *_: Any, **__: Any) -> None:
        """Called by the Trainer when a checkpoint is complete."""
        self.saved_at = time.monotonic()


class SubnetTrainer(Trainer):
    """Runs the turns of a step one after another, each with its own backward, then one optimiser step.

    A step costs the sum of its networks, in time; peak memory is that of the largest. `teacher` is a frozen network
    that every turn learns from; without one, turns that distil learn from the whole network of the same step.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        arguments: TrainingArguments,
        examples: Examples,
        batches: list[PlannedBatch],
        planner: Planner,
        loss: Loss,
        teacher: TaskModel | None,
        progress: Progress,
    ) -> None:
        self.examples, self.batches = examples, batches
        self.planner, self.loss = planner, loss
        self.watch = Watch(progress)
        super().__init__(model=model, args=arguments, callbacks=[self.watch])
        self.remove_callback(PrinterCallback)
        self.teacher = None if teacher is None else teacher.eval().requires_grad_(False).to(arguments.device)

    def get_train_dataloader(self) -> Any:
        """The planned batches of all epochs in their order: to resume is to skip those already seen.

        Each is shared out between the ranks: how many there are changes the time of a step and not what it learns.
        """
        loader: DataLoader[Any] = DataLoader(
            self.batches,  # type: ignore[arg-type]
            batch_size=1,
            collate_fn=lambda batches: self._own_part(batches[0]),
        )
        return loader

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:  # noqa: ARG002  the wrapped model, and no trial
        """Written without pickles, which count once their list is written (`compiler.supernet.checkpoints`)."""
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            save_model(folder, self._whole())
            save_optimiser(folder, self.optimizer, self.lr_scheduler)
            self.state.save_to_json(str(folder / TRAINER))
        self.accelerator.wait_for_everyone()
        save_generators(folder, self.args.process_index)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            seal(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:  # noqa: ARG002
        load_model(Path(resume_from_checkpoint), self._whole())

    def _whole(self) -> nn.Module:
        """What is trained, without what wraps it for several processes."""
        assert self.model is not None  # noqa: S101  it was given
        return self.model

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            load_optimiser(Path(checkpoint), self.optimizer, self.lr_scheduler)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            load_generators(Path(checkpoint), self.args.process_index)

    def _own_part(self, batch: PlannedBatch) -> dict[str, Tensor]:
        own, weight = own_rows(batch.rows, self.args.process_index, self.args.world_size)
        return {**self.examples.batch(own, batch.epoch), "weight": torch.tensor(weight)}

    def training_step(self, model: nn.Module, inputs: dict[str, Tensor], _: Any = None) -> Tensor:
        """Accumulate the gradient of one batch; the sum of the turns' losses, detached."""
        model.train()
        inputs = dict(self._prepare_inputs(inputs))
        weight, labels = inputs.pop("weight"), inputs.pop("labels", None)
        plan = self.planner(self.state.global_step)
        frozen = self._frozen_outputs(inputs)
        whole: Outputs | None = None
        total = torch.zeros((), device=self.args.device)
        for turn in plan:
            outputs, loss = self._run_turn(model, turn, inputs, labels, weight, frozen or whole, last=turn is plan[-1])
            whole = tuple(tensor.detach() for tensor in outputs) if turn.subnet is None else whole
            total += loss
        self.watch.loss = float(total)
        return total / self.current_gradient_accumulation_steps

    def _frozen_outputs(self, inputs: dict[str, Tensor]) -> Outputs | None:
        if self.teacher is None:
            return None
        with torch.no_grad(), self.accelerator.autocast():
            return tuple(tensor.float() for tensor in self.teacher(**inputs))

    def _run_turn(
        self,
        model: nn.Module,
        turn: Turn,
        inputs: dict[str, Tensor],
        labels: Tensor | None,
        weight: Tensor,
        teacher: Outputs | None,
        *,
        last: bool,
    ) -> tuple[Outputs, Tensor]:
        """One network forward and backward; ranks exchange gradients once, with the last turn's."""
        if turn.role == "teach":
            with torch.no_grad():
                return model(inputs), torch.zeros((), device=self.args.device)
        with nullcontext() if last else self.accelerator.no_sync(model):
            outputs = model(inputs, turn.subnet)
            guide = teacher if turn.role == "distil" or self.teacher is not None else None
            loss = weight * self.loss(outputs, inputs["attention_mask"], labels, guide)
            self._refuse_not_finite(loss, "loss")
            self.accelerator.backward(loss / self.current_gradient_accumulation_steps)
        return outputs, loss.detach()

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        """Students are clipped each on its own: a steep one does not slow the others."""
        whole = self.accelerator.unwrap_model(model)
        parts = whole.networks if isinstance(whole, Students) else [model]
        norm = max(super(SubnetTrainer, self)._clip_grad_norm(part) for part in parts)  # type: ignore[no-untyped-call]
        self._refuse_not_finite(norm, "gradient")
        return norm

    def _refuse_not_finite(self, value: Tensor, what: str) -> None:
        """Stop before the optimiser spoils the weights; the last checkpoint stays as it is."""
        if not torch.isfinite(value):
            raise InputError(
                f"training stopped at step {self.state.global_step + 1:,} of {self.state.max_steps:,}: "
                f"the {what} is {value.item()}\nlower the learning rate (it was {self.args.learning_rate:g})"
            )
