"""One style: the colours of pages and pictures, and letters of every script."""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.image import imread

from samplecnn import style
from samplecnn.inference.picture import write_picture
from samplecnn.inference.timeline import Timeline

SRC = Path(style.__file__).parent
SPRING = "\u6625"


@pytest.fixture
def another_font(tmp_path: Path) -> Iterator[str]:
    """A font of the system, which has one Chinese letter: a triangle. No other of the system has any."""
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "spring"])
    builder.setupCharacterMap({ord(SPRING): "spring"})
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    pen.lineTo((450, 900))
    pen.lineTo((900, 0))
    pen.closePath()
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "spring": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (500, 0), "spring": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Some Chinese Font", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "font.ttf")
    known = list(fontManager.ttflist)
    fontManager.ttflist[:] = [entry for entry in known if entry.name.startswith("DejaVu")]
    fontManager.addfont(tmp_path / "font.ttf")
    style._fonts_for.cache_clear()
    yield "Some Chinese Font"
    fontManager.ttflist[:] = known
    style._fonts_for.cache_clear()


def test_pages_have_no_colours_of_their_own() -> None:
    """But for the shade at the edge of a wide table."""
    for page in ("analysis/page.css", "inference/page/page.css"):
        text = (SRC / page).read_text()
        assert set(re.findall(r"#[0-9a-f]{3,6}\b", text)) <= {"#b9c2ca", "#4a545d"}, page
        named = set(re.findall(r"var\(--([\w-]+)", text))
        shared = (SRC / "style.css").read_text()
        assert all(f"--{name}:" in text or f"--{name}:" in shared for name in named)


def test_every_colour_has_a_light_and_a_dark_side() -> None:
    light, dark = (SRC / "style.css").read_text().split("prefers-color-scheme: dark")
    pictures_only, letters = {"three"}, {"font"}
    names = set(re.findall(r"--(\w+):", light))
    assert names - pictures_only - letters == set(re.findall(r"--(\w+):", dark))
    assert style.colours("ink") == ["#0072b2"]  # of the light side
    assert len(style.colours("ramp")) == 5


def test_pictures_have_the_colours_of_the_pages(tmp_path: Path) -> None:
    wave = np.ones(2000, np.float32)
    probabilities = np.array([[0.0], [1.0]], np.float32)
    song = Timeline(("rock",), np.array([0.0, 2.7]), probabilities, 5.4, 2.7, np.stack([-wave, wave]))
    write_picture(song, "song", tmp_path / "a.png")
    pixels = {tuple(pixel) for pixel in (imread(tmp_path / "a.png")[..., :3] * 255).round().reshape(-1, 3)}
    for colour in (*style.colours("ink"), style.colours("ramp")[0], style.colours("ramp")[-1]):
        assert tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) in pixels


def drawn(file: Path, title: str) -> np.ndarray:
    """Draw a title alone."""
    with style.pictures(title):
        figure = Figure(figsize=(2, 1))
        figure.text(0.1, 0.5, title)
        figure.savefig(file, dpi=50)
        if file.suffix == ".png":
            return imread(file)
    return np.zeros(0)


def test_letters_that_the_usual_font_lacks_come_from_another(tmp_path: Path, another_font: str) -> None:
    with style.pictures(f"a {SPRING} b"):
        assert rcParams["font.family"] == ["DejaVu Sans", another_font]
    with style.pictures("Dvo\u0159\u00e1k"):
        assert rcParams["font.family"] == ["DejaVu Sans"]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with_font = drawn(tmp_path / "a.png", SPRING)
        drawn(tmp_path / "a.svg", SPRING)
    assert not said
    assert another_font in (tmp_path / "a.svg").read_text()
    fontManager.ttflist[:] = [entry for entry in fontManager.ttflist if entry.name != another_font]
    style._fonts_for.cache_clear()
    without = drawn(tmp_path / "b.png", SPRING)
    assert (without != 1).any()  # boxes
    assert with_font.shape == without.shape
    assert (with_font != without).any()


def test_where_no_font_has_them_there_are_boxes_and_no_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        boxes = drawn(tmp_path / "a.png", "\U0001f9ff\ue123 \u001b")
        drawn(tmp_path / "a.svg", "\ue123")
    assert not said
    assert (boxes != 1).any()
