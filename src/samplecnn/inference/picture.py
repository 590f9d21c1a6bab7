"""A picture of tags over time: a heat map under the waveform. Needs matplotlib, the extra "plots"."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samplecnn.inference.timeline import Timeline, clock

WIDTH, ROW = 10, 0.17  # inches
PIXELS_PER_INCH = 130
MAX_COLUMNS = 4000  # of a waveform: more than pixels


def picture_file(path: Path, named: Sequence[Path], folder: Path) -> Path:
    """Return where the picture of a file goes: as deep below ``folder`` as it lies in the folder named."""
    for above in named:
        if above.is_dir() and path.is_relative_to(above):
            path = path.relative_to(above)
            return folder / path.with_name(path.name + ".png")
    return folder / f"{path.name}.png"


def write_picture(timeline: Timeline, title: str, file: Path) -> None:
    """Draw to a .png file, which is written whole or not at all; its folder is made.

    The tags are sorted by their mean. Raises ValueError without matplotlib.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter, MaxNLocator
    except ImportError as error:
        raise ValueError("pictures need matplotlib: pip install 'samplecnn[plots]'") from error
    order = np.argsort(-timeline.average(), kind="stable")
    hop = timeline.starts[1] if len(timeline.starts) > 1 else timeline.segment_seconds
    # A segment stands for the time around its middle, so that overlapping ones lie side by side.
    first = timeline.starts[0] + (timeline.segment_seconds - hop) / 2
    extent = (first, first + hop * len(timeline.starts), len(order) - 0.5, -0.5)
    low, high = _thin(timeline.envelope)
    times = np.arange(len(low)) * timeline.seconds / max(1, len(low))
    with rc_context({"text.parse_math": False}):  # a tag or a file's name may hold a dollar sign
        figure = Figure(figsize=(WIDTH, 2 + ROW * len(order)), layout="constrained")
        above, below = figure.subplots(
            2, 1, sharex=True, gridspec_kw={"height_ratios": [1, ROW * max(6, len(order))]}
        )
        above.set_title(title, loc="left", fontsize=10)
        above.fill_between(times, low, high, color="#4477AA", linewidth=0.3)
        above.set(yticks=[], xlim=(0, max(timeline.seconds, extent[1])))
        above.tick_params(bottom=False)
        above.spines[:].set_visible(False)
        image = below.imshow(
            timeline.probabilities[:, order].T,
            extent=extent,
            aspect="auto",
            interpolation="nearest",
            cmap="cividis",
            vmin=0,
            vmax=1,
        )
        below.set_yticks(range(len(order)), [timeline.tags[tag] for tag in order], fontsize=7)
        below.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 1.5, 2, 3, 6, 10]))
        below.xaxis.set_major_formatter(FuncFormatter(lambda value, _: clock(round(value))))
        figure.colorbar(image, ax=below, label="probability", pad=0.01, fraction=0.03)
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(file.name + ".tmp")
        figure.savefig(unfinished, format="png", dpi=PIXELS_PER_INCH)
    unfinished.replace(file)


def _thin(envelope: np.ndarray) -> np.ndarray:
    """Join columns until there are few enough to draw."""
    step = -(-envelope.shape[1] // MAX_COLUMNS)
    if step <= 1:
        return envelope
    starts = np.arange(0, envelope.shape[1], step)
    return np.stack([np.minimum.reduceat(envelope[0], starts), np.maximum.reduceat(envelope[1], starts)])
