"""The charts of a report: scores, searches, tags and learning curves, as SVG inside the page.

They are drawn for a narrow screen and grow with the page. Multi-level aggregation and none differ in colour,
shape and dashes, seeds in where their marks stand. page.js shows the title of what is pointed at; all numbers
are also in the tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from markupsafe import Markup

from samplecnn.analysis.architectures import Architecture
from samplecnn.analysis.few import SCRATCH, Curve, size, size_name
from samplecnn.analysis.searches import Search, Series
from samplecnn.analysis.svg import Canvas, Scale, shortened
from samplecnn.analysis.tabular import compact, number, span
from samplecnn.runs.results import Interval

WIDTH = 360.0  # of a chart, in pixels on a phone
PANEL = 240.0  # of one of several charts side by side
LETTER = 6.7  # width of a label's letter, at most


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
    multi: bool = True
    seeds: Mapping[int, float] = field(default_factory=dict)  # scores of several trainings
    paper: float | None = None
    css: str | None = None  # a style class of its own

    @property
    def style(self) -> str:
        """How it is drawn."""
        return self.css or style_of(self.multi)

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
    def of(cls, scored: Architecture, label: str, *, comparable: bool = False) -> "Mark":
        """Return the mark of an architecture, single seeds included where there are several."""
        tested = {run.seed: run.results.test.roc_auc for run in scored.runs}
        seeds = {seed: score for seed, score in tested.items() if score is not None}
        paper = scored.paper_auc if comparable else None
        return cls(
            label,
            scored.roc_auc or 0.0,
            scored.roc_interval,
            bool(scored.multi),
            seeds if len(seeds) > 1 else {},
            paper,
        )


def style_of(multi: bool) -> str:
    """Return the style class of an aggregation."""
    return "multi" if multi else "single"


def legend(scored: Sequence[Architecture], *more: tuple[str, str]) -> list[tuple[str, str]]:
    """Return what colours and shapes stand for, and ``more``."""
    present = {one.multi for one in scored}
    both = (True, "multi-level aggregation"), (False, "no multi-level aggregation")
    return [(style_of(multi), name) for multi, name in both if multi in present] + list(more)


def score_figure(scored: Sequence[Architecture], comparable: bool) -> Figure | None:
    """Draw the scores of Table 1, the best on top; None if none is defined."""
    ranked = sorted((s for s in scored if s.roc_auc is not None), key=lambda s: -(s.roc_auc or 0))
    if not ranked:
        return None
    marks = [Mark.of(one, one.label, comparable=comparable) for one in ranked]
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
    defined = [(tag, score) for tag, score in best.scores.per_tag.items() if score.roc_auc is not None]
    defined.sort(key=lambda item: -(item[1].roc_auc or 0))
    marks = [
        Mark(f"{tag} ({s.positives})", s.roc_auc or 0.0, s.roc_auc_interval, bool(best.multi))
        for tag, s in defined
    ]
    note = (
        f"{best.label}, best first, with 95 % intervals over test clips; in brackets, how many of these have "
        "the tag."
    )
    chart = interval_chart(marks, f"ROC-AUC of {len(marks)} tags with 95 % intervals", "ROC-AUC")
    return Figure("ROC-AUC of each tag", note, [("", chart)])


def search_figure(search: Search, series: Sequence[Series]) -> Figure:
    """Draw scores against the number of a search, its values at even steps: a panel per block."""
    values = sorted({*search.tried, *(value for one in series for value, _ in one.points)})
    places = {value: float(index) for index, value in enumerate(values)}
    extent = [v for one in series for scored in one.architectures for v in Mark.of(scored, "").extent]
    blocks = list(dict.fromkeys(one.block for one in series))
    panels = []
    for block in blocks:
        lines = [
            [
                (places[value], Mark.of(scored, f"{one.name}, {search.varied} {compact(value)}"))
                for value, scored in one.points
            ]
            for one in series
            if one.block == block
        ]
        chart = curve_chart(
            lines,
            [compact(value) for value in values],
            search.varied,
            f"{block}: macro ROC-AUC by {search.varied}",
            extent=extent,
            width=WIDTH if len(blocks) == 1 else PANEL,
        )
        panels.append((block, chart))
    note = f"Macro ROC-AUC by {search.varied}, with 95 % intervals over test clips."
    scored = [each for one in series for each in one.architectures]
    return Figure(f"Scores by {search.varied}", note, panels, legend(scored))


def few_figure(curves: Sequence[Curve]) -> Figure:
    """Draw scores against the number of training clips: a panel per start, random weights beside it."""
    points = [one for curve in curves for one in curve.points]
    sizes = sorted({size(one) for one in points})
    panels = []
    for curve in [curve for curve in curves if curve.start] or curves:
        beside = [c for c in curves if c.network == curve.network and not c.start and c is not curve]
        lines = [
            [
                (sizes.index(size(one)), replace(Mark.of(one, one.label), multi=bool(one.start)))
                for one in each.points
            ]
            for each in (curve, *beside)
        ]
        chart = curve_chart(
            lines,
            [size_name(clips) for clips in sizes],
            "training clips",
            f"{curve.name}: macro ROC-AUC by training clips",
            extent=[value for one in points for value in Mark.of(one, "").extent],
            width=WIDTH if len(curves) < 3 else PANEL,
        )
        panels.append((curve.name, chart))
    note = "Macro ROC-AUC by the number of training clips, with 95 % intervals over test clips."
    styles = ("multi", "from a trained model"), ("single", f"from {SCRATCH}")
    kinds = [entry for entry in styles if any(bool(c.start) == (entry[0] == "multi") for c in curves)]
    return Figure("Scores by training clips", note, panels, kinds)


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
        with canvas.group(mark.title, style_of(mark.multi)):
            canvas.row(y - row / 2, row)
            canvas.text(left, y + 4, shortened(mark.label, int((left - 8) / LETTER)), "label end")
            if mark.interval:
                canvas.line("interval", scale(mark.interval[0]), y, scale(mark.interval[1]), y)
            for place, score in enumerate(mark.seeds.values()):
                lane = y - 9 + 18 * place / len(mark.seeds)
                canvas.line("seed", scale(score), lane, scale(score), lane + max(4, 18 / len(mark.seeds)))
            if mark.paper is not None:
                canvas.square(scale(mark.paper), y)
            canvas.marker(scale(mark.value), y, round_=mark.multi)
            canvas.text(WIDTH - 2, y + 4, number(mark.value, 3), "value end")
    return canvas.markup()


def curve_chart(
    lines: Sequence[Sequence[tuple[float, Mark]]],
    names: Sequence[str],
    axis: str,
    label: str,
    *,
    extent: Sequence[float],
    width: float,
) -> Markup:
    """Draw scores at the places 0, 1, ... of the scale below, which have ``names``, a line for each sequence.

    The scale beside has to hold ``extent``.
    """
    height, left = 0.7 * width, 44.0
    canvas = Canvas(width, height, label, left=left, right=4)
    across = Scale.over(range(len(names)), left + 4, width - 8)
    upwards = Scale.over(extent, height - 40, 8)
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
                canvas.marker(x, y, round_=mark.multi)
    return canvas.markup()
