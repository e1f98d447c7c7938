"""Data sets: read, inferred, checked and split; and the sample that ships with the package."""

from compiler.data.read import read_data
from compiler.data.sample import demo_data, sample_texts
from compiler.data.text_data import TASKS, Split, TextData

__all__ = ["TASKS", "Split", "TextData", "demo_data", "read_data", "sample_texts"]
