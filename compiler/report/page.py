"""Self-contained pages from templates: no network, no second file, and no script but a page's own."""

from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from compiler.report import text

_FILTERS = (
    "number", "score", "milliseconds", "ratio", "percent", "share_of_peak", "signed_percent", "count", "size", "seconds", "words",
    "form",
)  # fmt: skip


def resource(name: str) -> Markup:
    """A file of this package, trusted as it stands."""
    return Markup(files("compiler.report").joinpath(name).read_text(encoding="utf-8"))  # noqa: S704  our own file


def fill(template: str, **values: Any) -> str:
    """A template of this package as a page, in the style of all of them; what it names and nobody gave is an error."""
    loader = PackageLoader("compiler.report", package_path="")
    env = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    env.filters.update({name: getattr(text, name) for name in _FILTERS})
    return env.get_template(template).render(style=resource("style.css"), UNKNOWN=text.UNKNOWN, **values)
