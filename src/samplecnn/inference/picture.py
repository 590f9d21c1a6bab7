"""A picture of tags over time: a heat map under the waveform. Needs matplotlib, the extra "plots"."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samplecnn.files import writing
from samplecnn.inference.timeline import Timeline, clock
from samplecnn.style import colours, pictures, ramp
from samplecnn.text import printable

WIDTH, ROW = 10, 0.17  # inches
PIXELS_PER_INCH = 130
LONGEST = 220  # bytes of a file's name that are kept in its picture's
MAX_COLUMNS = 4000  # of a waveform: more than pixels


def picture_files(paths: Sequence[Path], named: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Return where the picture of each file goes: as deep below ``folder`` as it lies in a folder named.

    Different files that would get the same picture are told apart by the folders that they lie in.
    """
    inside = {path: _place(path, named) for path in paths}
    for parents in ("common", "all"):
        files: dict[str, set[Path]] = {}
        for path, place in inside.items():
            # Some file systems do not tell upper from lower case.
            files.setdefault(str(place).casefold(), set()).add(path.resolve())
        shared = [path for path, place in inside.items() if len(files[str(place).casefold()]) > 1]
        if not shared:
            break
        resolved = [path.resolve() for path in shared]
        above = os.path.commonpath(resolved) if parents == "common" else resolved[0].anchor
        inside |= {path: real.relative_to(above) for path, real in zip(shared, resolved, strict=True)}
    return {path: folder / place.with_name(_short(place.name)) for path, place in inside.items()}


def _place(path: Path, named: Sequence[Path]) -> Path:
    for above in named:
        if above.is_dir() and path.is_relative_to(above):
            return path.relative_to(above)
    return Path(path.name)


def _short(name: str) -> str:
    """Return the name of a picture: file systems take 255 bytes, those of a temporary ending included."""
    encoded = os.fsencode(name)
    if len(encoded) > LONGEST:
        digest = hashlib.sha256(encoded).hexdigest()[:8]
        name = f"{encoded[:LONGEST].decode(errors='ignore')}-{digest}"
    return f"{name}.png"


def write_picture(timeline: Timeline, title: str, file: Path, *, top: int | None = None) -> None:
    """Draw to a .png file, which is written whole or not at all; its folder is made.

    The tags are sorted by their mean; with ``top``, the others are left out. Raises
    PlotsMissingError without matplotlib, and OSError.
    """
    order = np.argsort(-timeline.average(), kind="stable")[:top]
    hop = timeline.starts[1] if len(timeline.starts) > 1 else timeline.segment_seconds
    # A segment stands for the time around its middle, so that overlapping ones lie side by side.
    first = timeline.starts[0] + (timeline.segment_seconds - hop) / 2
    extent = (first, first + hop * len(timeline.starts), len(order) - 0.5, -0.5)
    low, high = _thin(timeline.envelope)
    times = np.arange(len(low)) * timeline.seconds / max(1, len(low))
    title, tags = printable(title), [printable(timeline.tags[tag]) for tag in order]
    with pictures(title, *tags):
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        figure = Figure(figsize=(WIDTH, 2 + ROW * len(order)), layout="constrained")
        above, below = figure.subplots(
            2, 1, sharex=True, gridspec_kw={"height_ratios": [1, ROW * max(6, len(order))]}
        )
        above.set_title(title, loc="left", fontsize=10)
        above.fill_between(times, low, high, color=colours("ink")[0], linewidth=0.3)
        above.set(yticks=[], xlim=(0, max(timeline.seconds, extent[1])))
        above.tick_params(bottom=False)
        above.spines[:].set_visible(False)
        image = below.imshow(
            timeline.probabilities[:, order].T,
            extent=extent,
            aspect="auto",
            interpolation="nearest",
            cmap=ramp(),
            vmin=0,
            vmax=1,
        )
        below.set_yticks(range(len(order)), tags, fontsize=7)
        below.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 1.5, 2, 3, 6, 10]))
        below.xaxis.set_major_formatter(FuncFormatter(lambda value, _: clock(round(value))))
        figure.colorbar(image, ax=below, label="probability", pad=0.01, fraction=0.03)
        file.parent.mkdir(parents=True, exist_ok=True)
        with writing(file) as picture:
            figure.savefig(picture, format="png", dpi=PIXELS_PER_INCH)


def _thin(envelope: np.ndarray) -> np.ndarray:
    """Join columns until there are few enough to draw."""
    step = -(-envelope.shape[1] // MAX_COLUMNS)
    if step <= 1:
        return envelope
    starts = np.arange(0, envelope.shape[1], step)
    return np.stack([np.minimum.reduceat(envelope[0], starts), np.maximum.reduceat(envelope[1], starts)])
