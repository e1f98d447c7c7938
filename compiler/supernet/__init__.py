"""Super-network training: shared weights for all sub-networks of a space, the dense baseline, and the final polish."""

from compiler.supernet.strategies import (
    STRATEGIES,
    Plan,
    Turn,
    plan_step,
    stratified_sampler,
    uniform_sampler,
)
from compiler.supernet.training import TrainingOptions, fine_tune, polish, train_supernet

__all__ = [
    "STRATEGIES",
    "Plan",
    "TrainingOptions",
    "Turn",
    "fine_tune",
    "plan_step",
    "polish",
    "stratified_sampler",
    "train_supernet",
    "uniform_sampler",
]
