"""The scale of a front's metric: which way it is better, and what share of a figure another keeps."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from compiler.tasks import PERPLEXITY, SCALES, SHARE, Scale

if TYPE_CHECKING:
    from compiler.report.schema import Front


def scale_of(front: "Front") -> Scale:
    """The scale that a front names; where it names none, shares, which are what older releases had."""
    metric = front["metric"]
    return SCALES[metric.get("scale", SHARE.name if metric["higher_is_better"] else PERPLEXITY.name)]


def wrong_figures(front: "Front") -> Iterator[str]:
    """What contradicts the scale: its direction, or a figure that is better than a perfect one."""
    metric, scale = front["metric"], scale_of(front)
    if scale.higher_is_better != metric["higher_is_better"] or (not scale.higher_is_better and "scale" not in metric):
        yield f"metric: higher_is_better is {metric['higher_is_better']}, its scale is {metric.get('scale', SHARE.name)}"
    if scale.higher_is_better:
        return
    for net in (front["dense"], *front["candidates"]):
        for split in ("validation", "test"):
            figure = net["metric"][split]
            if figure is not None and figure < scale.figure(0.0):
                yield f"{net['id']}: metric.{split} is {figure:g}, the least {scale.name} is {scale.figure(0.0):g}"
