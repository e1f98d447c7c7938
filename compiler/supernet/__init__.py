"""Super-network training: shared weights for all sub-networks of a space, the dense baseline, and the final polish."""

from compiler.supernet.ranks import follow, follows, leading, together
from compiler.supernet.strategies import (
    SAMPLINGS,
    STRATEGIES,
    Plan,
    Turn,
    plan_step,
    stratified_sampler,
    uniform_sampler,
)
from compiler.supernet.training import TrainingOptions, fine_tune, polish, train_alone, train_supernet

__all__ = [
    "SAMPLINGS",
    "STRATEGIES",
    "Plan",
    "TrainingOptions",
    "Turn",
    "fine_tune",
    "follow",
    "follows",
    "leading",
    "plan_step",
    "polish",
    "stratified_sampler",
    "together",
    "train_alone",
    "train_supernet",
    "uniform_sampler",
]
