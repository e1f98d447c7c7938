"""Where a checkpoint keeps its layers, heads and FFN units, one table row per family."""

from compiler.families.architecture import Architecture
from compiler.families.branch import PIECES, Branch, Kept, Matrix
from compiler.families.checkpoint import Checkpoint, load_checkpoint
from compiler.families.embedding import EmbeddingRecipe
from compiler.families.table import FAMILIES, Family, family_of, supported_model_types
from compiler.families.task_model import TaskModel

__all__ = [
    "FAMILIES",
    "PIECES",
    "Architecture",
    "Branch",
    "Checkpoint",
    "EmbeddingRecipe",
    "Family",
    "Kept",
    "Matrix",
    "TaskModel",
    "family_of",
    "load_checkpoint",
    "supported_model_types",
]
