"""The executor that the options of a run ask for."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from compiler.execution import Executor, Threads
from compiler.execution.ray_cluster import OnRay, connected
from compiler.pipeline.options import Options
from compiler.pipeline.worker import describe, perform
from compiler.store import Store


@contextmanager
def executor_of(options: Options, store: Store, precisions: Collection[str]) -> Iterator[Executor]:
    """The threads of this process, or with --ray a cluster, connected as long as this lasts.

    `precisions` are those of the graphs that workers fill. InputError where there is no Ray or no cluster.
    """
    if options.ray is None:
        yield Threads()
        return
    with connected(options.ray) as ray:
        yield OnRay(ray, perform, describe(options, store, precisions))
