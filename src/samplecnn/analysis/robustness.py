"""Scores over the strength of disturbances: with their intervals, as a table, and as charts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup
from numpy.typing import NDArray

from samplecnn import files
from samplecnn.analysis.architectures import Group
from samplecnn.analysis.charts import PANEL, Figure, Mark, curve_chart
from samplecnn.analysis.statistics import bootstrap, split_scores
from samplecnn.analysis.svg import standalone
from samplecnn.analysis.tables import signed
from samplecnn.analysis.tabular import NONE, PR, ROC, Column, Record, Table, compact, write_tables
from samplecnn.runs.results import mean_of_defined
from samplecnn.runs.robustness import DISTURBANCES, Point, Robustness

SERIES = 6  # models in one figure: colours of page.css


def score_point(
    tags: Sequence[str], labels: NDArray[Any], probabilities: NDArray[Any], strength: float | None
) -> Point:
    """Return the scores of probabilities `(clips, tags)`, with intervals by bootstrap over the clips."""
    scores = split_scores(bootstrap(labels, [probabilities]), tags, [0])
    return Point(
        strength=strength,
        roc_auc=scores.roc_auc,
        pr_auc=scores.pr_auc,
        roc_auc_interval=scores.roc_auc_interval,
        pr_auc_interval=scores.pr_auc_interval,
    )


def of_groups(groups: Sequence[Group], names: Sequence[str]) -> dict[str, Robustness]:
    """Return the robustness of all architectures that were disturbed, by label and the name of their group.

    It is the mean over those seeds that have it; the best architecture of a group comes first.
    """
    found = {}
    for group, name in zip(groups, names, strict=True):
        for one in group.ranked:
            several = [r for run in one.runs if (r := run.robustness) is not None and r.under]
            if several:
                found["; ".join(filter(None, (one.label, name)))] = _mean(several)
    return found


def _mean(several: Sequence[Robustness]) -> Robustness:
    """Return the means of what all have, without intervals; a single one as it is."""
    first, *others = several
    if not others:
        return first
    under = {}
    for name, points in first.under.items():
        alike = [[one.found(name, point.strength or 0.0) for one in several] for point in points]
        under[name] = tuple(_mean_point([p for p in same if p]) for same in alike if all(same))
    undisturbed = _mean_point([one.undisturbed for one in several])
    return replace(first, undisturbed=undisturbed, under=under)


def _mean_point(points: Sequence[Point]) -> Point:
    roc, pr = (mean_of_defined([getattr(point, key) for point in points]) for key in ("roc_auc", "pr_auc"))
    return Point(strength=points[0].strength, roc_auc=roc, pr_auc=pr)


def robustness_table(models: Mapping[str, Robustness], *, whole: bool = False) -> Table:
    """Return the scores of models, which are by label.

    Of each disturbance the strength that costs most is shown, or all if `whole`; the CSV file has all.
    """
    shown: list[Record] = []
    unseen: list[Record] = []
    for label, model in models.items():
        shown.append(_record(label, "none", model.undisturbed, model.undisturbed))
        for name, points in model.under.items():
            disturbance = DISTURBANCES[name]
            title = f"{name} ({disturbance.axis})"
            ordered = sorted(points, key=lambda point: disturbance.place(point.strength))
            worst = min(ordered, key=lambda point: point.roc_auc or 0.0, default=None)
            for point in ordered:
                record = _record(label, title, point, model.undisturbed)
                (shown if whole or point is worst else unseen).append(record)
    columns = [
        Column("model", "cell"),
        Column("disturbance", "disturbance", words=True),
        Column("strength", "strength", lambda strength: NONE if strength is None else compact(strength)),
        *ROC,
        Column("change", "change", signed),
        *PR,
    ]
    note = (
        "Macro averages on the test split, whole clips disturbed; change is from the undisturbed ROC-AUC. "
        "Intervals are by bootstrap over test clips."
    )
    if not whole:
        note += " Of each disturbance the strength with the lowest ROC-AUC; robustness.csv has all."
    return Table("robustness", "Under disturbances", note, columns, shown, unseen)


def _record(label: str, disturbance: str, point: Point, undisturbed: Point) -> Record:
    both = point.roc_auc is not None and undisturbed.roc_auc is not None
    change = (point.roc_auc or 0.0) - (undisturbed.roc_auc or 0.0) if both else None
    return {"cell": label, "disturbance": disturbance, **vars(point), "change": change}


def robustness_figure(models: Mapping[str, Robustness]) -> Figure:
    """Draw ROC-AUC over the strength: a panel for each disturbance, a line for each of the first models."""
    drawn = list(models.items())[:SERIES]
    panels = [
        (name, _panel(name, drawn))
        for name in DISTURBANCES
        if any(model.under.get(name) for _, model in drawn)
    ]
    note = "Macro ROC-AUC under disturbances of whole clips, with 95 % intervals over test clips."
    if len(models) > SERIES:
        note += f" The first {SERIES} of {len(models)} models; robustness.csv has all."
    legend = [(f"series{index}", label) for index, (label, _) in enumerate(drawn)] if len(drawn) > 1 else []
    return Figure("Under disturbances", note, panels, legend)


def _panel(name: str, drawn: Sequence[tuple[str, Robustness]]) -> Markup:
    known = DISTURBANCES[name]
    curves = [model.curve(name) if model.under.get(name) else [] for _, model in drawn]
    strengths = sorted({point.strength for curve in curves for point in curve}, key=known.place)
    lines = []
    for index, ((label, _), curve) in enumerate(zip(drawn, curves, strict=True)):
        style = f"series{index}"
        line = [
            (
                strengths.index(p.strength),
                Mark(f"{label}, {name} {known.tick(p.strength)}", p.roc_auc, p.roc_auc_interval, style),
            )
            for p in curve
            if p.roc_auc is not None
        ]
        if line:
            lines.append(line)
    ticks = list(map(known.tick, strengths))
    return curve_chart(lines, ticks, known.axis, f"ROC-AUC under {name}, by strength", width=PANEL)


def write_files(found: Robustness, folder: Path) -> None:
    """Write the table and the figure of one model into a folder: robustness.csv and robustness.svg."""
    models = {"model": found}
    write_tables([("all", robustness_table(models, whole=True))], folder / "robustness.csv")
    files.write(folder / "robustness.svg", standalone(robustness_figure(models).panels))
