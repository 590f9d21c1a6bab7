"""Charts as SVG inside the page, whose style (page.css) gives them their colours and follows the theme.

They are drawn for a narrow screen and grow with the page. Multi-level aggregation and none differ in colour,
shape and dashes. A mark has a title that a pointer shows; all numbers are also in the tables.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

from samplecnn.analysis.statistics import Interval
from samplecnn.analysis.tables import number, span

WIDTH = 360.0  # of a chart, in pixels on a phone
PANEL = 240.0  # of one of several charts side by side
LETTER = 6.1  # width of a label's letter, at most
Point = tuple[float, float]


@dataclass(frozen=True)
class Mark:
    """A score with its interval."""

    label: str
    value: float
    interval: Interval | None
    multi: bool = True
    seeds: tuple[float, ...] = ()  # scores of single trainings
    paper: float | None = None

    @property
    def title(self) -> str:
        """What a pointer shows."""
        reach = f", 95 % interval {span(self.interval)}" if self.interval else ""
        paper = f", the paper {number(self.paper)}" if self.paper is not None else ""
        return f"{self.label}: {number(self.value)}{reach}{paper}"

    @property
    def extent(self) -> list[float]:
        """All that has to be on the scale."""
        return [
            self.value,
            *(self.interval or ()),
            *self.seeds,
            *([] if self.paper is None else [self.paper]),
        ]


@dataclass(frozen=True)
class Scale:
    """From values to places on the canvas, with round numbers along it."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> "Scale":
        """Return a scale that holds all values, with a little room at its ends."""
        low, high = min(values), max(values)
        room = 0.05 * (high - low) or 0.01
        return cls(low - room, high + room, start, end)

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[tuple[float, str]]:
        """Return about ``count`` round numbers with what to write at them."""
        step = self._step(count)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(step * i, f"{step * i:.{digits}f}") for i in range(first, last + 1)]

    def _step(self, count: int) -> float:
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= 0.999 * rough)

    def whole_ticks(self) -> list[tuple[int, str]]:
        """Return about five whole numbers."""
        step = max(1, round(self._step(5)))
        first = math.ceil(self.low / step) * step
        return [(value, str(value)) for value in range(first, math.floor(self.high) + 1, step)]


class Canvas:
    """An SVG under construction; text is escaped."""

    def __init__(self, width: float, height: float, label: str) -> None:
        view = f"0 0 {width:g} {height:g}"
        self.root = Element("svg", {"viewBox": view, "role": "img", "aria-label": label, "class": "chart"})
        self.here = self.root

    def group(self, title: str, css: str) -> None:
        """Let what follows be one thing with a title."""
        self.here = SubElement(self.root, "g", {"class": css})
        SubElement(self.here, "title").text = title

    def end_group(self) -> None:
        """Let what follows stand alone."""
        self.here = self.root

    def draw(self, shape: str, css: str, **at: float | str) -> None:
        """Add a line, circle, path, ...; numbers are rounded to what can be seen."""
        attributes = {k: v if isinstance(v, str) else f"{v:.1f}" for k, v in at.items()}
        SubElement(self.here, shape, {"class": css, **attributes})

    def text(self, x: float, y: float, text: str, css: str) -> None:
        """Write at a place: ``start``, ``middle`` or ``end`` among the classes says which side of it."""
        SubElement(self.here, "text", {"class": css, "x": f"{x:.1f}", "y": f"{y:.1f}"}).text = text

    def marker(self, x: float, y: float, multi: bool) -> None:
        """Draw a circle for multi-level aggregation, a diamond for none."""
        if multi:
            self.draw("circle", "mark", cx=x, cy=y, r=4)
        else:
            self.draw("path", "mark", d=f"M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z")

    def markup(self) -> Markup:
        """Return the SVG, safe to stand in the page: all text in it was escaped by the XML writer."""
        return Markup(tostring(self.root, encoding="unicode"))  # noqa: S704


def kind(multi: bool) -> str:
    """Return the style class of an aggregation."""
    return "multi" if multi else "single"


def intervals(marks: Sequence[Mark], label: str, axis: str = "macro ROC-AUC") -> Markup:
    """Draw scores with their intervals, a row each."""
    row, top = 20.0, 6.0
    left = min(max(len(mark.label) for mark in marks) * LETTER + 10, 0.45 * WIDTH)
    bottom = top + row * len(marks)
    canvas = Canvas(WIDTH, bottom + 36, label)
    scale = Scale.over([value for mark in marks for value in mark.extent], left + 6, WIDTH - 48)
    for value, text in scale.ticks():
        canvas.draw("line", "grid", x1=scale(value), x2=scale(value), y1=top, y2=bottom)
        canvas.text(scale(value), bottom + 14, text, "tick middle")
    canvas.text((scale.start + scale.end) / 2, bottom + 30, axis, "tick middle")
    for position, mark in enumerate(marks):
        y = top + row * (position + 0.5)
        canvas.group(mark.title, kind(mark.multi))
        canvas.text(left, y + 4, shortened(mark.label, left - 8), "label end")
        if mark.interval:
            canvas.draw("line", "reach", x1=scale(mark.interval[0]), x2=scale(mark.interval[1]), y1=y, y2=y)
        for score in mark.seeds:
            canvas.draw("line", "seed", x1=scale(score), x2=scale(score), y1=y - 6, y2=y + 6)
        if mark.paper is not None:
            canvas.draw("rect", "paper", x=scale(mark.paper) - 4, y=y - 4, width=8, height=8)
        canvas.marker(scale(mark.value), y, mark.multi)
        canvas.text(WIDTH - 2, y + 4, number(mark.value, 3), "value end")
        canvas.end_group()
    return canvas.markup()


def shortened(text: str, width: float) -> str:
    """Return as much of a text as fits."""
    letters = int(width / LETTER)
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


Line = Sequence[tuple[float, Mark]]  # by place on the scale below


def curve(
    lines: Sequence[Line],
    names: dict[float, str],
    axis: str,
    label: str,
    *,
    extent: Sequence[float],
    width: float,
) -> Markup:
    """Draw scores against a number, a line for each sequence.

    ``names`` are what to write at the places of the scale below; the scale beside has to hold ``extent``.
    """
    height, left = 0.6 * width, 44.0
    canvas = Canvas(width, height, label)
    across = Scale.over(list(names), left + 4, width - 8)
    upwards = Scale.over(extent, height - 40, 8)
    for value, text in upwards.ticks(4):
        canvas.draw("line", "grid", x1=left, x2=width - 4, y1=upwards(value), y2=upwards(value))
        canvas.text(left - 4, upwards(value) + 4, text, "tick end")
    for place, name in names.items():
        canvas.text(across(place), height - 24, name, "tick middle")
    canvas.text((across.start + across.end) / 2, height - 6, axis, "tick middle")
    for index, line in enumerate(lines):
        shift = 5.0 * (index - (len(lines) - 1) / 2)  # side by side where they are at one place
        points = [(across(place) + shift, upwards(mark.value)) for place, mark in line]
        canvas.draw("path", f"line {kind(line[0][1].multi)}", d=path(points))
        for (x, y), (_, mark) in zip(points, line, strict=True):
            canvas.group(mark.title, kind(mark.multi))
            if mark.interval:
                ends = [upwards(end) for end in mark.interval]
                canvas.draw("line", "reach", x1=x, x2=x, y1=ends[0], y2=ends[1])
            canvas.marker(x, y, mark.multi)
            canvas.end_group()
    return canvas.markup()


def path(points: Sequence[Point]) -> str:
    """Return the path through points."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def panel(
    lines: Sequence[tuple[bool, str, Sequence[Point]]], across: Point, upwards: Point, label: str
) -> Markup:
    """Draw learning curves (multi or not, title, points) on given ranges, so that panels can be compared."""
    width, height, left = PANEL, 150.0, 40.0
    canvas = Canvas(width, height, label)
    x_scale = Scale(across[0], max(across[1], across[0] + 1), left + 6, width - 8)
    y_scale = Scale.over(upwards, height - 34, 6)
    for value, text in y_scale.ticks(3):
        canvas.draw("line", "grid", x1=left, x2=width - 4, y1=y_scale(value), y2=y_scale(value))
        canvas.text(left - 4, y_scale(value) + 4, text, "tick end")
    for epoch, text in x_scale.whole_ticks():
        canvas.text(x_scale(epoch), height - 20, text, "tick middle")
    canvas.text((x_scale.start + x_scale.end) / 2, height - 4, "epoch", "tick middle")
    for multi, title, points in lines:
        places = [(x_scale(x), y_scale(y)) for x, y in points]
        canvas.group(title, kind(multi))
        canvas.draw("path", "line", d=path(places))
        if len(places) == 1:
            canvas.marker(*places[0], multi)
        canvas.end_group()
    return canvas.markup()
