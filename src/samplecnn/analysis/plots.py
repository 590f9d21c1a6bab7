"""Which charts a report has, and what is on them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from samplecnn.analysis import charts
from samplecnn.analysis.architectures import paper_auc
from samplecnn.analysis.charts import Mark, Point
from samplecnn.analysis.scores import Scored
from samplecnn.analysis.searches import ALPHAS, DECAYS, Series
from samplecnn.analysis.tables import compact


@dataclass(frozen=True)
class Figure:
    """One chart or several panels, with what they show."""

    title: str
    note: str
    panels: Sequence[tuple[str, Markup]]  # caption, SVG
    legend: Sequence[tuple[str, str]] = ()  # style class, what it stands for


MULTI, SINGLE = ("multi", "multi-level aggregation"), ("single", "no multi-level aggregation")


def _legend(cells: Sequence[Scored], *more: tuple[str, str]) -> list[tuple[str, str]]:
    kinds = {scored.cell.multi for scored in cells}
    return [entry for entry, multi in ((MULTI, True), (SINGLE, False)) if multi in kinds] + list(more)


def _mark(scored: Scored, label: str, *, comparable: bool = False) -> Mark:
    seeds = tuple(scored.by_seed) if len(scored.by_seed) > 1 else ()
    paper = paper_auc(scored.cell) if comparable else None
    return Mark(label, scored.roc_auc or 0.0, scored.roc_interval, scored.cell.multi, seeds, paper)


def architectures(cells: Sequence[Scored], comparable: bool) -> Figure | None:
    """Draw the scores of Table 1, the best on top; None if none is defined."""
    ranked = sorted((s for s in cells if s.roc_auc is not None), key=lambda s: -(s.roc_auc or 0))
    if not ranked:
        return None
    marks = [_mark(scored, scored.cell.label, comparable=comparable) for scored in ranked]
    more = []
    if any(mark.seeds for mark in marks):
        more.append(("seed", "single seeds"))
    if any(mark.paper is not None for mark in marks):
        more.append(("paper", "the paper"))
    note = (
        "Macro ROC-AUC on the test split, best first, with 95 % intervals over test clips. Intervals that "
        "overlap do not mean that two cannot be told apart: the clips are the same for both, see the "
        "paired differences."
    )
    chart = charts.intervals(marks, f"Macro ROC-AUC of {len(marks)} architectures with 95 % intervals")
    return Figure("Scores", note, [("", chart)], _legend(ranked, *more))


def alpha(series: Sequence[Series]) -> Figure:
    """Draw scores against the amplifying ratio, on a logarithmic scale."""
    places = {value: math.log2(value) for one in series for value, _ in one.points}
    names = {math.log2(value): compact(value) for value in {*ALPHAS, *places}}
    figure = "Macro ROC-AUC by alpha, with 95 % intervals over test clips. The paper chose 16."
    return _search("Scores by alpha", figure, "alpha", series, places, names)


def decay(series: Sequence[Series]) -> Figure:
    """Draw scores against the weight decay, at even steps."""
    values = sorted({*DECAYS, *(value for one in series for value, _ in one.points)})
    places = {value: float(index) for index, value in enumerate(values)}
    names = {float(index): compact(value) for index, value in enumerate(values)}
    note = "Macro ROC-AUC by weight decay (Keras' unit), with 95 % intervals over test clips."
    return _search("Scores by weight decay", note, "weight decay", series, places, names)


def _search(
    title: str,
    note: str,
    axis: str,
    series: Sequence[Series],
    places: dict[float, float],
    names: dict[float, str],
) -> Figure:
    extent = [value for one in series for scored in one.cells for value in _mark(scored, "").extent]
    blocks = list(dict.fromkeys(one.block for one in series))
    width = charts.WIDTH if len(blocks) == 1 else charts.PANEL
    panels = []
    for block in blocks:
        lines = [
            [
                (places[value], _mark(scored, f"{one.name}, {axis} {compact(value)}"))
                for value, scored in one.points
            ]
            for one in series
            if one.block == block
        ]
        label = f"{block}: macro ROC-AUC by {axis}"
        panels.append((block, charts.curve(lines, names, axis, label, extent=extent, width=width)))
    return Figure(title, note, panels, _legend([scored for one in series for scored in one.cells]))


def tags(best: Scored) -> Figure:
    """Draw the scores of each tag, best first."""
    defined = [(tag, score) for tag, score in best.per_tag.items() if score.roc_auc is not None]
    defined.sort(key=lambda item: -(item[1].roc_auc or 0))
    marks = [
        Mark(f"{tag} ({score.positives})", score.roc_auc or 0.0, score.roc_interval, best.cell.multi)
        for tag, score in defined
    ]
    note = (
        f"{best.cell.label}, best first, with 95 % intervals over test clips; in brackets, how many of "
        "these have the tag."
    )
    label = f"ROC-AUC of {len(marks)} tags with 95 % intervals"
    return Figure("ROC-AUC of each tag", note, [("", charts.intervals(marks, label, "ROC-AUC"))])


def learning(cells: Sequence[Scored], key: str, title: str, note: str) -> Figure | None:
    """Draw a column of metrics.csv by epoch: a panel per block, a line per run; None without one."""
    by_block: dict[str, list[tuple[bool, str, list[Point]]]] = {}
    for scored in cells:
        for run in scored.cell.runs:
            points = [(row["epoch"] + 1, row[key]) for row in run.epochs if math.isfinite(row[key])]
            if points:
                title_of_run = f"{scored.cell.label}, seed {run.seed}"
                lines = by_block.setdefault(scored.cell.name, [])
                lines.append((scored.cell.multi, title_of_run, points))
    if not by_block:
        return None
    every = [point for lines in by_block.values() for *_, points in lines for point in points]
    across = (min(x for x, _ in every), max(x for x, _ in every))
    upwards = (min(y for _, y in every), max(y for _, y in every))
    panels = [
        (block, charts.panel(lines, across, upwards, f"{title} of {block} by epoch"))
        for block, lines in by_block.items()
    ]
    return Figure(title, note, panels, _legend(cells))
