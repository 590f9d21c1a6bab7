"""Table 1 of the paper: blocks with and without multi-level aggregation, their differences and their cost."""

from collections.abc import Sequence

from samplecnn.analysis.cells import BLOCKS, Cell
from samplecnn.analysis.published import COST, TABLE1
from samplecnn.analysis.scores import Difference, Scored, ScoredGroup
from samplecnn.analysis.tables import (
    MINUS,
    Column,
    Record,
    Table,
    between,
    decimals,
    duration,
    interval,
    plain,
)


def chosen(scored: ScoredGroup, elsewhere: Sequence[Scored]) -> list[Scored]:
    """Return the cells of Table 1, and those that no other table (``elsewhere``) shows."""
    return [s for s in scored.cells if s.cell.in_table1 or s not in elsewhere]


def paper_auc(cell: Cell) -> float | None:
    """Return the ROC-AUC that the paper's Table 1 has for a cell."""
    if not cell.in_table1 or (cell.block == "rese2" and not cell.weight_decay):
        return None
    return TABLE1[cell.block][0 if cell.multi else 1]


def identify(cell: Cell) -> Record:
    """Return the fields that say which cell a record is of."""
    told: Record = {"cell": cell.label, "block": cell.block, "aggregation": cell.aggregation}
    return {**told, "weight_decay": cell.weight_decay, "alpha": cell.alpha}


def evaluate(scored: Scored) -> Record:
    """Return the fields of a cell's scores."""
    return {
        "roc_auc": scored.roc_auc,
        **interval("roc_auc", scored.roc_interval),
        "seeds": len(scored.cell.runs),
        "roc_auc_sd": scored.deviation,
        "pr_auc": scored.pr_auc,
        **interval("pr_auc", scored.pr_interval),
    }


def compare(difference: Difference | None) -> Record:
    """Return the fields of a difference."""
    return {
        "difference": difference.value if difference else None,
        **interval("clips", difference.clips if difference else None),
        **interval("clips_and_seeds", difference.both if difference else None),
    }


def table1(cells: Sequence[Scored], comparable: bool) -> Table:
    """Score architectures, the paper's numbers beside ours where they are ``comparable``."""
    records = [
        {**identify(s.cell), "paper": paper_auc(s.cell) if comparable else None, **evaluate(s)} for s in cells
    ]
    several = any(record["seeds"] > 1 for record in records)
    columns = [
        Column("architecture", plain("cell")),
        *([Column("paper", decimals("paper"))] if comparable else []),
        Column("ROC-AUC", decimals("roc_auc")),
        Column("95 % interval", between("roc_auc")),
        *([Column("sd over seeds", decimals("roc_auc_sd"))] if several else []),
        Column("seeds", plain("seeds")),
        Column("PR-AUC", decimals("pr_auc")),
        Column("95 % interval", between("pr_auc")),
    ]
    note = (
        "Macro averages over tags on the test split, means over seeds. Intervals are by bootstrap over test "
        "clips: they cover which clips are in the test split, for the mean of these trained networks. "
    )
    if several:
        note += "The standard deviation (sd) is between trainings that differ in their seed alone. "
    else:
        note += "With one seed per architecture, what another seed would give is not known: no sd is shown. "
    note += (
        "PR-AUC is average precision, which few positive clips push up: its interval is around the "
        "corrected value."
    )
    if any("†" in s.cell.name for s in cells):
        note += " † weight decay of 1e-4, as in the paper's Table 1."
    return Table("table1", "Scores on the test split", note, columns, records)


def effects(scored: ScoredGroup, comparable: bool) -> Table | None:
    """Return what a block adds to the basic one, and aggregation to each block; None without such pairs.

    A block that is not the paper's is compared with SE too.
    """
    pairs = []
    for one in scored.cells:
        for base in ("basic",) if one.cell.block in BLOCKS else ("basic", "se"):
            other = scored.of(scored.group.table1(base, one.cell.multi))
            if other is not None and other is not one:
                pairs.append((f"{one.cell.name} {MINUS} {BLOCKS[base]}, {one.cell.aggregation}", one, other))
    for one in scored.cells:
        for other in scored.cells:
            if one.cell.multi and not other.cell.multi and one.cell.name == other.cell.name:
                pairs.append((f"{one.cell.name}: multi {MINUS} no multi", one, other))
    records = []
    for label, one, other in pairs:
        if (difference := scored.difference(one, other)) is not None:
            sure = "yes" if difference.certain else "no"
            theirs = _paper_difference(one.cell, other.cell) if comparable else None
            records.append(
                {"comparison": label, "paper": theirs, **compare(difference), "distinguishable": sure}
            )
    columns = [
        Column("comparison", plain("comparison")),
        *([Column("paper", decimals("paper", sign=True))] if comparable else []),
        *difference_columns(records),
        Column("distinguishable", plain("distinguishable"), words=True),
    ]
    note = (
        "Differences of macro ROC-AUC, paired: each draw of test clips scores both sides. Two are "
        "distinguishable where the last interval leaves out 0. Each comparison stands for itself: of "
        "twenty between equal architectures, one is expected to look distinguishable. " + _seeds(scored)
    )
    title = "What the block and the aggregation change"
    return Table("differences", title, note, columns, records) if records else None


def _seeds(scored: ScoredGroup) -> str:
    """Say what differences have to do with seeds."""
    if scored.spread is None:
        return "With one seed each, all this is of these trained networks: another seed may change it."
    if any(len(one.cell.runs) == 1 for one in scored.cells):
        return "What has one seed is taken to vary with it as the others do."
    return ""


def _paper_difference(one: Cell, other: Cell) -> float | None:
    ours, theirs = paper_auc(one), paper_auc(other)
    return ours - theirs if ours is not None and theirs is not None else None


def difference_columns(records: Sequence[Record]) -> list[Column]:
    """Return the columns of a difference; that of the seeds only if any record has it."""
    seeds = any(record["clips_and_seeds_low"] is not None for record in records)
    return [
        Column("difference", decimals("difference", sign=True)),
        Column("95 %, test clips", between("clips", sign=True)),
        *([Column("95 %, clips and seeds", between("clips_and_seeds", sign=True))] if seeds else []),
    ]


def leads(scored: ScoredGroup) -> Table | None:
    """Return the lead of the best cell over each other, by a criterion that holds for all pairs at once."""
    if not scored.ranked:
        return None
    best, *others = scored.ranked
    records = []
    for other in others:
        if (difference := scored.difference(best, other)) is not None:
            behind = "yes" if difference.errors > scored.reach else "not distinguishable"
            records.append({"cell": other.cell.label, **compare(difference), "behind": behind})
    if not records:
        return None
    columns = [
        Column("architecture", plain("cell")),
        *difference_columns(records),
        Column("behind the best", plain("behind"), words=True),
    ]
    note = (
        f"The lead of {best.cell.label} in macro ROC-AUC, paired over test clips. The best was picked by "
        "looking, and one has to be best: others count as behind only if their lead is more than "
        f"{scored.reach:.2f} standard errors, so much that among equal architectures no two would be that "
        "far apart in 95 % of cases. The intervals are those of single comparisons. " + _seeds(scored)
    )
    return Table("leads", f"Lead of the best: {best.cell.label}", note, columns, records)


def costs(scored: ScoredGroup) -> Table:
    """Return parameters and training time, relative to the basic block with the same aggregation."""
    records = []
    for one in scored.cells:
        runs = one.cell.runs
        seconds = sum(run.seconds_per_epoch for run in runs) / len(runs)
        records.append(
            {
                **identify(one.cell),
                "parameters": runs[0].results.parameters,
                "seconds_per_epoch": seconds,
                "relative": _relative(one.cell, scored.group.table1("basic", one.cell.multi)),
                "paper": COST.get(one.cell.block) if one.cell.in_table1 else None,
                "epochs": sum(run.results.epochs for run in runs) / len(runs),
                "train_seconds": sum(run.results.train_seconds for run in runs) / len(runs),
            }
        )
    columns = [
        Column("architecture", plain("cell")),
        Column("parameters", plain("parameters")),
        Column("seconds an epoch", decimals("seconds_per_epoch", 1)),
        Column("relative to Basic", decimals("relative", 2)),
        Column("paper", decimals("paper", 2)),
        Column("epochs", decimals("epochs", 0)),
        Column("training", lambda record: duration(record["train_seconds"])),
    ]
    note = (
        "Means over seeds of the median epoch, validation included, on the hardware named under "
        "provenance; relative to Basic with the same aggregation on the same hardware. The paper's ratios "
        "are of width 128; it does not say with which aggregation. Trainings that shared a machine slow each "
        "other down."
    )
    return Table("cost", "Parameters and training time", note, columns, records)


def _relative(cell: Cell, basic: Cell | None) -> float | None:
    """Return the time of an epoch over that of the basic block, on hardware that trained both."""
    ratios = []
    for run in cell.runs:
        same = [
            other.seconds_per_epoch
            for other in (basic.runs if basic else ())
            if other.results.hardware == run.results.hardware
        ]
        if same and sum(same) > 0:
            ratios.append(run.seconds_per_epoch * len(same) / sum(same))
    return sum(ratios) / len(ratios) if ratios else None
