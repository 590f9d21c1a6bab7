"""What was varied while all else stayed: alpha, weight decay, the number of training clips, and the recipe.

A recipe is a way to train, beside the one that others change in one thing (`experiment=recipes`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from samplecnn.analysis.architectures import Architecture, Group, differing, option
from samplecnn.analysis.charts import PANEL, WIDTH, Figure, Mark, curve_chart, legend, style_of
from samplecnn.analysis.grid import BASE, of_recipe
from samplecnn.analysis.published import ALPHA, ALPHAS, DECAYS
from samplecnn.analysis.tables import COMPARED, compared, seeds_in_words
from samplecnn.analysis.tabular import NONE, Column, Record, Table, compact
from samplecnn.model import blocks
from samplecnn.model.blocks import BLOCKS

SCRATCH = "random weights"


@dataclass(frozen=True, kw_only=True)
class Search:
    """A number that is varied while all else stays as it is."""

    name: str  # of its CSV file
    varied: str
    key: str  # of the number in the CSV file
    title: str
    note: str
    value: Callable[[Architecture], float]
    shared: Callable[[Architecture], Any]  # what stays; None: not of the search
    tried: tuple[float, ...] = ()  # in the paper's search, or this project's
    reference: float | None = None  # that others are compared with; None: random weights, the number the same


def _of_paper(one: Architecture, *more: Any) -> tuple[Any, ...] | None:
    whole = not one.start and one.clips is None and one.block in BLOCKS
    return (one.block, one.multi, one.recipe, *more) if whole else None


SEARCHES = (
    Search(
        name="alpha",
        varied="alpha",
        key="value",
        title="Amplifying ratio of the excitation",
        note="Alpha is the width of the excitation's hidden layer over the number of channels; the paper "
        "searched 2⁻³ to 2⁶ and chose 16, without printing the scores. Differences are from alpha 16, paired "
        "over test clips.",
        value=lambda one: one.alpha or 0.0,
        shared=lambda one: _of_paper(one, one.weight_decay) if set(one.options) == {"alpha"} else None,
        tried=ALPHAS,
        reference=ALPHA,
    ),
    Search(
        name="weight_decay",
        varied="weight decay",
        key="value",
        title="Weight decay",
        note="In Keras' unit, on convolution kernels alone. The paper used 1e-4 for ReSE-2 (its dagger) and "
        "none elsewhere. Differences are from no weight decay, paired over test clips.",
        value=lambda one: one.weight_decay,
        shared=lambda one: _of_paper(one) if one.default_options else None,
        tried=DECAYS,
        reference=0.0,
    ),
    Search(
        name="few",
        varied="training clips",
        key="clips",
        title="Few examples",
        note="Macro ROC-AUC on the test split, means over seeds, of which each has its own training clips. "
        "Differences are from random weights trained on as many clips, paired over test clips; two are "
        "distinguishable where the last interval leaves out 0. For it the spread over seeds is pooled over "
        "what was trained on as many clips.",
        value=lambda one: one.clips or math.inf,
        shared=lambda one: one.network,
    ),
)


@dataclass(frozen=True)
class Series:
    """Architectures that differ in the number of a search alone."""

    name: str
    panels: Sequence[str]  # captions of those that it is drawn in
    points: Sequence[tuple[float, Architecture]]  # by the number


def find_series(search: Search, group: Group) -> list[Series]:
    """Return what was trained with several numbers of a search, a series for each start."""
    families: dict[Any, dict[str, list[tuple[float, Architecture]]]] = {}
    for one in group.architectures:
        if one.scores.roc_auc is not None and (shared := search.shared(one)) is not None:
            by_start = families.setdefault(shared, {})
            by_start.setdefault(one.start, []).append((search.value(one), one))
    found = []
    for by_start in families.values():
        if all(len(dict(points)) == 1 for points in by_start.values()):
            continue
        for start, points in by_start.items():
            points.sort(key=lambda point: point[0])
            first = points[0][1]
            if search.reference is not None:
                block = blocks.title(str(first.block))
                found.append(Series(f"{block}, {first.aggregation}", [block], points))
            else:  # random weights are drawn beside each trained model
                names = [f"{first.network}, {other or SCRATCH}" for other in by_start]
                name = f"{first.network}, {start or SCRATCH}"
                beside = [name] if start or len(names) == 1 else [n for n in names if n != name]
                found.append(Series(name, beside, points))
    return found


def written(value: float) -> str:
    """Write the number of a search."""
    return "all" if value == math.inf else compact(value)


def search_table(search: Search, group: Group, series: Sequence[Series]) -> Table:
    """Return scores by the number that a search varies, with differences from its reference."""
    records = []
    for one in series:
        for value, each in one.points:
            alike = group.trained_on(each.clips)
            if search.reference is None:
                other = alike.from_scratch(each)
            else:
                other = dict(one.points).get(search.reference)
            record: Record = {"series": one.name, search.key: "all" if value == math.inf else value}
            record |= {**each.fields, "parameters": each.runs[0].results.parameters}
            records.append(record | compared(alike, each, other))
    shown = list(COMPARED)
    if search.reference is not None:  # on a page of 1280 pixels there is no room for all of them
        shown = [column for column in shown if column.key not in ("roc_auc_sd", "distinguishable")]
    columns = [
        Column("architecture", "series"),
        Column(search.varied, search.key, lambda value: value if value == "all" else compact(value)),
        *shown,
        *([Column("parameters", "parameters")] if search.reference == ALPHA else []),
    ]
    return Table(search.name, search.title, search.note, columns, records, highest=("roc_auc",))


def search_figure(search: Search, series: Sequence[Series]) -> Figure:
    """Draw scores against the number of a search, its values at even steps; all panels have one scale."""
    values = sorted({*search.tried, *(value for one in series for value, _ in one.points)})
    by_start = search.reference is None

    def mark(one: Series, value: float, scored: Architecture) -> Mark:
        made = Mark.of(scored, f"{one.name}, {search.varied} {written(value)}")
        return replace(made, style=style_of(bool(scored.start))) if by_start else made

    lines = [(one, [(values.index(v), mark(one, v, scored)) for v, scored in one.points]) for one in series]
    extent = [value for _, line in lines for _, mark in line for value in mark.extent]
    captions = dict.fromkeys(caption for one in series for caption in one.panels)
    panels = [
        (
            caption,
            curve_chart(
                [line for one, line in lines if caption in one.panels],
                list(map(written, values)),
                search.varied,
                f"{caption}: macro ROC-AUC by {search.varied}",
                extent=extent,
                width=WIDTH if len(captions) == 1 else PANEL,
            ),
        )
        for caption in captions
    ]
    note = f"Macro ROC-AUC by {search.varied}, with 95 % intervals over test clips."
    drawn = [each for one in series for _, each in one.points]
    starts = ("multi", "from a trained model"), ("single", f"from {SCRATCH}")
    present = {bool(each.start) for each in drawn}
    kinds = [kind for kind in starts if (kind[0] == "multi") in present] if by_start else legend(drawn)
    return Figure(f"Scores by {search.varied}", note, panels, kinds)


def changes(one: Architecture, base: Architecture) -> str:
    """Say what a recipe changes of another; of another schedule or optimiser, its options are not named."""
    ours, theirs = (of_recipe(each.runs[0].settings) for each in (one, base))
    return ", ".join(option(key, ours.get(key)) for key in differing([ours, theirs]))


def recipe_table(group: Group) -> Table | None:
    """Return the scores of recipes with their differences from the base; None where there are none."""
    found = [one for one in group.architectures if one.recipe is not None and one.scores.roc_auc is not None]
    bases = {(one.name, one.multi): one for one in found if one.recipe == BASE}
    records = []
    for one in found:
        base = bases.get((one.name, one.multi), one)
        recipe = {"recipe": one.recipe, "changes": changes(one, base)}
        records.append({**recipe, **one.fields, **compared(group, one, base)})
    columns = [
        Column("recipe", "recipe"),
        Column("changes", "changes", lambda changes: changes or NONE, words=True),
        *COMPARED,
    ]
    if len({(one.name, one.multi) for one in found}) > 1:
        columns.insert(1, Column("architecture", "cell", words=True))
    note = (
        f"Differences of macro ROC-AUC from the recipe {BASE}, paired over test clips. Two are "
        "distinguishable where the last interval leaves out 0. Each stands for itself: of twenty that "
        "change nothing, one is expected to look distinguishable. Rates and strengths were not searched for. "
        + seeds_in_words(group)
    )
    if not records:
        return None
    return Table("recipes", "Recipes", note.strip(), columns, records, highest=("roc_auc",))
