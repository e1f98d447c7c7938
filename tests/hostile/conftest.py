"""The valid inputs that campaigns start from, made once for all workers of pytest-xdist."""

import os

import pytest
from filelock import FileLock

from tests.hostile.harness import make_seeds_apart


@pytest.fixture(scope="session")
def seeds(tmp_path_factory):
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "hostile-seeds"
    with FileLock(f"{folder}.lock"):
        make_seeds_apart(folder)
    return folder
