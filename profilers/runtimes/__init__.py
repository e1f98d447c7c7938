"""Runtimes that time programs: ONNX Runtime, TensorRT, PyTorch, and the null device without a clock."""

from profilers.runtimes.interface import OutOfMemoryError, Runtime, Session
from profilers.runtimes.registry import RUNTIMES, make_runtime

__all__ = ["RUNTIMES", "OutOfMemoryError", "Runtime", "Session", "make_runtime"]
