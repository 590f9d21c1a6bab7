"""Learning curves: a panel per block, a line per run, the number of its seed at the end of each."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from markupsafe import Markup

from samplecnn.analysis.architectures import Architecture
from samplecnn.analysis.charts import PANEL, Figure, legend, style_of
from samplecnn.analysis.svg import Canvas, Point, Scale
from samplecnn.analysis.tabular import number

LINE = 9.0  # height of the number of a seed


class Training(NamedTuple):
    """What one training did, epoch by epoch."""

    multi: bool
    title: str
    seed: int
    points: Sequence[Point]


def learning_figure(scored: Sequence[Architecture], key: str, title: str, note: str) -> Figure | None:
    """Draw a column of metrics.csv by epoch: a panel per block, a line per run; None without one."""
    by_block: dict[str, list[Training]] = {}
    for one in scored:
        for run in one.runs:
            points = [(row["epoch"] + 1, row[key]) for row in run.epochs if math.isfinite(row[key])]
            if points:
                curves = by_block.setdefault(one.name, [])
                curves.append(Training(bool(one.multi), f"{one.label}, seed {run.seed}", run.seed, points))
    if not by_block:
        return None
    xs, ys = zip(*(p for curves in by_block.values() for one in curves for p in one.points), strict=True)
    across, upwards = (min(xs), max(xs)), (min(ys), max(ys))
    panels = [
        (block, learning_chart(curves, across, upwards, f"{title} of {block} by epoch"))
        for block, curves in by_block.items()
    ]
    several = any(_several_seeds(curves) for curves in by_block.values())
    return Figure(title, note, panels, legend(scored, *([("number", "the seed")] if several else [])))


def learning_chart(curves: Sequence[Training], across: Point, upwards: Point, label: str) -> Markup:
    """Draw learning curves on given ranges, so that panels can be compared."""
    width, height, left, right = PANEL, 170.0, 40.0, 18.0
    canvas = Canvas(width, height, label, left=left, right=right)
    x_scale = Scale(across[0], max(across[1], across[0] + 1), left + 6, width - right)
    y_scale = Scale.over(upwards, height - 34, 6)
    canvas.scale_beside(y_scale, left, width - right, 4)
    canvas.scale_below(x_scale, x_scale.ticks(smallest=1), height - 20, "epoch")
    numbered = _several_seeds(curves) and len(curves) * LINE <= height - 34
    ends = _apart([y_scale(one.points[-1][1]) for one in curves], height - 34)
    for one, end in zip(curves, ends, strict=True):
        places = [(x_scale(x), y_scale(y)) for x, y in one.points]
        values = [f"epoch {x:.0f}: {number(y)}" for x, y in one.points]
        with canvas.group(one.title, style_of(one.multi), values):
            canvas.curve("line", places)
            if len(places) == 1:
                canvas.marker(*places[0], round_=one.multi)
            if numbered:
                canvas.text(width - right + 4, end + 3, str(one.seed), "number")
    return canvas.markup()


def _several_seeds(curves: Sequence[Training]) -> bool:
    return len({one.seed for one in curves}) > 1


def _apart(ends: Sequence[float], bottom: float) -> list[float]:
    """Return where numbers stand that do not cover each other: each as near to its end as others let it."""
    order = sorted(range(len(ends)), key=ends.__getitem__)
    places = list(ends)
    for one, under in pairwise(order):
        places[under] = max(places[under], places[one] + LINE)
    places[order[-1]] = min(places[order[-1]], bottom)
    for one, over in pairwise(reversed(order)):
        places[over] = min(places[over], places[one] - LINE)
    return places
