"""What Kim, Lee and Nam (2018) printed, and how they trained.

AUC is the macro ROC-AUC over the 50 most frequent tags. Two AUCs can be compared only if they are of one test
split. On MagnaTagATune that is known of the models whose authors published their lists of clips (15,244 /
1,529 / 4,332, clips without tags dropped): github.com/jongpillee/music_dataset_split, whose readme names the
papers it is of. Kim et al. write that they split and filtered "following the previous work [5, 6, 8]"; of
[5] and [6] themselves, and of the others, the split is not known to be this one. The same lists hold the
split of the Million Song Dataset (201,680 / 11,774 / 28,435).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from samplecnn.analysis.tabular import ROC_AUC, ROC_INTERVAL, Column, Record, Table
from samplecnn.model import blocks
from samplecnn.runs.run import Run

# Table 1: ROC-AUC on MagnaTagATune by block: multi-level aggregation, none.
TABLE1 = {
    "basic": (0.9077, 0.9055),
    "se": (0.9111, 0.9083),
    "res1": (0.9037, 0.9048),
    "res2": (0.9098, 0.9061),
    "rese1": (0.9053, 0.9066),
    "rese2": (0.9113, 0.9102),
}
DAGGER = 1e-4  # the weight decay that Table 1 marks with †
DAGGER_BLOCKS = ("rese2",)  # trained with it
# Section 4.1: training time relative to the basic block's.
COST = {"basic": 1.0, "se": 1.08, "rese2": 1.8}
ALPHA = 16.0  # the amplifying ratio that was chosen
ALPHAS = tuple(2.0**power for power in range(-3, 7))  # section 2.1.2
# The weight decays that experiment=weight_decay tries, and of which blocks.
DECAYS, DECAY_BLOCKS = (0.0, 1e-5, 1e-4, 1e-3), ("se", "res2", "rese2")
# How the networks were trained on MagnaTagATune, in the configuration's terms.
SETTINGS = {
    "width": 128,
    "dropout": 0.5,
    "batch_size": 23,
    "schedule._target_": "samplecnn.training.schedule.PaperSchedule",
    "schedule.learning_rate": 0.01,
    "schedule.stages": 5,
    "schedule.factor": 0.2,
    "schedule.patience": 2,
    "schedule.decay": 1e-6,
    "trainer.max_epochs": None,
    "trainer.limit_train_batches": None,
}

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
SOURCE = Column("source", "source", words=True)


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


def published_split(run: Run) -> Split | None:
    """Return which published split a run was tested on, None if it is another or cannot be told.

    A data set is known by what read it and by the number of its tags and test clips, whatever its store is
    called.
    """
    clips = len(run.predictions.clip_ids) if run.predictions is not None else None
    tested = (run.dataset, run.results.split, len(run.tags), clips)
    return next((split for split in SPLITS if split == tested), None)


def table2(split: Split, ours: Sequence[Record]) -> Table:
    """Return the published rows of one split with ours among them (model, AUC, interval), the best first."""
    records = [{**row, "roc_auc_interval": None} for row in _table2_rows(split, same_split=True)]
    records += [{**record, "source": "this report"} for record in ours]
    columns = (Column("model", "model"), ROC_AUC, ROC_INTERVAL, SOURCE)
    note = (
        f"{SPLITS[split]}: rows of the paper's Table 2 that are known to be of this split, and ours. "
        f"{PRINTED} They come without intervals; ours show how much test clips alone can do."
    )
    records.sort(key=lambda record: -record["roc_auc"])
    return Table("table2", "Table 2 of the paper, on this split", note, columns, records)


def published_tables(split: Split | None) -> list[Table]:
    """Return what the paper printed for other splits than ours, a table for each: never beside our scores."""
    tables = []
    if split != MTAT:
        records: list[Record] = [
            {"model": f"{blocks.title(block)}, {kind}", "source": "Kim et al. 2018, Table 1", "roc_auc": auc}
            for block, aucs in TABLE1.items()
            for kind, auc in zip(("multi", "no multi"), aucs, strict=True)
        ]
        note = f"{SPLITS[MTAT]}. ReSE-2 with weight decay."
        tables.append(_published("Table 1 of the paper", SPLITS[MTAT], note, records))
    for other, name in SPLITS.items():
        data = name.partition(",")[0]
        if other != split:
            note = f"{name}: the rows of the paper's Table 2 that are known to be of this split. {PRINTED}"
            tables.append(_published(data, name, note, _table2_rows(other, same_split=True)))
        note = (
            "Rows of the paper's Table 2 whose split is not known to be the one of the published lists. They "
            "can be compared neither with those nor with each other."
        )
        rows = _table2_rows(other, same_split=False)
        tables.append(_published(f"{data}, split not known", UNKNOWN, note, rows))
    return tables


def _published(title: str, split: str, note: str, records: Sequence[Record]) -> Table:
    columns = (Column("model", "model"), ROC_AUC, SOURCE)
    return Table("published", title, note, columns, [{"split": split, **record} for record in records])


def _table2_rows(split: Split, *, same_split: bool) -> list[Record]:
    """Return the rows of Table 2 that have a number for a data set, the best first."""
    records: list[Record] = []
    for row in TABLE2:
        auc = getattr(row, split[0])
        if row.same_split == same_split and auc is not None:
            model = f"{row.model} (ensemble of three)" if split[0] in row.ensembles else row.model
            records.append({"model": model, "source": row.source, "roc_auc": auc})
    return sorted(records, key=lambda record: -record["roc_auc"])
