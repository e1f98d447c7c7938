"""What a run learns of a model, and searches of it on the table that ships for MiniLM: MEDIUM, in steps of 16 units."""

from collections.abc import Sequence

from cost_tables import cost_model

from compiler.costing import Costs
from compiler.export import ModelWorkbench
from compiler.pipeline import Options
from compiler.pipeline.graphs import find_templates
from compiler.pipeline.learned import Learned, learn
from compiler.pipeline.monitor import SilentMonitor, Stages
from compiler.pipeline.pricing import Pricing
from compiler.pipeline.search_loop import SearchLoop
from compiler.pipeline.subject import load_subject
from compiler.spaces import make_space
from compiler.store import Store

UNIT_STEP = 16


def prepare(options: Options, store: Store) -> tuple[Learned, ModelWorkbench]:
    """Load, rank, and score the dense model, as far as the store does not have it."""
    subject, precisions = load_subject(options), set(options.precisions or ("fp32",))
    templates = find_templates(subject.checkpoint, store, precisions, options.opset)
    bench = ModelWorkbench(subject.checkpoint, templates, subject.range_texts(precisions))
    return learn(subject, store, options, Stages(SilentMonitor())), bench


def make_loop(learned: Learned, bench: ModelWorkbench, precisions: Sequence[str], store: Store) -> SearchLoop:
    """A search in which nothing was found yet."""
    architecture = learned.subject.checkpoint.architecture
    space = make_space("medium", architecture, ordering=learned.ranking.ordering, unit_step=UNIT_STEP)
    costs = {p: Costs(architecture=architecture, latency=cost_model(precision=p)) for p in precisions}
    return SearchLoop(learned, space, Pricing(costs), precisions, bench, store)
