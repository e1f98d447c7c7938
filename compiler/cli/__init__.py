"""The command line: `compile MODEL …` and its verbs."""

from compiler.cli.main import main

__all__ = ["main"]
