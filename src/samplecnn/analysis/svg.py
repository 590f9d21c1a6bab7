"""Drawing in SVG: scales with round numbers, and a canvas. The page's style (page.css) gives the colours."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

from markupsafe import Markup

Point = tuple[float, float]
GAP = 24.0  # between charts, for a caption


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

    def ticks(self, count: int = 5, *, smallest: float = 0) -> list[tuple[float, str]]:
        """Return about ``count`` round numbers, ``smallest`` or more apart, with what to write at them."""
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= 0.999 * rough)
        step = max(step, smallest)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(step * i, f"{step * i:.{digits}f}") for i in range(first, last + 1)]


class Canvas:
    """An SVG under construction; text is escaped."""

    def __init__(self, width: float, height: float, label: str) -> None:
        view = f"0 0 {width:g} {height:g}"
        self._root = Element("svg", {"viewBox": view, "role": "img", "aria-label": label, "class": "chart"})
        self._parent = self._root

    @contextmanager
    def group(self, title: str, css: str) -> Iterator[None]:
        """Let what is drawn inside be one thing with a title."""
        self._parent = SubElement(self._root, "g", {"class": css})
        SubElement(self._parent, "title").text = title
        yield
        self._parent = self._root

    def draw(self, shape: str, css: str, **at: float | str) -> None:
        """Add a circle, path, ...; numbers are rounded to what can be seen."""
        attributes = {k: v if isinstance(v, str) else f"{v:.1f}" for k, v in at.items()}
        SubElement(self._parent, shape, {"class": css, **attributes})

    def line(self, css: str, x1: float, y1: float, x2: float, y2: float) -> None:
        """Add a straight line."""
        self.draw("line", css, x1=x1, x2=x2, y1=y1, y2=y2)

    def text(self, x: float, y: float, text: str, css: str) -> None:
        """Write at a place: ``start``, ``middle`` or ``end`` among the classes says which side of it."""
        SubElement(self._parent, "text", {"class": css, "x": f"{x:.1f}", "y": f"{y:.1f}"}).text = text

    def scale_beside(self, scale: Scale, left: float, right: float, count: int) -> None:
        """Write round numbers left of the chart, with a line across it at each."""
        for value, text in scale.ticks(count):
            self.line("grid", left, scale(value), right, scale(value))
            self.text(left - 4, scale(value) + 4, text, "tick end")

    def scale_below(self, scale: Scale, ticks: Iterable[tuple[float, str]], y: float, axis: str) -> None:
        """Write ticks below the chart, and under them what they are of."""
        for value, text in ticks:
            self.text(scale(value), y, text, "tick middle")
        self.text((scale.start + scale.end) / 2, y + 16, axis, "tick middle")

    def marker(self, x: float, y: float, *, round_: bool) -> None:
        """Draw a circle or a diamond."""
        if round_:
            self.draw("circle", "mark", cx=x, cy=y, r=4)
        else:
            self.draw("path", "mark", d=f"M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z")

    def markup(self) -> Markup:
        """Return the SVG, safe to stand in the page: all text in it was escaped by the XML writer."""
        return Markup(tostring(self._root, encoding="unicode"))  # noqa: S704


def path(points: Sequence[Point]) -> str:
    """Return the path through points."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def shortened(text: str, letters: int) -> str:
    """Return as much of a text as fits."""
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def standalone(panels: Sequence[tuple[str, Markup]], style: str, *, columns: int = 3) -> str:
    """Return charts with captions, side by side, as an SVG file of its own; ``style`` is the page's."""
    charts = [fromstring(chart) for _, chart in panels]  # noqa: S314 our own
    sizes = [tuple(map(float, str(chart.get("viewBox")).split()[2:])) for chart in charts]
    width, height = max(w for w, _ in sizes) + GAP, max(h for _, h in sizes) + GAP
    columns = min(columns, len(charts))
    whole = f"0 0 {columns * width:g} {-(-len(charts) // columns) * height:g}"
    root = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "viewBox": whole, "class": "chart"})
    SubElement(root, "style").text = style
    for index, ((caption, _), chart, (w, h)) in enumerate(zip(panels, charts, sizes, strict=True)):
        x, y = index % columns * width, index // columns * height
        SubElement(
            root, "text", {"x": f"{x + w / 2:g}", "y": f"{y + 16:g}", "class": "middle"}
        ).text = caption
        place = {"x": x, "y": y + GAP, "width": w, "height": h}
        chart.attrib |= {key: f"{value:g}" for key, value in place.items()}
        root.append(chart)
    return tostring(root, encoding="unicode")
