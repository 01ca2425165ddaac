"""Draws how the call budget was used, as points of an SVG: pure functions of samples."""

from collections.abc import Sequence
from typing import NamedTuple

from procorefs.cli.web.mounts import Sample

WIDTH, HEIGHT = 600, 80


class Plot(NamedTuple):
    """Points for `polyline` and `polygon` elements, in a box of WIDTH by HEIGHT."""

    people: str
    """The area of calls that a person waited for."""
    ours: str
    """The area of our calls, which `people` covers in part."""
    total: str
    """The area of all calls, also those of other programs; `ours` covers it in part."""
    limit: str
    """The line of the limit."""
    most: int
    """The number at the upper edge."""
    hours: float
    """The time from the left to the right edge."""


def plot_of(samples: Sequence[Sample]) -> Plot | None:
    """The plot; None with fewer than two samples."""
    if len(samples) < 2:
        return None
    first_s, last_s = samples[0].at_s, samples[-1].at_s
    most = (
        max(max(sample.limit, sample.people + sample.background + sample.others) for sample in samples) or 1
    )

    def point(sample: Sample, calls: int) -> str:
        x = (sample.at_s - first_s) / (last_s - first_s) * WIDTH
        return f"{x:.1f},{HEIGHT - calls / most * HEIGHT:.1f}"

    def area(points: list[str]) -> str:
        return " ".join([f"0,{HEIGHT}", *points, f"{WIDTH},{HEIGHT}"])

    return Plot(
        people=area([point(sample, sample.people) for sample in samples]),
        ours=area([point(sample, sample.people + sample.background) for sample in samples]),
        total=area([point(sample, sample.people + sample.background + sample.others) for sample in samples]),
        limit=" ".join(point(sample, sample.limit) for sample in samples),
        most=most,
        hours=(last_s - first_s) / 3600,
    )
