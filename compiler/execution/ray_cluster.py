"""Jobs on the nodes of a Ray cluster: they read what they need from the store and leave there what they make.

What travels is text: the description of the run and of a job, and what became of it. Ray restarts a job whose worker or
node died; one that hangs ends its own process after `JOB_TIMEOUT_S`, which is the same to Ray. The cluster is trusted: whoever can start jobs
on it can run code on its nodes.
"""

import json
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from compiler.execution.executor import Executor, threads_of
from compiler.execution.job import Job
from compiler.execution.threads import Item, Progress, Result, in_turn
from targets import usable_cpus
from targets.errors import ERRORS, InputError, ParetocError, TargetError, printable, reason

JOB_TIMEOUT_S = 7200.0
"""Seconds after which a job that runs is taken for one that hangs."""

TRIES = 3
"""How often a job is started, whatever ended it before."""

NODE_PREFIX = "paretoc-target:"
"""Of the Ray resource by which a node says which target it is; it has one of it, so that nothing is timed beside anything."""

_PATIENCE_S, _LAST_PORT = 5.0, 65535
_LOCAL, _AUTO = "local", "auto"
_ADDRESS = re.compile(r"([\w.-]{1,253}|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})", re.ASCII)

_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How a client of HTTP/2 begins, with empty settings (RFC 9113, sections 3.4 and 6.5). The head of a Ray cluster speaks gRPC, so
it answers with settings of its own: a frame whose fourth byte is 4."""


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to the cluster at `address`: "auto" for the one of this machine, "local" for one that ends with the run.

    InputError where Ray is not installed or nothing answers there.
    """
    try:
        import ray
    except ImportError:
        raise InputError("--ray needs Ray, which is not installed\ninstall it: pip install 'paretoc[ray]'") from None
    if address not in {_LOCAL, _AUTO}:
        check_answers(address)
    quiet: Any = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    try:
        if address == _LOCAL:
            ray.init(address="local", num_cpus=usable_cpus(), include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
        raise _silent(address, type(error).__name__) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def check_answers(address: str, forms: str = "auto, local or HOST:PORT") -> None:
    """InputError where the address is none, or no cluster's head answers there: Ray itself would wait for minutes.

    `forms` says what may be written.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[2]) <= _LAST_PORT:
        raise _no_address(address, forms)
    try:
        with socket.create_connection((found[1].strip("[]"), int(found[2])), timeout=_PATIENCE_S) as connection:
            speaks = os.environ.get("RAY_USE_TLS", "0") != "0" or _is_greeted(connection)
    except UnicodeError:  # a part of the name is empty or too long
        raise _no_address(address, forms) from None
    except OSError as error:
        raise _silent(address, error.strerror or type(error).__name__) from None
    if not speaks:
        raise _silent(address, "what listens there is something else")


def _is_greeted(connection: socket.socket) -> bool:
    """Whether the other side answers as a server of HTTP/2 does, within the connection's time-out."""
    try:
        connection.sendall(_HELLO)
        frame = connection.recv(9, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(frame) == 9 and frame[3] == 4


def _no_address(address: str, forms: str) -> InputError:
    return InputError(f"--ray {printable(repr(address), 80)} is no address\nwrite {forms}")


def _silent(address: str, why: str) -> InputError:
    return InputError(
        f"no Ray cluster answers at {printable(address, 120)}: {why}\n"
        "start one: ray start --head; or name its address: --ray HOST:PORT"
    )


class OnRay(Executor):
    """Hands jobs to a cluster, then reads from the store what they made there."""

    def __init__(
        self, ray: Any, perform: Callable[[str, str], str], description: str, *, timeout_s: float = JOB_TIMEOUT_S
    ) -> None:
        """`perform(description, job)` does a job in a worker: a function of a module, which travels by its name."""
        self.ray, self.perform, self.description, self.timeout_s = ray, ray.remote(perform), description, timeout_s

    def each(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        job: Callable[[Item, int], Job],
        parameters: int | None,
        progress: Progress = lambda _: None,
    ) -> list[Result]:
        """Results in order. All items are given to the cluster at once; it runs as many as its processors can hold."""
        threads = threads_of(len(items), parameters)
        self.run([job(item, threads) for item in items], progress)
        return in_turn(work, items)

    def run(self, jobs: Sequence[Job], progress: Progress = lambda _: None) -> list[Any]:
        """What every job answers, in their order. Raises the first error that a job met.

        TargetError where a job was lost more often than it is started again.
        """
        refs = {self._started(job): i for i, job in enumerate(jobs)}
        answers: dict[int, Any] = {}
        try:
            while len(answers) < len(jobs):
                (ref,), _ = self.ray.wait([ref for ref, i in refs.items() if i not in answers], num_returns=1)
                answers[refs[ref]] = self._answer(ref, jobs[refs[ref]])
                progress(len(answers) / len(jobs))
        finally:
            for ref, i in refs.items():
                if i not in answers:
                    self.ray.cancel(ref, force=True)
        return [answers[i] for i in range(len(jobs))]

    def targets_there(self) -> dict[str, int]:
        """Targets that nodes of the cluster say they are, with the number of such nodes."""
        found = {k: v for k, v in self.ray.cluster_resources().items() if k.startswith(NODE_PREFIX)}
        return {name.removeprefix(NODE_PREFIX): int(count) for name, count in sorted(found.items())}

    def _started(self, job: Job) -> Any:
        remote = self.perform.options(
            num_cpus=min(job.threads, self._most_processors()),
            resources=dict(job.needs or {}),
            max_retries=TRIES - 1,
            scheduling_strategy="SPREAD",
            name=job.kind,
        )
        text = json.dumps({"kind": job.kind, "body": job.body, "threads": job.threads, "timeout_s": self.timeout_s})
        return remote.remote(self.description, text)

    def _most_processors(self) -> int:
        """Of the largest node: a job that asked for more would wait for ever. It has its threads all the same."""
        return max(1, *(int(node["Resources"].get("CPU", 0)) for node in self.ray.nodes() if node["Alive"]), 1)

    def _answer(self, ref: Any, job: Job) -> Any:
        try:
            answer = json.loads(self.ray.get(ref))
        except self.ray.exceptions.RayError as error:
            raise TargetError(
                f"a job ({job.kind}) was lost on the cluster {TRIES} times: {reason(error)}\n"
                "what was computed is kept; look at the nodes (ray status), then start the same command again"
            ) from None
        if "error" in answer:
            raise ERRORS.get(answer["error"], ParetocError)(answer["message"])
        return answer["value"]
