"""Data sets: read, inferred, checked and split; and the sample that ships with the package."""

from compiler.data.description import describe, description_lines
from compiler.data.read import read_data
from compiler.data.sample import demo_data, sample_texts
from compiler.data.text_data import TASKS, Split, TextData

__all__ = ["TASKS", "Split", "TextData", "demo_data", "describe", "description_lines", "read_data", "sample_texts"]
