"""ONNX files of sub-networks from one dense export, and the transformers checkpoints beside them."""
