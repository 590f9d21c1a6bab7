"""Drawing in SVG: scales with round numbers, and a canvas. The page's style (page.css) gives the colours."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

from markupsafe import Markup

from samplecnn.style import STYLE

Point = tuple[float, float]
GAP = 24.0  # between charts, for a caption
# Marks of no multi-level aggregation, a diamond, and of the paper's numbers, a square.
OUTLINES = {"single": "M0 -5l5 5l-5 5l-5 -5z", "paper": "M-4 -4h8v8h-8z"}


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
        room = 0.05 * (high - low) or max(0.01, 1e-3 * abs(high))
        return cls(low - room, high + room, start, end)

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, count: int = 5, *, smallest: float = 0) -> list[tuple[float, str]]:
        """Return about ``count`` round numbers, ``smallest`` or more apart, with what to write at them."""
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        steps = [factor * power for factor in (0.5, 1, 2, 5, 10)]
        place = next(i for i, step in enumerate(steps) if step >= 0.999 * rough)
        if math.floor(self.high / steps[place]) <= math.ceil(self.low / steps[place]):  # one tick, or none
            place -= 1
        step = max(steps[place], smallest)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(step * i, f"{step * i:.{digits}f}") for i in range(first, last + 1)]


class Canvas:
    """An SVG under construction, as wide as its place; text is escaped.

    It is drawn ``width`` pixels wide. On a wider page all between the margins ``left`` and ``right`` is drawn
    out, while margins, heights, letters and marks keep their size.
    """

    def __init__(self, width: float, height: float, label: str, *, left: float = 0, right: float = 0) -> None:
        self.width, self.height, self.left, self.right = width, height, left, right
        attributes = {
            "class": "chart",
            "role": "img",
            "aria-label": label,
            "height": f"{height:g}",
            "data-size": f"{width:g} {left:g} {right:g}",
            "style": f"margin:0 {right:g}px 0 {left:g}px;width:calc(100% - {left + right:g}px)",
        }
        self._root = Element("svg", attributes)
        self._parent = self._root

    @contextmanager
    def group(self, title: str, css: str, points: Iterable[str] = ()) -> Iterator[None]:
        """Let what is drawn inside be one thing with a title.

        ``points`` is what page.js says of each point of the curve inside, without semicolons.
        """
        self._parent = SubElement(self._root, "g", {"class": css})
        if said := ";".join(points):
            self._parent.set("data-points", said)
        SubElement(self._parent, "title").text = title
        yield
        self._parent = self._root

    def _across(self, x: float) -> float:
        """Return a place between the margins in per cent."""
        return 100 * (x - self.left) / (self.width - self.left - self.right)

    def _draw(self, shape: str, css: str, **at: str) -> Element:
        return SubElement(self._parent, shape, {"class": css, **at})

    def line(self, css: str, x1: float, y1: float, x2: float, y2: float) -> None:
        """Add a straight line."""
        ends = {"x1": f"{self._across(x1):.2f}%", "x2": f"{self._across(x2):.2f}%"}
        self._draw("line", css, **ends, y1=f"{y1:.1f}", y2=f"{y2:.1f}")

    def curve(self, css: str, points: Sequence[Point]) -> None:
        """Add a line through points."""
        drawn_out = {"viewBox": f"0 0 100 {self.height:g}", "preserveAspectRatio": "none"}
        box = self._draw("svg", "curve", width="100%", height=f"{self.height:g}", **drawn_out)
        through = "L".join(f"{self._across(x):.2f} {y:.1f}" for x, y in points)
        SubElement(box, "path", {"class": css, "d": f"M{through}"})

    def row(self, y: float, height: float) -> None:
        """Let the whole row be of the thing that is being drawn, for a pointer."""
        whole = {"x": f"{-self.left:g}", "style": f"width:calc(100% + {self.left + self.right:g}px)"}
        self._draw("rect", "row", y=f"{y:.1f}", width="100%", height=f"{height:.1f}", **whole)

    def text(self, x: float, y: float, text: str, css: str) -> None:
        """Write at a place: ``start``, ``middle`` or ``end`` among the classes says which side of it."""
        inside = min(max(x, self.left), self.width - self.right)
        at = {"x": f"{self._across(inside):.2f}%", "y": f"{y:.1f}"}
        if inside != x:
            at["dx"] = f"{x - inside:.1f}"
        self._draw("text", css, **at).text = text

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

    def marker(self, x: float, y: float, style: str) -> None:
        """Draw the mark of a style: one of `OUTLINES`, a circle for all others."""
        if style not in OUTLINES:
            self._draw("circle", "mark", cx=f"{self._across(x):.2f}%", cy=f"{y:.1f}", r="4")
            return
        place = self._draw("svg", "place", x=f"{self._across(x):.2f}%", y=f"{y:.1f}")  # keeps its shape
        css = "paper" if style == "paper" else "mark"
        SubElement(place, "path", {"class": css, "d": OUTLINES[style]})

    def markup(self) -> Markup:
        """Return the SVG, safe to stand in the page: all text in it was escaped by the XML writer."""
        return Markup(tostring(self._root, encoding="unicode"))  # noqa: S704


def shortened(text: str, letters: int) -> str:
    """Return as much of a text as fits."""
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def page_style() -> str:
    """Return the style of the page and its charts."""
    return "".join(file.read_text(encoding="utf-8") for file in (STYLE, Path(__file__).with_name("page.css")))


def standalone(panels: Sequence[tuple[str, Markup]]) -> str:
    """Return charts with captions, up to three side by side, as an SVG file of its own."""
    charts = [fromstring(chart) for _, chart in panels]  # noqa: S314 our own
    heights = [float(chart.attrib["height"]) for chart in charts]
    sizes = [tuple(map(float, chart.attrib.pop("data-size").split())) for chart in charts]
    width, height = max(w for w, *_ in sizes) + GAP, max(heights) + GAP
    columns = min(3, len(charts))
    whole = f"0 0 {columns * width:g} {-(-len(charts) // columns) * height:g}"
    root = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "viewBox": whole, "class": "chart"})
    root.set("style", "background:var(--paper)")
    SubElement(root, "style").text = page_style()
    for index, ((caption, _), chart, (w, left, right)) in enumerate(zip(panels, charts, sizes, strict=True)):
        x, y = index % columns * width, index // columns * height
        middle = {"x": f"{x + w / 2:g}", "y": f"{y + 16:g}", "class": "middle"}
        SubElement(root, "text", middle).text = caption
        chart.attrib |= {"x": f"{x + left:g}", "y": f"{y + GAP:g}", "width": f"{w - left - right:g}"}
        del chart.attrib["style"]
        root.append(chart)
    return tostring(root, encoding="unicode")
