"""Figures 2 and 3 of Kim, Lee and Nam (2018), drawn from `excitation.Excitations`.

Both stand on a white card, so that they read the same on light and dark pages. Text in the SVG stays text,
and equal data give equal bytes. Needs matplotlib, the extra "plots".
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from samplecnn.analysis.excitation import Excitations
from samplecnn.style import colours, pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

THREE = colours("three")
LINES = ("ink", "mark", "series2", "series3", "series4", "series5", "text")
SEVEN = [colour for name in LINES for colour in colours(name)]
WIDTH = 6.5  # inches: the text of a page
PIXELS_PER_INCH = 200
LETTER, LINE_SAMPLE = 0.07, 0.6  # inches that a letter and a line beside it take in the legend


def excitation_figure(excited: Excitations, tags: Sequence[str], blocks: Sequence[int]) -> "Figure":
    """Draw the mean excitations of up to seven tags, a panel per block (Figure 2).

    In each panel the channels are sorted by the mean over the tags that are shown, as in the authors' code.
    All panels have the sigmoid's whole range, so that blocks and networks can be compared.
    """
    with pictures(*tags):
        from matplotlib.figure import Figure

        chosen = excited.counts.rows(tags)
        columns = 1 if len(blocks) <= 4 else 2
        rows = -(-len(blocks) // columns)
        height = 0.8 + rows * (1.9 if columns == 1 else 1.6)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).T.ravel()
        for panel in panels[len(blocks) :]:
            panel.remove()
        for block, panel in zip(blocks, panels, strict=False):
            lines = _draw_block(panel, excited.per_tag[block][chosen])
            panel.set_title(f"block {block}", fontsize="medium")
        clips = excited.counts.clips[chosen]
        names = [f"{tag} ({number:,} clips)" for tag, number in zip(tags, clips, strict=True)]
        fitting = int(WIDTH / (LINE_SAMPLE + LETTER * max(map(len, names))))
        legend = figure.legend(
            lines, names, loc="outside upper center", ncols=max(1, min(4, fitting)), frameon=False
        )
        for sample in legend.get_lines():
            sample.set_linewidth(1.6)
        figure.supxlabel("channel, sorted by the mean over these tags", fontsize="medium")
        figure.supylabel("mean excitation (sigmoid)", fontsize="medium")
    return figure


def _draw_block(panel: "Axes", means: NDArray[np.float64]) -> list["Line2D"]:
    """Draw the means `(tags, channels)` of one block; return a line per tag."""
    ordered = means[:, means.mean(axis=0).argsort(kind="stable")]
    tags, channels = ordered.shape
    numbers = np.arange(1, channels + 1)
    thickness = float(np.clip(140 / channels, 0.5, 1.1))  # points: of many channels, lines hide one another
    colours = THREE if tags <= len(THREE) else SEVEN
    panel.set(xlim=(1, max(2, channels)), xticks=np.unique(np.linspace(0, channels, 5, dtype=int)[1:]))
    panel.set(ylim=(0, 1), yticks=np.linspace(0, 1, 6))
    panel.grid()
    return [
        panel.plot(numbers, line, color=colour, linewidth=thickness)[0]
        for line, colour in zip(ordered, colours, strict=False)
    ]


def deviation_figure(excited: Excitations) -> "Figure":
    """Draw the standard deviation of the mean excitations across the tags, per block (Figure 3)."""
    with pictures():
        from matplotlib.figure import Figure

        deviation = excited.deviation
        figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
        panel = figure.subplots()
        panel.plot(list(deviation), list(deviation.values()), color=SEVEN[0], marker="o", markersize=4)
        panel.grid()
        panel.set_xticks(list(deviation))
        panel.set_ylim(0, 1.1 * max(deviation.values()) or 1)
        panel.set_xlabel("block")
        panel.set_ylabel(f"standard deviation across {len(excited.counts.tags)} tags\n(mean over channels)")
    return figure


def write_figure(figure: "Figure", path: Path) -> list[Path]:
    """Write a figure as ``path`` with .svg and with .png; return the two files."""
    files = [path.with_suffix(".svg"), path.with_suffix(".png")]
    with pictures():
        figure.savefig(files[0], metadata={"Date": None})
        figure.savefig(files[1], dpi=PIXELS_PER_INCH)
    return files
