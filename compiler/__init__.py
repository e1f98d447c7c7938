"""Decide, cut, emit: from a checkpoint and a device to verified ONNX artefacts."""
