"""Tiny checkpoints that tests of training share; none may change one."""

import pytest
import torch

from compiler.families import Checkpoint
from tests.tiny import tiny_checkpoint


def without_dropout(checkpoint: Checkpoint) -> Checkpoint:
    for module in checkpoint.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return checkpoint


@pytest.fixture(scope="session")
def classifier(tmp_path_factory) -> Checkpoint:
    return tiny_checkpoint(tmp_path_factory.mktemp("classifier"), task="classification")


@pytest.fixture(scope="session")
def steady_classifier(tmp_path_factory) -> Checkpoint:
    return without_dropout(tiny_checkpoint(tmp_path_factory.mktemp("steady"), task="classification"))


@pytest.fixture(scope="session")
def regressor(tmp_path_factory) -> Checkpoint:
    return tiny_checkpoint(tmp_path_factory.mktemp("regressor"), task="regression")


@pytest.fixture(scope="session")
def embedder(tmp_path_factory) -> Checkpoint:
    return without_dropout(tiny_checkpoint(tmp_path_factory.mktemp("embedder")))
