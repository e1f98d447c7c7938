"""Costs of many sub-networks at once: parameters by closed form, latency from a measured table."""

from compiler.costing.model import CostModel, dimensions_of, parameter_counts

__all__ = ["CostModel", "dimensions_of", "parameter_counts"]
