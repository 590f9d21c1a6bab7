"""Few examples: scores by the number of training clips, from trained models and from random weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from samplecnn.analysis.architectures import Architecture, Group
from samplecnn.analysis.tables import DIFFERENCE, difference_fields
from samplecnn.analysis.tabular import ROC_AUC, ROC_INTERVAL, Column, Table, number

TITLE = "Few examples"
SCRATCH = "random weights"


@dataclass(frozen=True)
class Curve:
    """Architectures that differ in the number of their training clips alone."""

    network: str
    start: str  # empty: random weights
    points: tuple[Architecture, ...]  # by the number, all clips last

    @property
    def name(self) -> str:
        """Network and start."""
        return f"{self.network}, {self.start or SCRATCH}"


def size(one: Architecture) -> float:
    """Return the number of training clips; infinity for all."""
    return one.clips or math.inf


def size_name(clips: float) -> str:
    """Write a number of training clips."""
    return "all" if clips == math.inf else f"{clips:.0f}"


def find_curves(group: Group) -> list[Curve]:
    """Return a curve for each start of each network that was trained on several numbers of clips."""
    members: dict[tuple[str, str], list[Architecture]] = {}
    for one in group.architectures:
        if one.roc_auc is not None:
            members.setdefault((one.network, one.start), []).append(one)
    several = {network for (network, _), found in members.items() if len(found) > 1}
    return [
        Curve(network, start, tuple(sorted(found, key=size)))
        for (network, start), found in members.items()
        if network in several
    ]


def few_table(group: Group, curves: Sequence[Curve]) -> Table:
    """Return scores by the number of clips, with differences from random weights trained on as many."""
    records = []
    for curve in curves:
        for one in curve.points:
            scratch = group.from_scratch(one)
            difference = group.difference(one, scratch) if one.start else None
            record = {"series": curve.name, "clips": size_name(size(one)), **one.score_fields}
            distinguishable = difference.distinguishable if difference else None
            records.append(record | difference_fields(difference) | {"distinguishable": distinguishable})
    columns = [
        Column("network and start", "series"),
        Column("training clips", "clips"),
        ROC_AUC,
        ROC_INTERVAL,
        Column("sd over seeds", "roc_auc_sd", number, optional=True),
        Column("seeds", "seeds"),
        *DIFFERENCE,
        Column("distinguishable", "distinguishable", words=True),
    ]
    note = (
        "Macro ROC-AUC on the test split, means over seeds, of which each has its own training clips. "
        "Differences are from random weights trained on as many clips, paired over test clips; two are "
        "distinguishable where the last interval leaves out 0."
    )
    return Table("few", "Scores by training clips", note, columns, records)
