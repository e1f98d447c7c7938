"""The executor that the options of a run ask for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from compiler.execution import Executor, Threads
from compiler.execution.ray_cluster import OnRay, connected
from compiler.pipeline.options import Options
from compiler.pipeline.worker import describe, perform
from compiler.store import Store


@contextmanager
def executor_of(each: Sequence[Options], store: Store) -> Iterator[Executor]:
    """The threads of this process, or with --ray a cluster, connected as long as this lasts.

    `each` are the runs of several targets. InputError where there is no Ray or no cluster.
    """
    if each[0].ray is None:
        yield Threads()
        return
    with connected(each[0].ray) as ray:
        yield OnRay(ray, perform, describe(each, store))
