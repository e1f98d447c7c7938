"""Installed distributions against what paretoc's own metadata ask for."""

from importlib import metadata

from compiler.diagnosis.form import Package

_EXTRAS = ("cpu", "gpu", "bo", "demo")
_BESIDE = ("sentence-transformers", "tensorrt", "peft", "openvino")
"""No requirement, and yet of use where it is installed: named only then."""


def installed(name: str) -> str | None:
    """The version of a distribution; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def read_packages() -> list[Package]:
    """What is asked for and what is there: first what every run needs, then by extra, then what is of use."""
    from packaging.requirements import Requirement

    found: list[Package] = []
    for text in metadata.requires("paretoc") or []:
        requirement = Requirement(text)
        extra = next((name for name in _EXTRAS if _asks(requirement, name)), None)
        if requirement.marker is not None and extra is None and not requirement.marker.evaluate({"extra": ""}):
            continue  # for developers, or for another system
        version = installed(requirement.name)
        found.append(
            {
                "name": requirement.name,
                "wanted": str(requirement.specifier),
                "extra": extra,
                "found": version,
                "fits": version is not None and requirement.specifier.contains(version, prereleases=True),
            }
        )
    beside = [(name, version) for name in _BESIDE if (version := installed(name))]
    return found + [
        {"name": name, "wanted": "", "extra": "none", "found": version, "fits": True} for name, version in beside
    ]


def _asks(requirement: object, extra: str) -> bool:
    """Whether a requirement belongs to an extra alone."""
    marker = getattr(requirement, "marker", None)
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})
