"""Sizes learned by gradient: a gate on every sub-block, the cost table as the price of its time (Pruning-as-Search).

Li et al., "Pruning-as-Search: Efficient Neural Architecture Search via Channel Pruning and Structural Reparameterization",
arXiv 2206.01198, learn how much of each layer to keep with straight-through gates and a penalty on cost. Here a gate opens heads
or units in order of importance, so that what it learns is how many. Which ones, and what is left to make up for the others,
one look at calibration text has said already and better than some dozen steps could.

Forward a gate stands at a size that the space has, with the weights that a network of this size is judged by. Backward it is the
line between the neighbouring knots of its sizes (the straight-through estimator: Bengio et al., arXiv 1308.3432).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compiler.costing import CostModel
from compiler.families import PIECES, Checkpoint, Matrix
from compiler.oneshot.calibration import hooked, stream_of
from compiler.slicing import bf16_where_it_is
from compiler.spaces import Subnet
from compiler.spaces.space import Medium
from compiler.spaces.subnet import IntArray

Floats = NDArray[np.float64]
Outputs = tuple[Tensor, ...]

Lesson = tuple[Mapping[str, Tensor], Callable[[Outputs], Tensor]]
"""Padded inputs, and the loss of a network's outputs on them: a scalar, lower is better."""

KNOTS = 12
RATE = 0.02
EVEN = 0.5
"""Of the lessons a third go to all budgets alike, the others by how far gates must move (`_shared_out`)."""

_BETAS, _TINY = (0.8, 0.95), 1e-12
_HALVINGS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """On a sub-block that can be cut: its `variable` of the genome, and the `sizes` [values] that this stands for.

    The gate is linear between `knots` [n], some of the values. The first two are 0 and 1: a sub-block is there or it is not.
    """

    variable: int
    layer: int
    piece: str
    sizes: IntArray
    knots: IntArray

    def value(self, opening: float) -> float:
        """The value, not rounded, of an opening between 0 and 1."""
        return _at(self.knots, opening)

    def segment(self, opening: float) -> int:
        """Between which knots it is: the lower one's index."""
        last = len(self.knots) - 1
        return min(int(opening * last), last - 1)


def gates_of(space: Medium) -> list[Gate]:
    """One for every sub-block that there is, attentions first."""
    sizes = [*space.attention_sizes]
    sizes += [
        np.minimum(np.arange(steps + 1) * space.unit_step, all_)
        for steps, all_ in zip(space.steps, space.units, strict=True)
    ]
    return [
        Gate(
            variable=variable, layer=variable % space.layers, piece=PIECES[variable // space.layers], sizes=own,
            knots=np.unique([0, *np.linspace(1, len(own) - 1, KNOTS).round().astype(np.int64)]),
        )
        for variable, own in enumerate(sizes)
        if len(own) > 1
    ]  # fmt: skip


def _at(curve: NDArray[Any], opening: float) -> float:
    """The value of a curve [knots] at an opening."""
    return float(np.interp(opening * (len(curve) - 1), np.arange(len(curve)), curve))


def _rises(curves: Sequence[NDArray[Any]], segments: Sequence[int]) -> Floats:
    """How much each curve [knots] rises an opening, in its segment."""
    return np.array([(c[i + 1] - c[i]) * (len(c) - 1) for c, i in zip(curves, segments, strict=True)], dtype=np.float64)


class Price:
    """Expected seconds of openings [gates], linear between the knots of every gate."""

    def __init__(self, gates: Sequence[Gate], cost: CostModel) -> None:
        self.gates = gates
        curves = {"attention": cost.attention_s, "ffn": cost.ffn_s}
        self.curves = [curves[gate.piece][gate.layer, gate.sizes[gate.knots]] for gate in gates]
        self.scratch_s = {"attention": cost.head_workspace_s, "ffn": cost.unit_workspace_s}
        dims, self.overflows = cost.table.dimensions, cost.overflows
        weights = {"attention": dims.attention_weights, "ffn": dims.weights_a_unit * np.arange(dims.ffn_units + 1)}
        self.weights = [weights[gate.piece][gate.sizes[gate.knots]] for gate in gates]

    def _widths(self, openings: Floats) -> Floats:
        """The size that each gate leaves [gates], not rounded."""
        return np.array([_at(gate.sizes[gate.knots], o) for gate, o in zip(self.gates, openings, strict=True)])

    def _weights(self, openings: Floats) -> Floats:
        """Weights of all sub-blocks, not rounded: a scalar."""
        return np.array(sum(_at(curve, o) for curve, o in zip(self.weights, openings, strict=True)))

    def _widest(self, openings: Floats) -> dict[str, int]:
        """The gate of each kind that is open widest."""
        widths = self._widths(openings)
        rows = {piece: [i for i, gate in enumerate(self.gates) if gate.piece == piece] for piece in PIECES}
        return {piece: max(some, key=lambda i: widths[i]) for piece, some in rows.items() if some}

    def seconds(self, openings: Floats) -> float:
        """What the sub-blocks take, the scratch space of the widest, and weights beyond the cache."""
        blocks = sum(_at(curve, opening) for curve, opening in zip(self.curves, openings, strict=True))
        widths = self._widths(openings)
        scratch = sum(self.scratch_s[piece] * widths[row] for piece, row in self._widest(openings).items())
        read = sum(float(overflow.seconds(self._weights(openings))) for overflow in self.overflows)
        return float(blocks + scratch) + read

    def slopes(self, openings: Floats) -> Floats:
        """Seconds that an opening gate costs [gates]."""
        segments = [gate.segment(opening) for gate, opening in zip(self.gates, openings, strict=True)]
        slopes = _rises(self.curves, segments)
        rises = _rises([gate.sizes[gate.knots] for gate in self.gates], segments)
        for piece, row in self._widest(openings).items():
            slopes[row] += self.scratch_s[piece] * rises[row]
        weights = self._weights(openings)
        a_weight_s = sum(overflow.a_weight_s for overflow in self.overflows if weights > overflow.fits)
        return np.asarray(slopes + a_weight_s * _rises(self.weights, segments))

    def fit(self, openings: Floats, budget_s: float, taken: Callable[[Floats], float] | None = None) -> Floats:
        """The openings moved along their prices until they take a budget; with `taken`, until that is within it."""
        taken = taken or self.seconds
        slopes = self.slopes(openings)
        slopes = np.maximum(slopes, 0.01 * slopes.max())
        near, far = (0.0, -1 / slopes.min()) if taken(openings) <= budget_s else (1 / slopes.min(), 0.0)
        for _ in range(_HALVINGS):
            middle = (near + far) / 2
            within = taken(np.clip(openings - middle * slopes, 0, 1)) <= budget_s
            near, far = (middle, far) if within else (near, middle)
        return np.asarray(np.clip(openings - near * slopes, 0, 1))


def _stand(gate: Gate, opening: Tensor, at: float) -> tuple[int, int, Tensor]:
    """Values of the knots below and above, and the place between them, 0 to 1: rounded forward, as it is backward.

    `at` is the opening's value.
    """
    last = len(gate.knots) - 1
    segment = gate.segment(at)
    low, high = (int(knot) for knot in gate.knots[segment : segment + 2])
    place, rounded = opening * last - segment, (round(gate.value(at)) - low) / (high - low)
    return low, high, (place + (rounded - place).detach()).float()


class GatedNetwork:
    """The whole network with gates. `weights` gives any sub-network's parameters: those it is judged by."""

    def __init__(
        self, checkpoint: Checkpoint, space: Medium, gates: Sequence[Gate], weights: Callable[[Subnet], Mapping[str, Tensor]]
    ) -> None:  # fmt: skip
        self.checkpoint, self.space, self.gates, self.weights = checkpoint, space, gates, weights
        self.base = {f"backbone.{name}": p.detach() for name, p in weights(space.subnet(space.largest)).items()}
        self.projection = lru_cache(maxsize=4 * len(gates))(self._projection)

    def _projection(self, row: int, value: int) -> dict[str, Tensor]:
        """Weight [hidden, whole width] and, where there is one, bias [hidden] of a sub-block's output projection.

        It reads what a value keeps.
        """
        gate = self.gates[row]
        genome = self.space.largest.copy()
        genome[gate.variable] = value
        subnet = self.space.subnet(genome)
        output = self._output(gate)
        name, cut = output.module, self.weights(subnet)
        weight = torch.zeros_like(self.base[f"backbone.{name}.weight"])
        kept = subnet.kept(gate.layer)[PIECES.index(gate.piece)]
        columns = torch.tensor(output.indices(kept, weight.shape[1]), device=weight.device)
        weight[:, columns] = cut[f"{name}.weight"].detach()
        bias = cut.get(f"{name}.bias")
        return {"weight": weight} if bias is None else {"weight": weight, "bias": bias.detach()}

    def _output(self, gate: Gate) -> Matrix:
        """The output projection of a gate's sub-block."""
        return self.checkpoint.architecture.branch(gate.layer, gate.piece).output

    def __call__(self, openings: Tensor, inputs: Mapping[str, Tensor]) -> Outputs:
        """Task outputs for a padded batch, differentiable in the openings [gates]."""
        state, there, values = dict(self.base), {}, openings.tolist()
        for row, gate in enumerate(self.gates):
            low, high, place = _stand(gate, openings[row], values[row])
            name = self._output(gate).module
            ends = [self.projection(row, max(value, 1)) for value in (low, high)]
            for part, above in ends[1].items():
                state[f"backbone.{name}.{part}"] = torch.lerp(ends[0][part], above, place) if low else above
            there[gate.layer, gate.piece] = None if low else place
        with self._dropping(there):
            outputs: Outputs = torch.func.functional_call(self.checkpoint.model, state, kwargs=dict(inputs))
        return outputs

    def _dropping(self, there: Mapping[tuple[int, str], Tensor | None]) -> AbstractContextManager[None]:
        """While this lasts a sub-block leaves the stream as it is, as far as it is not there (None: it is)."""
        find, streams, handles = (
            self.checkpoint.model.backbone.get_submodule,
            dict[tuple[int, str], Tensor](),
            list[Any](),
        )

        def enter(key: tuple[int, str]) -> Callable[..., None]:
            return lambda _, args, kwargs: streams.__setitem__(key, stream_of(args, kwargs))

        def leave(key: tuple[int, str], share: Tensor) -> Callable[..., Tensor]:
            return lambda _, __, output: torch.lerp(streams[key].to(output.dtype), output, share.to(output.dtype))

        def scale(share: Tensor) -> Callable[..., Tensor]:
            return lambda _, __, output: output * share.to(output.dtype)

        for key, share in there.items():
            if share is None:
                continue
            branch = self.checkpoint.architecture.branch(*key)
            if branch.after is None:
                handles.append(find(branch.written).register_forward_hook(scale(share)))
            else:
                handles.append(find(branch.entry).register_forward_pre_hook(enter(key), with_kwargs=True))
                handles.append(find(branch.after).register_forward_hook(leave(key, share)))
        return hooked(*handles)

    def gradient(self, openings: Floats, lesson: Lesson) -> Floats:
        """Of the loss of a lesson [gates]."""
        inputs, loss = lesson
        device = self.checkpoint.device
        leaf = torch.tensor(openings, dtype=torch.float32, device=device, requires_grad=True)
        with bf16_where_it_is(device):
            outputs = self(leaf, inputs)
        (gradient,) = torch.autograd.grad(loss(tuple(tensor.float() for tensor in outputs)), leaf)
        return np.asarray(gradient.double().cpu().numpy())


class Descent:
    """Adam (arXiv 1412.6980) on what is left of a gradient when each second is paid for at the going price."""

    def __init__(self, gates: int) -> None:
        self.mean, self.square, self.steps = np.zeros(gates), np.zeros(gates), 0

    def step(self, openings: Floats, gradient: Floats, slopes: Floats) -> Floats:
        """The openings after a step, between 0 and 1."""
        left = unpaid(openings, gradient, slopes)
        self.steps += 1
        self.mean += (1 - _BETAS[0]) * (left - self.mean)
        self.square += (1 - _BETAS[1]) * (left**2 - self.square)
        mean = self.mean / (1 - _BETAS[0] ** self.steps)
        root = np.sqrt(self.square / (1 - _BETAS[1] ** self.steps))
        return np.asarray(np.clip(openings - RATE * mean / (root + _TINY), 0, 1))


def unpaid(openings: Floats, gradient: Floats, slopes: Floats) -> Floats:
    """Gradient [gates] of loss plus price times seconds, at the one price (of least squares) that leaves least of it.

    It is 0 where a second saved anywhere costs the same loss: there no exchange between gates helps. Gates that are shut
    or wide open and would go further have no say in the price.
    """
    slopes = slopes / slopes.max()
    free = np.ones(len(openings), dtype=bool)
    left = gradient
    for _ in range(3):
        price = -float(gradient @ (slopes * free)) / max(float(slopes @ (slopes * free)), _TINY)
        left = gradient + max(price, 0.0) * slopes
        free = ~(((openings >= 1) & (left < 0)) | ((openings <= 0) & (left > 0)))
        if not free.any():
            break
    return np.asarray(left * free)


def learn_sizes(
    checkpoint: Checkpoint,
    space: Medium,
    weights: Callable[[Subnet], Mapping[str, Tensor]],
    cost: CostModel,
    budgets_s: Floats,
    lessons: Sequence[Lesson],
    progress: Callable[[float], None] = lambda _: None,
) -> IntArray:
    """Genomes [budgets, variables] by rising budget; their encoders take no more seconds than that, mask included.

    The gates begin wide open and go through the budgets from the largest to the smallest, each for its part of the lessons. All
    the while they take the budget and no less: what a second costs is not set but found in every step. Of a budget's steps the
    mean is kept, since a step on a few sentences is noisy.
    """
    gates = gates_of(space)
    network, price = GatedNetwork(checkpoint, space, gates, weights), Price(gates, cost)
    descent, openings = Descent(len(gates)), np.ones(len(gates))

    def genome(openings: Floats) -> IntArray:
        found = space.lower.copy()
        for gate, opening in zip(gates, openings, strict=True):
            found[gate.variable] = round(gate.value(opening))
        return found

    def taken(openings: Floats) -> float:
        return float(cost.latency_s(space.counts(genome(openings)[None]))[0]) - cost.base_s

    found = []
    for budget_s, part in _shared_out(sorted(budgets_s, reverse=True), price.seconds(openings), lessons):
        visited = [price.fit(openings, budget_s - cost.mask_s)]
        for lesson in part:
            gradient = network.gradient(visited[-1], lesson)
            stepped = descent.step(visited[-1], gradient, price.slopes(visited[-1]))
            visited.append(price.fit(stepped, budget_s - cost.mask_s))
            progress(descent.steps / len(lessons))
        openings = visited[-1]
        found.append(genome(price.fit(np.mean(visited, axis=0), budget_s, taken)))
    return np.array(found[::-1], dtype=np.int64).reshape(len(found), len(space.lower))


def _shared_out(
    budgets_s: Sequence[float], whole_s: float, lessons: Sequence[Lesson]
) -> Iterator[tuple[float, Sequence[Lesson]]]:
    """Each falling budget with its part of the lessons, in order: by how far gates must move to it from the one before."""
    falls = -np.diff([max(whole_s, *budgets_s), *budgets_s]) if len(budgets_s) else np.empty(0)
    parts = falls / max(falls.sum(), _TINY) + EVEN / max(len(falls), 1)
    ends = (np.cumsum([0.0, *parts]) / max(parts.sum(), _TINY) * len(lessons)).round().astype(int)
    for budget_s, start, end in zip(budgets_s, ends, ends[1:], strict=False):
        yield budget_s, lessons[start:end]
