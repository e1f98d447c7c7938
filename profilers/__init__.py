"""What a piece of a network costs on a device, measured in the runtime that will serve it."""

from profilers.cost_table import CostKey, CostTable, MissingCostError, Overflow, TableError
from profilers.graph import Graph, GraphSource
from profilers.interleave import Plan, Recorder, Series, interleave
from profilers.measurement import Estimate, Measurement
from profilers.profile import measure_table, roofline_table
from profilers.program import Dimensions, Program, Workbench
from profilers.runtimes import RUNTIMES, OutOfMemoryError, Runtime, Session, make_runtime
from profilers.sizes import Heads, LayerSizes, Stack, are_split, attention_sizes
from profilers.workload import Workload

__all__ = [
    "RUNTIMES",
    "CostKey",
    "CostTable",
    "Dimensions",
    "Estimate",
    "Graph",
    "GraphSource",
    "Heads",
    "LayerSizes",
    "Measurement",
    "MissingCostError",
    "OutOfMemoryError",
    "Overflow",
    "Plan",
    "Program",
    "Recorder",
    "Runtime",
    "Series",
    "Session",
    "Stack",
    "TableError",
    "Workbench",
    "Workload",
    "are_split",
    "attention_sizes",
    "interleave",
    "make_runtime",
    "measure_table",
    "roofline_table",
]
