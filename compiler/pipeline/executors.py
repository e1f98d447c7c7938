"""The executor that the options of a run ask for."""

import socket
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from compiler.execution import Executor, Threads
from compiler.execution.ray_cluster import OnRay, connected
from compiler.pipeline.options import Options
from compiler.pipeline.worker import describe, perform
from compiler.store import DiskStore, Store
from targets.errors import InputError, printable


@contextmanager
def executor_of(each: Sequence[Options], store: Store) -> Iterator[Executor]:
    """The threads of this process, or with --ray a cluster, connected as long as this lasts.

    `each` are the runs of several targets. InputError where there is no Ray or no cluster.
    """
    if each[0].ray is None:
        yield Threads()
        return
    with connected(each[0].ray) as ray:
        check_store(store, {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]})
        yield OnRay(ray, perform, describe(each, store))


def check_store(store: Store, hosts: Collection[str]) -> None:
    """InputError where a node of another machine would not see the folder that the results are kept in."""
    others = sorted(set(hosts) - {socket.gethostname()})
    if others and isinstance(store, DiskStore):
        raise InputError(
            f"the cache {printable(store.place, 200)} is a folder of this machine, and the cluster has other machines: "
            f"{', '.join(others[:5])}\nname one that all of them reach: --cache s3://BUCKET/FOLDER"
        )
