"""One style for pages and pictures: colours and letters.

The pages have style.css; pictures take their colours from it too, the light ones, on a white card. What draws
needs matplotlib, the extra "plots".
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from samplecnn.errors import UserError

STYLE = Path(__file__).with_name("style.css")
BOXES = "Last Resort"  # has a box for every letter, and is what matplotlib ends with by itself
FONT = "DejaVu Sans"  # which matplotlib brings along: the same picture everywhere


class PlotsMissingError(UserError):
    """Pictures cannot be drawn because matplotlib is not installed."""


@cache
def colours(name: str) -> list[str]:
    """Return the colours of a variable of style.css, in the light scheme."""
    found = re.search(rf"--{name}: ([^;]+);", STYLE.read_text(encoding="utf-8"))
    assert found is not None, name
    return found[1].split()


def ramp() -> Any:
    """Return matplotlib's colour map of the heat map of `samplecnn serve`, from nothing to all."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("samplecnn", colours("ramp"))


@contextmanager
def pictures(*texts: str) -> Iterator[None]:
    """Hold the settings under which pictures are made and written, whatever the user's own matplotlibrc says.

    ``texts`` is what comes from outside: letters that the usual font lacks are drawn with others of this
    system, as boxes where none has them. Raises PlotsMissingError without matplotlib.
    """
    try:
        from matplotlib.style import context
    except ImportError as error:
        raise PlotsMissingError("pictures need matplotlib: pip install 'samplecnn[plots]'") from error
    (text,), (muted,), (rule,) = map(colours, ("text", "muted", "rule"))
    settings = {
        "axes.edgecolor": muted,
        "axes.labelcolor": text,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "font.family": [FONT, *_fonts_for(frozenset("".join(texts)))],
        "font.size": 9,
        "grid.color": rule,
        "grid.linewidth": 0.6,
        "svg.fonttype": "none",
        "svg.hashsalt": "samplecnn",
        "text.color": text,
        "text.parse_math": False,  # a tag may hold a dollar sign
        "xtick.color": muted,
        "ytick.color": muted,
    }
    with context(["default", settings]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


@lru_cache(256)
def _fonts_for(letters: frozenset[str]) -> list[str]:
    """Return fonts of this system that have the letters which the usual one lacks, as few as it goes."""
    from matplotlib.font_manager import findfont, fontManager, get_font

    def lacking(file: str, wanted: set[str]) -> set[str]:
        font = get_font(file)
        return {letter for letter in wanted if not font.get_char_index(ord(letter))}

    shown = {letter for letter in letters if letter.isprintable()}
    missing = lacking(findfont(FONT), shown)
    found: list[str] = []
    others = [entry for entry in fontManager.ttflist if not entry.name.startswith(BOXES)]
    others.sort(key=lambda entry: (entry.style != "normal", entry.weight != 400, entry.name))
    for entry in others if missing else ():
        try:
            rest = lacking(entry.fname, missing)
        except (OSError, RuntimeError):  # gone since matplotlib made its list, or damaged
            continue
        if len(rest) < len(missing):
            found.append(entry.name)
            missing = rest
    return found
