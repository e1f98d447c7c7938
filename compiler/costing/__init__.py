"""Costs of many sub-networks at once: parameters by closed form, the rest from what was measured."""

from compiler.costing.costs import OBJECTIVES, BatchModel, Costs
from compiler.costing.model import CostModel, dimensions_of, parameter_counts

__all__ = ["OBJECTIVES", "BatchModel", "CostModel", "Costs", "dimensions_of", "parameter_counts"]
