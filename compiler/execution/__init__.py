"""Where a model learns: the one device of a run, and how tensors get there."""

from compiler.execution.device import (
    CPU,
    ComputeDevice,
    check_device,
    device_of,
    on_host,
    on_the_models_device,
    placed,
)

__all__ = ["CPU", "ComputeDevice", "check_device", "device_of", "on_host", "on_the_models_device", "placed"]
