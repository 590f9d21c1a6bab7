"""What Kim, Lee and Nam (2018) printed, and how they trained; what others published of the same splits.

AUC is the macro ROC-AUC over the 50 most frequent tags. Two AUCs can be compared only if they are of one test
split. On MagnaTagATune that is known of the models whose authors published their lists of clips (15,244 /
1,529 / 4,332, clips without tags dropped): github.com/jongpillee/music_dataset_split, whose readme names the
papers it is of. Kim et al. write that they split and filtered "following the previous work [5, 6, 8]"; of
[5] and [6] themselves, and of the others, the split is not known to be this one. The same lists hold the
split of the Million Song Dataset (201,680 / 11,774 / 28,435). Won et al. (2020) trained networks of the field
on both, on audio at 16 kHz (figs/performance.png of github.com/minzwon/sota-music-tagging-models); Pons and
Serra (2019) on MagnaTagATune with its untagged clips (github.com/jordipons/musicnn-training).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from samplecnn.analysis.tabular import ROC, Column, Record, Table, number
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
# What each experiment trains: block, with multi-level aggregation or without, weight decay, alpha.
PLANNED = {
    "table1": [
        (block, multi, DAGGER if block in DAGGER_BLOCKS else 0.0, ALPHA)
        for block in TABLE1
        for multi in (True, False)
    ],
    "alpha": [("se", True, 0.0, alpha) for alpha in ALPHAS],
    "weight_decay": [(block, True, decay, ALPHA) for block in DECAY_BLOCKS for decay in DECAYS],
}
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
    "optimizer.name": "keras_sgd",
    "average.name": "none",
    "label_smoothing": 0.0,
    "augment.name": "none",
    "trainer.max_epochs": None,
    "trainer.limit_train_batches": None,
}

# Data set, split, tags and test clips that make a run comparable with the rows of the same split below.
Split = tuple[str, str, int, int]
MTAT: Split = ("mtat", "clean", 50, 4332)
MTAT_PONS: Split = ("mtat", "pons", 50, 5329)
MSD: Split = ("msd", "published", 50, 28435)
SPLITS = {
    MTAT: "MagnaTagATune, 15,244 / 1,529 / 4,332 clips",
    MTAT_PONS: "MagnaTagATune with untagged clips, 18,706 / 1,825 / 5,329 clips",
    MSD: "Million Song Dataset, 201,680 / 11,774 / 28,435 tracks",
}
DATA = {"mtat": "MagnaTagATune", "msd": "Million Song Dataset"}
UNKNOWN = "split not known to be the same"
PRINTED = "Published numbers are macro averages over 50 tags, as they were printed."
SOURCE = Column("source", "source", words=True)
PR_AUC = Column("PR-AUC", "pr_auc", number, optional=True)


@dataclass(frozen=True)
class Published:
    """A published score."""

    model: str
    source: str
    split: Split | None  # None: not known to be one of `SPLITS`
    roc_auc: float
    pr_auc: float | None = None
    data: str = "mtat"
    ensemble: bool = False  # of three networks together


BAG = "Dieleman and Schrauwen 2013 [3]"
END_TO_END = "Dieleman and Schrauwen 2014 [6]"
FCN, CRNN = "Choi et al. 2016 [5]", "Choi et al. 2017 [1]"
LEVELS, FEATURES, SAMPLE = "Lee and Nam 2017 [2]", "Lee and Nam 2017 [14]", "Lee et al. 2017 [8]"
KIM, WON, PONS = "Kim et al. 2018", "Won et al. 2020", "Pons and Serra 2019"
PUBLISHED = (
    # Table 2 of the paper
    Published("Bag of multi-scaled features", BAG, None, 0.8980),
    Published("End-to-end", END_TO_END, None, 0.8815),
    Published("Transfer learning", "van den Oord et al. 2014 [4]", None, 0.8800),
    Published("Persistent CNN", "Liu et al. 2016 [21]", None, 0.9013),
    Published("Time-frequency CNN", "Güçlü et al. 2016 [22]", None, 0.9007),
    Published("Timbre CNN", "Pons et al. 2017 [23]", None, 0.8930),
    Published("2D CNN", FCN, None, 0.8940),
    Published("Multi-level and multi-scale", LEVELS, MTAT, 0.9017, ensemble=True),
    Published("SampleCNN multi-features", FEATURES, MTAT, 0.9064, ensemble=True),
    Published("SampleCNN", SAMPLE, MTAT, 0.9055),
    Published("SE, multi", KIM, MTAT, 0.9111),
    Published("ReSE-2, multi", KIM, MTAT, 0.9113),
    Published("2D CNN", FCN, None, 0.8510, data="msd"),
    Published("CRNN", CRNN, None, 0.8620, data="msd"),
    Published("Multi-level and multi-scale", LEVELS, MSD, 0.8878, data="msd", ensemble=True),
    Published("SampleCNN multi-features", FEATURES, MSD, 0.8842, data="msd"),
    Published("SampleCNN", SAMPLE, MSD, 0.8812, data="msd"),
    Published("SE, multi", KIM, MSD, 0.8840, data="msd"),
    Published("ReSE-2, multi", KIM, MSD, 0.8847, data="msd"),
    # At 16 kHz; test clips by 16 chunks each
    Published("FCN", WON, MTAT, 0.9005, 0.4295),
    Published("CRNN", WON, MTAT, 0.8722, 0.3625),
    Published("Musicnn", WON, MTAT, 0.9106, 0.4493),
    Published("SampleCNN", WON, MTAT, 0.9058, 0.4422),
    Published("SampleCNN with squeeze-and-excitation", WON, MTAT, 0.9103, 0.4520),
    Published("Self-attention", WON, MTAT, 0.9077, 0.4445),
    Published("Harmonic CNN", WON, MTAT, 0.9127, 0.4611),
    Published("Short-chunk CNN", WON, MTAT, 0.9126, 0.4590),
    Published("Short-chunk CNN res", WON, MTAT, 0.9129, 0.4614),
    Published("FCN", WON, MSD, 0.8744, 0.2970, "msd"),
    Published("CRNN", WON, MSD, 0.8499, 0.2469, "msd"),
    Published("Musicnn", WON, MSD, 0.8803, 0.2983, "msd"),
    Published("SampleCNN", WON, MSD, 0.8789, 0.2959, "msd"),
    Published("SampleCNN with squeeze-and-excitation", WON, MSD, 0.8838, 0.3109, "msd"),
    Published("Self-attention", WON, MSD, 0.8810, 0.3103, "msd"),
    Published("Harmonic CNN", WON, MSD, 0.8898, 0.3298, "msd"),
    Published("Short-chunk CNN", WON, MSD, 0.8883, 0.3251, "msd"),
    Published("Short-chunk CNN res", WON, MSD, 0.8898, 0.3280, "msd"),
    # At 16 kHz; test clips by patches of 3 s
    Published("Musicnn original", PONS, MTAT_PONS, 0.9067, 0.3831),
    Published("VGG", PONS, MTAT_PONS, 0.9026, 0.3819),
    Published("Timbre CNN", PONS, MTAT_PONS, 0.8928, 0.3538),
    Published("End-to-end", PONS, MTAT_PONS, 0.8861, 0.3413),
)
BEST_FIRST = sorted(PUBLISHED, key=lambda row: -row.roc_auc)


def published_split(run: Run) -> Split | None:
    """Return which published split a run was tested on, None if it is another or cannot be told.

    A data set is known by what read it and by the number of its tags and test clips, whatever its store is
    called.
    """
    clips = len(run.predictions.clip_ids) if run.predictions is not None else None
    tested = (run.config.dataset, run.results.split, len(run.tags), clips)
    return next((split for split in SPLITS if split == tested), None)


def table2(split: Split, ours: Sequence[Record]) -> Table:
    """Return the published rows of one split with ours (model, scores, interval) among them, best first."""
    records = [{**_record(row), "roc_auc_interval": None} for row in PUBLISHED if row.split == split]
    records += [{**record, "source": "this report"} for record in ours]
    columns = (Column("model", "model"), *ROC, PR_AUC, SOURCE)
    note = (
        f"{SPLITS[split]}: published rows that are known to be of this split, those of the paper's Table 2 "
        f"among them, and ours. {PRINTED} They come without intervals; ours show how much test clips alone "
        "can do. Won et al. and Pons and Serra trained on audio at 16 kHz."
    )
    records.sort(key=lambda record: -record["roc_auc"])
    title = "Published models on this split"
    return Table("table2", title, note, columns, records, highest=("roc_auc", "pr_auc"))


def published_tables(split: Split | None) -> list[Table]:
    """Return what was published of other splits than ours, a table for each: never beside our scores."""
    tables = []
    if split != MTAT:
        rows = [
            Published(f"{blocks.title(block)}, {kind}", "Kim et al. 2018, Table 1", MTAT, auc)
            for block, aucs in TABLE1.items()
            for kind, auc in zip(("multi", "no multi"), aucs, strict=True)
        ]
        note = f"{SPLITS[MTAT]}. ReSE-2 with weight decay."
        tables.append(_published("Table 1 of the paper", SPLITS[MTAT], note, rows))
    for other, name in SPLITS.items():
        if other != split:
            note = f"{name}: the published rows that are known to be of this split. {PRINTED}"
            rows = [row for row in BEST_FIRST if row.split == other]
            tables.append(_published(name.partition(",")[0], name, note, rows))
    for data, title in DATA.items():
        note = (
            "Rows of the paper's Table 2 whose split is not known to be the one of the published lists. They "
            "can be compared neither with those nor with each other."
        )
        rows = [row for row in BEST_FIRST if row.split is None and row.data == data]
        tables.append(_published(f"{title}, split not known", UNKNOWN, note, rows))
    return tables


def _published(title: str, split: str, note: str, rows: Sequence[Published]) -> Table:
    columns = (Column("model", "model"), ROC[0], PR_AUC, SOURCE)
    return Table("published", title, note, columns, [{"split": split, **_record(row)} for row in rows])


def _record(row: Published) -> Record:
    model = f"{row.model} (ensemble of three)" if row.ensemble else row.model
    return {"model": model, "source": row.source, "roc_auc": row.roc_auc, "pr_auc": row.pr_auc}
