"""The whole way: options in, a run directory out."""

from compiler.pipeline.monitor import Monitor, SilentMonitor
from compiler.pipeline.options import Budgets, Options
from compiler.pipeline.run import compile_model
from compiler.pipeline.targets import compile_targets

__all__ = ["Budgets", "Monitor", "Options", "SilentMonitor", "compile_model", "compile_targets"]
