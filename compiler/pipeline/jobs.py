"""The jobs of a run as data: what `compiler.pipeline.worker` does in another process, and what it does it with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compiler.evaluation import Quality
from compiler.execution import Job
from compiler.spaces import Form, SubBlock, Subnet


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluate:
    """Judge a candidate: `compiler.pipeline.judge.Judge.quality`."""

    subnet: Subnet
    form: Form
    share: float
    rival: Quality | None

    def job(self, threads: int) -> Job:
        """The job on so many threads; the quality goes into the store, at a first look or on all examples."""
        return Job(kind="evaluate", body=self.to_json(), threads=threads)

    def to_json(self) -> dict[str, Any]:
        """The network, its form, how far it is trained, and the quality of its rival."""
        return {
            "subnet": self.subnet.to_json(),
            **_form_json(self.form),
            "share": self.share,
            "rival": self.rival and self.rival.to_json(),
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Evaluate":
        """Inverse of `to_json`."""
        return cls(
            subnet=Subnet.from_json(body["subnet"]),
            form=_form(body),
            share=body["share"],
            rival=body["rival"] and Quality.from_json(body["rival"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Correct:
    """Make the weights that a network ships with or is polished from: `compiler.pipeline.weights.Weights.corrected`."""

    subnet: Subnet
    share: float

    def job(self, threads: int) -> Job:
        """The job on so many threads; the weights go into the store."""
        return Job(kind="correct", body=self.to_json(), threads=threads)

    def to_json(self) -> dict[str, Any]:
        """The network, and how far it is trained."""
        return {"subnet": self.subnet.to_json(), "share": self.share}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Correct":
        """Inverse of `to_json`."""
        return cls(subnet=Subnet.from_json(body["subnet"]), share=body["share"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Judge a finished network as it will be served: `compiler.pipeline.judge.Judge.finished`."""

    subnet: Subnet
    form: Form
    share: float

    def job(self, threads: int) -> Job:
        """The job on so many threads; quality and decisions go into the store."""
        return Job(kind="score", body=self.to_json(), threads=threads)

    def to_json(self) -> dict[str, Any]:
        """The network, its form, and how far it is trained."""
        return {"subnet": self.subnet.to_json(), "share": self.share, **_form_json(self.form)}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Score":
        """Inverse of `to_json`."""
        return cls(subnet=Subnet.from_json(body["subnet"]), form=_form(body), share=body["share"])


def _form_json(form: Form) -> dict[str, Any]:
    return {"precision": form.precision, "exceptions": [list(block) for block in form.exceptions]}


def _form(body: Mapping[str, Any]) -> Form:
    return Form(body["precision"], tuple(SubBlock(*block) for block in body["exceptions"]))
