"""Published numbers: Tables 1 and 2 of Kim, Lee and Nam (2018), with where each is from and on which split.

AUC is the macro ROC-AUC over the 50 most frequent tags. Two AUCs can be compared only if they are of one test
split. On MagnaTagATune that is known of the models whose authors published their lists of clips (15,244 /
1,529 / 4,332, clips without tags dropped): github.com/jongpillee/music_dataset_split, whose readme names the
papers it is of. Kim et al. write that they split and filtered "following the previous work [5, 6, 8]"; of
[5] and [6] themselves, and of the others, the split is not known to be this one. The same lists hold the
split of the Million Song Dataset (201,680 / 11,774 / 28,435).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from samplecnn.analysis.cells import BLOCKS
from samplecnn.analysis.scores import Scored
from samplecnn.analysis.tables import Column, Record, Table, between, decimals, interval, plain
from samplecnn.runs.run import Run

# Table 1: ROC-AUC on MagnaTagATune by block: multi-level aggregation, none. ReSE-2 with weight decay.
TABLE1 = {
    "basic": (0.9077, 0.9055),
    "se": (0.9111, 0.9083),
    "res1": (0.9037, 0.9048),
    "res2": (0.9098, 0.9061),
    "rese1": (0.9053, 0.9066),
    "rese2": (0.9113, 0.9102),
}
# Section 4.1: training time relative to the basic block's.
COST = {"basic": 1.0, "se": 1.08, "rese2": 1.8}

# Data set, split, tags and test clips that make a run comparable with the rows of the same split below.
Split = tuple[str, str, int, int]
MTAT: Split = ("mtat", "clean", 50, 4332)
MSD: Split = ("msd", "published", 50, 28435)
SPLITS = {
    MTAT: "MagnaTagATune, 15,244 / 1,529 / 4,332 clips",
    MSD: "Million Song Dataset, 201,680 / 11,774 / 28,435 tracks",
}
UNKNOWN = "split not known to be the same"
PRINTED = "Published numbers are macro ROC-AUC over 50 tags, as the paper printed them."


@dataclass(frozen=True)
class Published:
    """A row of Table 2."""

    model: str
    source: str
    mtat: float | None
    msd: float | None
    same_split: bool  # as the paper's: see above
    ensembles: tuple[str, ...] = ()  # data sets on which the number is of three networks together


TABLE2 = (
    Published("Bag of multi-scaled features", "Dieleman and Schrauwen 2013 [3]", 0.8980, None, False),
    Published("End-to-end", "Dieleman and Schrauwen 2014 [6]", 0.8815, None, False),
    Published("Transfer learning", "van den Oord et al. 2014 [4]", 0.8800, None, False),
    Published("Persistent CNN", "Liu et al. 2016 [21]", 0.9013, None, False),
    Published("Time-frequency CNN", "Güçlü et al. 2016 [22]", 0.9007, None, False),
    Published("Timbre CNN", "Pons et al. 2017 [23]", 0.8930, None, False),
    Published("2D CNN", "Choi et al. 2016 [5]", 0.8940, 0.8510, False),
    Published("CRNN", "Choi et al. 2017 [1]", None, 0.8620, False),
    Published("Multi-level and multi-scale", "Lee and Nam 2017 [2]", 0.9017, 0.8878, True, ("mtat", "msd")),
    Published("SampleCNN multi-features", "Lee and Nam 2017 [14]", 0.9064, 0.8842, True, ("mtat",)),
    Published("SampleCNN", "Lee et al. 2017 [8]", 0.9055, 0.8812, True),
    Published("SE, multi", "Kim et al. 2018", 0.9111, 0.8840, True),
    Published("ReSE-2, multi", "Kim et al. 2018", 0.9113, 0.8847, True),
)


def matching(run: Run) -> Split | None:
    """Return which published split a run was tested on, None if it is another or cannot be told.

    A data set is known by what read it, and by the number of its tags and test clips; whatever its store is
    called.
    """
    clips = len(run.predictions.clip_ids) if run.predictions is not None else None
    told = (run.dataset, run.results.split, len(run.tags), clips)
    return next((split for split in SPLITS if split == told), None)


def table2(split: Split, ours: Sequence[Scored]) -> Table:
    """Return the published rows of one split, with our cells among them, the best first."""
    records = [{**row, **interval("roc_auc", None)} for row in _rows(split[0], same_split=True)]
    for scored in ours:
        if scored.roc_auc is not None:
            told: Record = {"model": scored.cell.label, "source": "this report", "roc_auc": scored.roc_auc}
            records.append({**told, **interval("roc_auc", scored.roc_interval)})
    columns = (
        Column("model", plain("model")),
        Column("ROC-AUC", decimals("roc_auc")),
        Column("95 % interval", between("roc_auc")),
        Column("source", plain("source"), words=True),
    )
    note = (
        f"{SPLITS[split]}: rows of the paper's Table 2 that are known to be of this split, and ours. "
        f"{PRINTED} They come without intervals; ours show how much test clips alone can do."
    )
    records.sort(key=lambda record: -record["roc_auc"])
    return Table("table2", "Table 2 of the paper, on this split", note, columns, records)


def elsewhere(split: Split | None) -> list[Table]:
    """Return what the paper printed for other splits than ours, a table for each: never beside our scores."""
    tables = []
    if split != MTAT:
        records: list[Record] = [
            {"model": f"{BLOCKS[block]}, {kind}", "source": "Kim et al. 2018, Table 1", "roc_auc": auc}
            for block, aucs in TABLE1.items()
            for kind, auc in zip(("multi", "no multi"), aucs, strict=True)
        ]
        note = f"{SPLITS[MTAT]}. ReSE-2 with weight decay."
        tables.append(_published("Table 1 of the paper", SPLITS[MTAT], note, records))
    for kind, name in SPLITS.items():
        if kind != split:
            note = f"{name}: the rows of the paper's Table 2 that are known to be of this split. {PRINTED}"
            tables.append(_published(name.partition(",")[0], name, note, _rows(kind[0], same_split=True)))
        note = (
            "Rows of the paper's Table 2 whose split is not known to be the one of the published lists. They "
            "can be compared neither with those nor with each other."
        )
        title = f"{name.partition(',')[0]}, split not known"
        tables.append(_published(title, UNKNOWN, note, _rows(kind[0], same_split=False)))
    return tables


def _published(title: str, split: str, note: str, records: Sequence[Record]) -> Table:
    columns = (
        Column("model", plain("model")),
        Column("ROC-AUC", decimals("roc_auc")),
        Column("source", plain("source"), words=True),
    )
    return Table("published", title, note, columns, [{"split": split, **r} for r in records])


def _rows(data: str, *, same_split: bool) -> list[Record]:
    """Return the rows of Table 2 that have a number for a data set, the best first."""
    records: list[Record] = []
    for row in TABLE2:
        auc = getattr(row, data)
        if row.same_split == same_split and auc is not None:
            model = f"{row.model} (ensemble of three)" if data in row.ensembles else row.model
            records.append({"model": model, "source": row.source, "roc_auc": auc})
    return sorted(records, key=lambda record: -record["roc_auc"])
