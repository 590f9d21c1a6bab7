"""What stands behind the tables: scores per tag, and the runs."""

from collections.abc import Sequence

from samplecnn.analysis.scores import Scored, ScoredGroup
from samplecnn.analysis.statistics import FEW_POSITIVES
from samplecnn.analysis.tables import Column, Record, Table, between, decimals, interval, plain
from samplecnn.runs.run import Run


def per_tag(scored: ScoredGroup, best: Scored) -> Table:
    """Return the scores of each tag: of the best cell for people, of all cells in the CSV file."""
    records: list[Record] = []
    for one in sorted(scored.cells, key=lambda one: one is not best):
        by_auc = sorted(one.per_tag.items(), key=lambda item: -(item[1].roc_auc or 0))
        for tag, score in by_auc:
            told: Record = {"cell": one.cell.label, "tag": tag, "positives": score.positives}
            told |= {"roc_auc": score.roc_auc, **interval("roc_auc", score.roc_interval)}
            records.append({**told, "pr_auc": score.pr_auc, **interval("pr_auc", score.pr_interval)})
    columns = [
        Column("tag", plain("tag")),
        Column("positive clips", plain("positives")),
        Column("ROC-AUC", decimals("roc_auc", 3)),
        Column("95 % interval", between("roc_auc", 3)),
        Column("PR-AUC", decimals("pr_auc", 3)),
        Column("95 % interval", between("pr_auc", 3)),
    ]
    note = (
        f"{best.cell.label}, means over seeds, best first. Where the AUC is exactly 1, no draw of clips "
        "departs from it, and there is no interval. per_tag.csv has all architectures."
    )
    label = best.cell.label
    return Table(
        "per_tag",
        "Scores of each tag",
        note,
        columns,
        records,
        visible=lambda record: record["cell"] == label,
    )


def rare_tags(best: Scored) -> list[str]:
    """Return the tags that have too few positive test clips for the bootstrap to show how far they vary."""
    return [tag for tag, score in best.per_tag.items() if 0 < score.positives < FEW_POSITIVES]


def undefined_tags(best: Scored) -> list[str]:
    """Return the tags without positive or without negative test clips."""
    return [tag for tag, score in best.per_tag.items() if score.roc_auc is None]


def run_table(runs: Sequence[Run]) -> Table:
    """Return where each number is from."""
    records = [
        {
            "run": run.name,
            "block": run.results.block,
            "multi": run.results.multi,
            "seed": run.seed,
            "roc_auc": run.results.test.roc_auc,
            "epochs": run.results.epochs,
            "train_seconds": run.results.train_seconds,
            "precision": run.results.precision,
            "hardware": run.results.hardware,
            "versions": ", ".join(f"{name} {version}" for name, version in run.results.versions.items()),
            "config_hash": run.results.config_hash,
        }
        for run in runs
    ]
    columns = [
        Column("run folder", plain("run")),
        Column("block", plain("block"), words=True),
        Column("multi", lambda record: "yes" if record["multi"] else "no", words=True),
        Column("seed", lambda record: str(record["seed"])),
        Column("ROC-AUC", decimals("roc_auc")),
        Column("precision", plain("precision"), words=True),
        Column("hardware", plain("hardware"), words=True),
        Column("versions", plain("versions"), words=True),
        Column("config hash", plain("config_hash"), words=True),
    ]
    return Table("runs", "Runs", "Folders are relative to the one above all of them.", columns, records)
