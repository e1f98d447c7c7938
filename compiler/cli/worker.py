"""`compile worker`: this machine as a node of a Ray cluster that says which target it is."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from targets import Target, present
from targets.errors import InputError, TargetError


def worker_command(
    target: Annotated[str, typer.Option(help="the device of this machine, as in 'compile targets'")],
    ray: Annotated[str, typer.Option(help="address of the cluster's head, HOST:PORT")],
    simulated: Annotated[
        bool, typer.Option("--simulated", help="pretend to be the target: times are its datasheet's, for trials")
    ] = False,
) -> None:
    """Join a Ray cluster (ray start --head) as a node that is a target; runs with --ray measure on it. Ends with Ctrl-C."""
    found = Target.parse(target)
    if not simulated and found.kind == "gpu" and not (here := present(found)):
        raise TargetError(
            f"this machine is no {found.name}: {here.reason.splitlines()[0]}\n"
            "say which it is: compile targets; or join as a pretended one: --simulated"
        )
    ended = subprocess.run(_command(found, ray), env=_environment(simulated=simulated), check=False)  # noqa: S603  no shell
    if ended.returncode > 0:
        raise TargetError(
            f"Ray ended with {ended.returncode}, and this machine is no node of the cluster at {ray}\n"
            "Ray's own words stand above"
        )
    raise typer.Exit(ended.returncode)


def _command(target: Target, address: str) -> list[str]:
    from compiler.execution.ray_cluster import NODE_PREFIX, check_answers

    program = Path(sys.executable).with_name("ray")
    if not program.exists():
        raise InputError("a worker needs Ray, which is not installed\ninstall it: pip install 'paretoc[ray]'")
    check_answers(address, "HOST:PORT, where the cluster's head is")
    resources = json.dumps({f"{NODE_PREFIX}{target.name}": 1})
    return [str(program), "start", f"--address={address}", f"--resources={resources}", "--block"]


def _environment(*, simulated: bool) -> dict[str, str]:
    from compiler.pipeline.worker import SIMULATED

    return {**os.environ, SIMULATED: "1"} if simulated else {k: v for k, v in os.environ.items() if k != SIMULATED}
