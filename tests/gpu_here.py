"""The GPU of this machine, for tests that need one."""

import pytest

from profilers import Runtime, make_runtime
from targets import Target, TargetError, load_catalog, present


def gpu_target(precision: str = "fp32") -> Target:
    """The catalogue's name for the GPU that is here; skips the test where it has none."""
    targets = [target for target in load_catalog().values() if target.kind == "gpu"]
    here = next((target for target in targets if present(target)), None)
    if here is None:
        pytest.skip(f"no GPU of the catalogue is here: {present(targets[0]).reason}")
    return here.with_precision(precision)


def gpu_runtime(name: str) -> Runtime:
    """A runtime on that GPU; skips the test where its packages are missing, and says which."""
    try:
        return make_runtime(name, gpu_target())
    except TargetError as error:
        pytest.skip(str(error))
