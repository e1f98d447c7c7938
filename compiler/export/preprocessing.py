"""The few lines from texts to a graph's inputs: the HTTP server and the model card have the same ones."""

from importlib.resources import files
from pathlib import Path
from string import Template

from compiler.families import Checkpoint

BEGIN, END = "# The model card shows these lines.\n", "# To here.\n"
"""Around the lines in a server's script."""


def preprocessing(checkpoint: Checkpoint) -> str:
    """Python from texts to arrays by name: the model's own limit, sides, padding and prompt."""
    tokenizer, recipe = checkpoint.tokenizer, checkpoint.model.recipe
    prompt = recipe.prompt if recipe is not None else ""
    template = Template(files("compiler.export").joinpath("preprocessing.txt").read_text(encoding="utf-8"))
    return template.substitute(
        max_tokens=checkpoint.max_tokens,
        side=tokenizer.truncation_side,
        pad_id=tokenizer.pad_token_id,
        pad_type_id=tokenizer.pad_token_type_id,
        pad_token=repr(tokenizer.pad_token),
        texts=f"[{prompt!r} + text for text in texts]" if prompt else "texts",
    )


def lines_of_server(artifact: Path) -> str:
    """The lines in the server's script beside an artefact; empty where there is none."""
    script = artifact / "serving" / "http" / "server.py"
    if not script.is_file():
        return ""
    text = script.read_text(encoding="utf-8")
    return text.partition(BEGIN)[2].partition(END)[0]
