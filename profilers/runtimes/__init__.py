"""Runtimes that time programs: ONNX Runtime, PyTorch, and the null device without a clock."""

from profilers.runtimes.interface import Runtime, Session
from profilers.runtimes.registry import RUNTIMES, make_runtime

__all__ = ["RUNTIMES", "Runtime", "Session", "make_runtime"]
