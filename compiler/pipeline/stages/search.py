"""Stage "search": networks evaluated on the search split, and the front of them."""

from dataclasses import dataclass

from compiler.pipeline.exceptions import Exceptions, find_exceptions
from compiler.pipeline.judge import AS_SERVED
from compiler.pipeline.learned import Learned
from compiler.pipeline.monitor import part
from compiler.pipeline.networks import Evaluated
from compiler.pipeline.search_loop import SearchLoop, dense_subnet
from compiler.pipeline.stages.context import Context
from compiler.pipeline.stages.profile import Profiled
from compiler.spaces import Form, Subnet, make_space


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """All networks that were evaluated, the non-dominated ones of them, fastest first, and the whole network.

    `forms` are those that were searched.
    """

    evaluated: tuple[Evaluated, ...]
    front: tuple[Evaluated, ...]
    dense: Subnet
    forms: tuple[Form, ...]


def search(context: Context, profiled: Profiled, learned: Learned) -> Searched:
    """Evaluate networks until the evaluations are spent."""
    options, device = context.options, profiled.device
    space = make_space(
        options.space, learned.subject.checkpoint.architecture, ordering=learned.ranking.ordered(options.order),
        unit_step=device.target.size_alignment,
    )  # fmt: skip
    exceptions = _exceptions(context, profiled, learned)
    loop = SearchLoop(learned, space, profiled.pricing, device.precisions, context.bench, context.store, exceptions)
    context.notes.say(
        *(
            f"8 bits cost {', '.join(map(str, form.exceptions))} most: {form.precision} is searched with and without"
            for form in loop.forms
            if form.exceptions
        )
    )
    with context.stages("search"):
        front = loop.search(options, profiled.limits, context.monitor)
    context.notes.say(*_notes(loop))
    dense = dense_subnet(space)
    return Searched(evaluated=tuple(loop.found.values()), front=tuple(front), dense=dense, forms=loop.forms)


def _exceptions(context: Context, profiled: Profiled, learned: Learned) -> dict[str, Exceptions]:
    """Sub-blocks that suffer at a precision that is judged as it is served."""
    quantised = [precision for precision in profiled.device.precisions if precision in AS_SERVED]
    if not quantised:
        return {}
    with context.stages("find exceptions"):
        share, progress = 1 / len(quantised), context.monitor.progress
        return {
            p: find_exceptions(learned, context.bench, p, context.store, part(progress, i * share, share))
            for i, p in enumerate(quantised)
        }


def _notes(loop: SearchLoop) -> list[str]:
    """What there is to know of how candidates were found."""
    notes = []
    if loop.gap is not None:
        notes.append(f"the search started from allocations within --max-memory, solved to a gap of {loop.gap:.2%}")
    if any(network.trained < 1 for network in loop.found.values()):
        full = sum(network.trained == 1 for network in loop.found.values())
        notes.append(
            f"each sub-network was trained on its own: {full} of {len(loop.found)} for all epochs, the others for less"
        )
    return notes
