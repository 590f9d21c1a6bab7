"""The charts of a report: scores, searches, tags and learning curves, as SVG inside the page.

They are drawn for a narrow screen and grow with the page. Multi-level aggregation and none differ in colour,
shape and dashes, seeds in where their marks stand. page.js shows the title of what is pointed at; all numbers
are also in the tables.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from markupsafe import Markup

from samplecnn.analysis.architectures import Architecture
from samplecnn.analysis.svg import Canvas, Point, Scale, shortened
from samplecnn.analysis.tabular import number, span
from samplecnn.runs.results import Interval

WIDTH = 360.0  # of a chart, in pixels on a phone
PANEL = 240.0  # of one of several charts side by side
LETTER = 6.7  # width of a label's letter, at most
LINE = 9.0  # height of the number of a seed


@dataclass(frozen=True)
class Figure:
    """One chart or several panels, with what they show."""

    title: str
    note: str
    panels: Sequence[tuple[str, Markup]]  # caption, SVG
    legend: Sequence[tuple[str, str]] = ()  # style class, what it stands for
    small: bool = False  # many panels, each of them small


@dataclass(frozen=True)
class Mark:
    """A score with its interval."""

    label: str
    value: float
    interval: Interval | None
    style: str = "multi"  # class
    seeds: Mapping[int, float] = field(default_factory=dict)  # scores of several trainings
    paper: float | None = None

    @property
    def title(self) -> str:
        """What a pointer shows."""
        interval = f", 95 % interval {span(self.interval)}" if self.interval else ""
        paper = f", the paper {number(self.paper)}" if self.paper is not None else ""
        seeds = "".join(f", seed {seed} {number(score)}" for seed, score in self.seeds.items())
        return f"{self.label}: {number(self.value)}{interval}{paper}{seeds}"

    @property
    def extent(self) -> list[float]:
        """All that has to be on the scale."""
        paper = () if self.paper is None else (self.paper,)
        return [self.value, *(self.interval or ()), *self.seeds.values(), *paper]

    @classmethod
    def of(cls, scored: Architecture, label: str, *, paper: float | None = None) -> "Mark":
        """Return the mark of an architecture, single seeds included where there are several."""
        tested = {run.seed: run.results.test.roc_auc for run in scored.runs}
        seeds = {seed: score for seed, score in tested.items() if score is not None and len(tested) > 1}
        value, interval = scored.scores.roc_auc or 0.0, scored.scores.roc_auc_interval
        return cls(label, value, interval, style_of(scored.multi), seeds, paper)


def style_of(multi: bool | None) -> str:
    """Return the style class of an aggregation."""
    return "multi" if multi else "single"


def legend(scored: Sequence[Architecture], *more: tuple[str, str]) -> list[tuple[str, str]]:
    """Return what colours and shapes stand for, and ``more``."""
    present = {one.multi for one in scored}
    both = (True, "multi-level aggregation"), (False, "no multi-level aggregation")
    return [(style_of(multi), name) for multi, name in both if multi in present] + list(more)


def score_figure(ranked: Sequence[Architecture]) -> Figure | None:
    """Draw the scores of Table 1, which are in their order; None if none is defined."""
    if not ranked:
        return None
    marks = [Mark.of(one, one.label, paper=one.paper_auc) for one in ranked]
    more = [("seed", "single seeds, the lowest on top")] if any(mark.seeds for mark in marks) else []
    if any(mark.paper is not None for mark in marks):
        more.append(("paper", "the paper"))
    note = (
        "Macro ROC-AUC on the test split, best first, with 95 % intervals over test clips. Intervals that "
        "overlap do not mean that two cannot be told apart: the clips are the same for both, see the "
        "paired differences."
    )
    chart = interval_chart(marks, f"Macro ROC-AUC of {len(marks)} architectures with 95 % intervals")
    return Figure("Scores", note, [("", chart)], legend(ranked, *more))


def tag_figure(best: Architecture) -> Figure:
    """Draw the scores of each tag, best first."""
    marks = [
        Mark(f"{tag} ({scores.positives})", scores.roc_auc, scores.roc_auc_interval, style_of(best.multi))
        for tag, scores in best.scores.best_first
        if scores.roc_auc is not None
    ]
    note = (
        f"{best.label}, best first, with 95 % intervals over test clips; in brackets, how many of these have "
        "the tag."
    )
    chart = interval_chart(marks, f"ROC-AUC of {len(marks)} tags with 95 % intervals", "ROC-AUC")
    return Figure("ROC-AUC of each tag", note, [("", chart)])


def interval_chart(marks: Sequence[Mark], label: str, axis: str = "macro ROC-AUC") -> Markup:
    """Draw scores with their intervals, a row each."""
    row, top = 20.0, 6.0
    left = min(max(len(mark.label) for mark in marks) * LETTER + 10, 0.45 * WIDTH)
    bottom = top + row * len(marks)
    canvas = Canvas(WIDTH, bottom + 36, label, left=left + 6, right=48)
    scale = Scale.over([value for mark in marks for value in mark.extent], left + 6, WIDTH - 48)
    for value, _ in scale.ticks():
        canvas.line("grid", scale(value), top, scale(value), bottom)
    canvas.scale_below(scale, scale.ticks(), bottom + 14, axis)
    for position, mark in enumerate(marks):
        y = top + row * (position + 0.5)
        with canvas.group(mark.title, mark.style):
            canvas.row(y - row / 2, row)
            canvas.text(left, y + 4, shortened(mark.label, int((left - 8) / LETTER)), "label end")
            if mark.interval:
                canvas.line("interval", scale(mark.interval[0]), y, scale(mark.interval[1]), y)
            for place, score in enumerate(mark.seeds.values()):
                lane = y - 9 + 18 * place / len(mark.seeds)
                canvas.line("seed", scale(score), lane, scale(score), lane + max(4, 18 / len(mark.seeds)))
            if mark.paper is not None:
                canvas.marker(scale(mark.paper), y, "paper")
            canvas.marker(scale(mark.value), y, mark.style)
            canvas.text(WIDTH - 2, y + 4, number(mark.value, 3), "value end")
    return canvas.markup()


def curve_chart(
    lines: Sequence[Sequence[tuple[float, Mark]]],
    names: Sequence[str],
    axis: str,
    label: str,
    *,
    width: float,
    extent: Sequence[float] = (),
) -> Markup:
    """Draw scores at the places 0, 1, ... of the scale below, which have ``names``, a line for each sequence.

    The scale beside holds ``extent`` too, which panels have in common.
    """
    height, left = 0.7 * width, 44.0
    canvas = Canvas(width, height, label, left=left, right=4)
    across = Scale.over(range(len(names)), left + 4, width - 8)
    shown = [value for line in lines for _, mark in line for value in mark.extent]
    upwards = Scale.over([*shown, *extent] or [0, 1], height - 40, 8)
    canvas.scale_beside(upwards, left, width - 4, 4)
    canvas.scale_below(across, enumerate(names), height - 22, axis)
    for index, line in enumerate(lines):
        shift = 5.0 * (index - (len(lines) - 1) / 2)  # side by side where they are at one place
        points = [(across(place) + shift, upwards(mark.value)) for place, mark in line]
        canvas.curve(f"line {line[0][1].style}", points)
        for (x, y), (_, mark) in zip(points, line, strict=True):
            with canvas.group(mark.title, mark.style):
                if mark.interval:
                    canvas.line("interval", x, upwards(mark.interval[0]), x, upwards(mark.interval[1]))
                canvas.marker(x, y, mark.style)
    return canvas.markup()


class Training(NamedTuple):
    """What one training did, epoch by epoch."""

    style: str
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
                title_of = f"{one.label}, seed {run.seed}"
                curves.append(Training(style_of(one.multi), title_of, run.seed, points))
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
        with canvas.group(one.title, one.style, values):
            canvas.curve("line", places)
            if len(places) == 1:
                canvas.marker(*places[0], one.style)
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
