"""Where `--search gates` starts: sizes that gates learned on the training texts, within the limits of the run."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from compiler.costing import Costs
from compiler.execution import Progress, placed
from compiler.oneshot import learn_sizes
from compiler.oneshot.gates import EVEN, KNOTS, RATE, Lesson
from compiler.pipeline.seeds import Groups, Seeds, encoder_budgets_s
from compiler.pipeline.weights import Weights
from compiler.slicing import bf16_where_it_is
from compiler.spaces.space import Medium
from compiler.store import key_of
from compiler.supernet.examples import Examples, plan_batches
from compiler.tasks import Outputs

LESSONS = 120
TOKENS = 1_000
"""Of a lesson, about."""

_EXAMPLES = 4, 32  # of a lesson, at least and at most
_TEMPERATURE = 2.0


def learned_seeds(
    weights: Weights, space: Medium, costs: Costs, count: int, limits: Mapping[str, float], progress: Progress
) -> Seeds:
    """At most `count` genomes by rising latency, from the store where the same gates learned before.

    The latency that they aim at is that of `find_seeds`. Memory is left to the search, which evaluates nothing above its limit.
    """
    cost, trainer = costs.latency, weights.trainer
    budgets_s = encoder_budgets_s(cost, Groups.of(space), count, limits.get("latency"))
    orders = [order.tolist() for order in replace(space.ordering, residual=None).parts]
    once = [cost.mask_s, cost.head_workspace_s, cost.unit_workspace_s]
    curves = [cost.attention_s.tolist(), cost.ffn_s.tolist(), *once, *map(list, cost.overflows)]
    about = weights.subject.key(
        weights=weights.about, orders=key_of(orders), curves=key_of(curves), budgets_s=budgets_s.tolist(),
        unit_step=space.unit_step, seed=trainer.options.seed, recipe=[LESSONS, TOKENS, KNOTS, RATE, EVEN],
    )  # fmt: skip

    def learn() -> dict[str, Tensor]:
        genomes = learn_sizes(
            weights.subject.checkpoint, space, weights.searched, cost, budgets_s, _lessons(weights), progress
        )  # fmt: skip
        return {"genomes": torch.from_numpy(genomes)}

    return Seeds(trainer.stored("gates", about, learn)["genomes"].numpy(), None)


def _lessons(weights: Weights) -> list[Lesson]:
    """Batches of training texts, each with the loss against the dense model's outputs, and labels where there are any."""
    subject, seed = weights.subject, weights.trainer.options.seed
    train = subject.data.train.some(LESSONS * _EXAMPLES[1])
    examples = Examples(subject.checkpoint, train, max_tokens=subject.max_tokens, seed=seed)
    size = min(max(int(TOKENS / examples.lengths.mean()), _EXAMPLES[0]), _EXAMPLES[1])
    epochs = LESSONS * size / len(examples)
    batches = plan_batches(examples.lengths, batch_size=size, epochs=epochs, seed=seed)
    return [_lesson(weights, examples.batch(*planned)) for planned in batches[:LESSONS]]


def _lesson(weights: Weights, batch: Mapping[str, Tensor]) -> Lesson:
    subject, device = weights.subject, weights.subject.compute.device
    batch = placed(batch, device)
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}

    def against(outputs: Outputs) -> Tensor:
        with torch.no_grad(), bf16_where_it_is(device):
            dense = tuple(tensor.float() for tensor in subject.checkpoint.model(**inputs))
        return subject.task.loss(outputs, inputs["attention_mask"], batch.get("labels"), dense, _TEMPERATURE)

    return inputs, against
