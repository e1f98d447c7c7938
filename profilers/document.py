"""What a JSON document says it is, checked before anything else is read from it."""

from typing import Any

from targets.errors import InputError, printable


def check_document(data: Any, kind: str, schema: int, name: str) -> None:
    """InputError where the data are not of this kind, or of a schema that this version does not read."""
    if not isinstance(data, dict) or data.get("kind") != kind:
        raise InputError(f"{name} is not a {kind}")
    if data.get("schema") != schema:
        raise InputError(
            f"{name} has schema {printable(repr(data.get('schema')), 60)}, this version reads {schema}\nprofile again: compile profile"
        )
