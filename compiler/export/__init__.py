"""ONNX files of sub-networks from one dense export, and the transformers checkpoints beside them."""

from compiler.export.artifact import Artifact, compare_with_fresh_export, write_artifact
from compiler.export.checkpoint import save_checkpoint
from compiler.export.files import check_graph, sha256_of
from compiler.export.origin import declared_tasks, is_compiled, read_origin, refuse_two_tasks
from compiler.export.parity import check_attention, compare, odd_inputs
from compiler.export.rebuild import load_model, load_sliced
from compiler.export.session import graph_run
from compiler.export.template import GraphTemplate, make_template, narrow_template
from compiler.export.workbench import ModelWorkbench

__all__ = [
    "Artifact",
    "GraphTemplate",
    "ModelWorkbench",
    "check_attention",
    "check_graph",
    "compare",
    "compare_with_fresh_export",
    "declared_tasks",
    "graph_run",
    "is_compiled",
    "load_model",
    "load_sliced",
    "make_template",
    "narrow_template",
    "odd_inputs",
    "read_origin",
    "refuse_two_tasks",
    "save_checkpoint",
    "sha256_of",
    "write_artifact",
]
