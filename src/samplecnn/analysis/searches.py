"""The paper's searches: the amplifying ratio alpha of the excitation, and the weight decay."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from samplecnn.analysis.architectures import Architecture, Group
from samplecnn.analysis.published import ALPHA, ALPHAS, DECAYS
from samplecnn.analysis.tables import DIFFERENCE, difference_fields
from samplecnn.analysis.tabular import ROC_AUC, ROC_INTERVAL, Column, Table, compact
from samplecnn.model import blocks
from samplecnn.model.blocks import BLOCKS


@dataclass(frozen=True)
class Search:
    """A number that is varied while all else stays as it is."""

    varied: str
    title: str
    note: str
    tried: tuple[float, ...]  # in the paper's search, or this project's
    reference: float  # what the paper chose
    value: Callable[[Architecture], float]
    shared: Callable[[Architecture], tuple[Any, ...] | None]  # what stays, the block first; None: not of it


def _with_alpha(one: Architecture) -> tuple[Any, ...] | None:
    has_alpha = set(one.options) == {"alpha"} and one.block in BLOCKS
    return (one.block, one.multi, one.weight_decay, one.recipe) if has_alpha else None


ALPHA_SEARCH = Search(
    "alpha",
    "Amplifying ratio of the excitation",
    "Alpha is the width of the excitation's hidden layer over the number of channels; the paper searched 2⁻³ "
    "to 2⁶ and chose 16, without printing the scores. Differences are from alpha 16, paired over test clips.",
    ALPHAS,
    ALPHA,
    lambda one: one.alpha or 0.0,
    _with_alpha,
)
DECAY_SEARCH = Search(
    "weight decay",
    "Weight decay",
    "In Keras' unit, on convolution kernels alone. The paper used 1e-4 for ReSE-2 (its dagger) and none "
    "elsewhere. Differences are from no weight decay, paired over test clips.",
    DECAYS,
    0.0,
    lambda one: one.weight_decay,
    lambda one: (one.block, one.multi, one.recipe) if one.default_options else None,
)


@dataclass(frozen=True)
class Series:
    """Architectures that differ in the number of a search alone."""

    name: str
    block: str  # as the paper writes it
    points: tuple[tuple[float, Architecture], ...]  # by the number

    @property
    def architectures(self) -> list[Architecture]:
        """The architectures in the order of the number."""
        return [one for _, one in self.points]


def find_series(search: Search, group: Group) -> list[Series]:
    """Return what a search varied, a series for each block and aggregation with two values or more."""
    members: dict[tuple[Any, ...], list[Architecture]] = {}
    for one in group.architectures:
        if one.start or one.clips is not None:
            continue
        if (shared := search.shared(one)) is not None and one.roc_auc is not None:
            members.setdefault(shared, []).append(one)
    found = []
    for (block, *_), several in members.items():
        points = sorted(((search.value(one), one) for one in several), key=lambda point: point[0])
        if len({value for value, _ in points}) > 1:
            name = blocks.title(block)
            found.append(Series(f"{name}, {several[0].aggregation}", name, tuple(points)))
    return found


def search_table(search: Search, group: Group, series: Sequence[Series]) -> Table:
    """Return scores by the number that a search varies, with differences from the paper's choice."""
    records = []
    for one in series:
        reference = dict(one.points).get(search.reference)
        for value, each in one.points:
            difference = group.difference(each, reference) if each is not reference else None
            record = {"series": one.name, "value": value} | each.fields | each.score_fields
            record["parameters"] = each.runs[0].results.parameters
            records.append(record | difference_fields(difference))
    columns = [
        Column("architecture", "series"),
        Column(search.varied, "value", compact),
        ROC_AUC,
        ROC_INTERVAL,
        Column("seeds", "seeds"),
        *DIFFERENCE,
        *([Column("parameters", "parameters")] if search.reference == ALPHA else []),
    ]
    name = search.varied.replace(" ", "_")
    return Table(name, search.title, search.note, columns, records, highest=("roc_auc",))
