"""The paper's searches: the amplifying ratio alpha of the excitation, and the weight decay."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from samplecnn.analysis.architectures import compare, difference_columns, evaluate, identify
from samplecnn.analysis.cells import ALPHA, BLOCKS, Cell
from samplecnn.analysis.scores import Scored, ScoredGroup
from samplecnn.analysis.tables import Column, Record, Table, between, compact, decimals, plain

ALPHAS = tuple(2.0**power for power in range(-3, 7))  # section 2.1.2 of the paper
DECAYS = (0.0, 1e-5, 1e-4, 1e-3)
DECAY_BLOCKS = ("se", "res2", "rese2")


@dataclass(frozen=True)
class Series:
    """Cells that differ in one number alone."""

    name: str
    block: str  # as the paper writes it
    points: tuple[tuple[float, Scored], ...]  # by the number

    @property
    def cells(self) -> list[Scored]:
        """The cells in the order of the number."""
        return [scored for _, scored in self.points]


def alpha_series(scored: ScoredGroup) -> list[Series]:
    """Return the cells of each block and aggregation that differ in alpha, where there are two or more."""

    def shared(cell: Cell) -> tuple[Any, ...] | None:
        usual = set(cell.options) == {"alpha"} and cell.block in BLOCKS
        return (cell.block, cell.multi, cell.weight_decay) if usual else None

    return _series(scored, shared, lambda cell: cell.alpha or 0.0)


def decay_series(scored: ScoredGroup) -> list[Series]:
    """Return the cells of each block and aggregation that differ in weight decay, where two or more do."""

    def shared(cell: Cell) -> tuple[Any, ...] | None:
        return (cell.block, cell.multi) if cell.usual else None

    return _series(scored, shared, lambda cell: cell.weight_decay)


def _series(
    scored: ScoredGroup,
    shared: Callable[[Cell], tuple[Any, ...] | None],
    number: Callable[[Cell], float],
) -> list[Series]:
    members: dict[tuple[Any, ...], list[Scored]] = {}
    for one in scored.cells:
        if (key := shared(one.cell)) is not None and one.roc_auc is not None:
            members.setdefault(key, []).append(one)
    found = []
    for (block, *_), cells in members.items():
        points = sorted(((number(one.cell), one) for one in cells), key=lambda point: point[0])
        if len({value for value, _ in points}) > 1:
            name = BLOCKS.get(block, block)
            found.append(Series(f"{name}, {points[0][1].cell.aggregation}", name, tuple(points)))
    return found


def alpha_table(scored: ScoredGroup, series: Sequence[Series]) -> Table:
    """Return scores by alpha, with differences from the paper's choice of 16."""
    title = "Amplifying ratio of the excitation"
    note = (
        "Alpha is the width of the excitation's hidden layer over the number of channels; the paper "
        "searched 2⁻³ to 2⁶ and chose 16, without printing the scores. Differences are from alpha 16, "
        "paired over test clips."
    )
    return _table(scored, series, "alpha", title, note, ALPHA)


def decay_table(scored: ScoredGroup, series: Sequence[Series]) -> Table:
    """Return scores by weight decay, with differences from none."""
    title = "Weight decay"
    note = (
        "In Keras' unit, on convolution kernels alone. The paper used 1e-4 for ReSE-2 (its dagger) and none "
        "elsewhere. Differences are from no weight decay, paired over test clips."
    )
    return _table(scored, series, "weight decay", title, note, 0.0)


def _table(
    scored: ScoredGroup, series: Sequence[Series], varied: str, title: str, note: str, reference: float
) -> Table:
    records: list[Record] = []
    for one in series:
        usual = dict(one.points).get(reference)
        for value, cell in one.points:
            difference = scored.difference(cell, usual) if cell is not usual else None
            told = {"series": one.name, "value": value, **identify(cell.cell), **evaluate(cell)}
            told["parameters"] = cell.cell.runs[0].results.parameters
            records.append({**told, **compare(difference)})
    columns = [
        Column("architecture", plain("series")),
        Column(varied, lambda record: compact(record["value"])),
        Column("ROC-AUC", decimals("roc_auc")),
        Column("95 % interval", between("roc_auc")),
        Column("seeds", plain("seeds")),
        *difference_columns(records),
        *([Column("parameters", plain("parameters"))] if reference == ALPHA else []),
    ]
    return Table(varied.replace(" ", "_"), title, note, columns, records)
