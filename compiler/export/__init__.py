"""ONNX files of sub-networks from one dense export, and the transformers checkpoints beside them."""

from compiler.export.artifact import Artifact, compare_with_fresh_export, write_artifact
from compiler.export.checkpoint import load_sliced, save_checkpoint
from compiler.export.session import graph_run
from compiler.export.template import GraphTemplate, make_template, narrow_template
from compiler.export.workbench import ModelWorkbench

__all__ = [
    "Artifact",
    "GraphTemplate",
    "ModelWorkbench",
    "compare_with_fresh_export",
    "graph_run",
    "load_sliced",
    "make_template",
    "narrow_template",
    "save_checkpoint",
    "write_artifact",
]
