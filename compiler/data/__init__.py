"""Data sets: read, inferred, checked and split; and the sample that ships with the package."""

from compiler.data.description import describe, description_lines
from compiler.data.sample import demo_data, sample_texts
from compiler.data.text_data import Split, TextData

__all__ = ["Split", "TextData", "demo_data", "describe", "description_lines", "sample_texts"]
