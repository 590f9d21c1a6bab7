"""The tables of a report: scores, differences, cost, tags, runs."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from statistics import fmean

from samplecnn.analysis.architectures import Architecture, Group
from samplecnn.analysis.comparison import verdict
from samplecnn.analysis.published import COST, TABLE1
from samplecnn.analysis.statistics import PER_TAG
from samplecnn.analysis.tabular import MINUS, NONE, PR, ROC, Column, Record, Table, duration, number, span
from samplecnn.model import blocks
from samplecnn.runs.run import Run

HASH = 12  # letters of it that are shown
signed, signed_span = partial(number, sign=True), partial(span, sign=True)
# Of scores as `Architecture.score_fields` has them; of differences; and of both, as `compared` has them.
SCORES = (
    *ROC,
    Column("sd over seeds", "roc_auc_sd", number, optional=True),
    Column("seeds", "seeds"),
)
DIFFERENCE = (
    Column("difference", "difference", signed),
    Column("95 %, test clips", "clips_interval", signed_span),
    Column("95 %, clips and seeds", "clips_and_seeds_interval", signed_span, optional=True),
    Column("distinguishable", "distinguishable", words=True),
)
COMPARED = (*SCORES, *DIFFERENCE)


def compared(group: Group, one: Architecture, other: Architecture | None) -> Record:
    """Return the scores of an architecture, and how it differs from another; nothing of that without one."""
    difference = group.difference(one, other)
    return one.score_fields | {column.key: getattr(difference, column.key, None) for column in DIFFERENCE}


def table1(architectures: Sequence[Architecture]) -> Table:
    """Score architectures, the paper's numbers beside ours where they are of the same test clips."""
    records = [{**one.fields, "paper": one.paper_auc, **one.score_fields} for one in architectures]
    columns = [
        Column("architecture", "cell"),
        Column("paper", "paper", number, optional=True),
        *SCORES,
        *PR,
    ]
    note = (
        "Macro averages over tags on the test split, means over seeds. Intervals are by bootstrap over test "
        "clips: they cover which clips are in the test split, for the mean of these trained networks. "
    )
    if any(record["seeds"] > 1 for record in records):
        note += "The standard deviation (sd) is between trainings that differ in their seed alone. "
    else:
        note += "With one seed per architecture, what another seed would give is not known: no sd is shown. "
    note += (
        "PR-AUC is average precision, which few positive clips push up: its interval is around the "
        "corrected value."
    )
    if any("†" in one.label for one in architectures):
        note += " † weight decay of 1e-4, as in the paper's Table 1."
    title = "Scores on the test split"
    return Table("table1", title, note, columns, records, highest=("roc_auc", "pr_auc"))


def differences(group: Group) -> Table | None:
    """Return what a block adds to the basic one, aggregation to each block, and a trained start to both.

    None without such pairs. A block that is not the paper's is compared with SE too, another network with
    both, multi-level.
    """
    pairs = []
    for one in (one for one in group.architectures if not one.start and one.clips is None):
        block, multi = one.block, one.multi
        for base in ("basic",) if block in TABLE1 else ("basic", "se"):
            other = group.table1(base, multi is not False)
            if other is not None and other is not one:
                name = f"{one.name} {MINUS} {blocks.title(base)}, {other.aggregation}"
                pairs.append((name, one, other))
    for one in group.architectures:
        for other in group.architectures:
            same = all(getattr(one, k) == getattr(other, k) for k in ("name", "recipe", "start", "clips"))
            if same and one.multi and not other.multi:
                pairs.append((f"{one.name}: multi {MINUS} no multi", one, other))
        if one.start and (scratch := group.from_scratch(one)) is not None:
            pairs.append((f"{one.label} {MINUS} random weights", one, scratch))
    records = []
    for name, one, other in pairs:
        if (difference := group.difference(one, other)) is not None:
            ours, theirs = one.paper_auc, other.paper_auc
            paper = None if ours is None or theirs is None else ours - theirs
            known = {column.key: getattr(difference, column.key) for column in DIFFERENCE}
            records.append({"comparison": name, "paper": paper, **known})
    columns = [
        Column("comparison", "comparison"),
        Column("paper", "paper", signed, optional=True),
        *DIFFERENCE,
    ]
    note = (
        "Differences of macro ROC-AUC, paired: each draw of test clips scores both sides. Two are "
        "distinguishable where the last interval leaves out 0. Each comparison stands for itself: of "
        "twenty between equal architectures, one is expected to look distinguishable. "
        + seeds_in_words(group)
    )
    title = "What the block and the aggregation change"
    return Table("differences", title, note.strip(), columns, records) if records else None


def seeds_in_words(group: Group) -> str:
    """Say what differences have to do with seeds."""
    if group.spread is None:
        return "With one seed each, all this is of these trained networks: another seed may change it."
    own = [one.deviation for one in group.architectures if one.deviation is not None]
    return (
        f"Seeds: the standard deviation of one training is {number(group.spread.deviation)}, pooled over "
        f"the architectures that have several seeds ({number(min(own))} to {number(max(own))}), and taken "
        "for all."
    )


def best_and_others(group: Group) -> Table | None:
    """Return the lead of the best over each other, with intervals that hold for all pairs at once."""
    if not group.ranked:
        return None
    best, *others = group.ranked
    records = []
    for other in others:
        if (difference := group.difference(best, other)) is not None:
            behind = verdict(difference.all_pairs_interval)
            records.append({"cell": other.label, **vars(difference), "behind": behind})
    if not records:
        return None
    covers = "clips and seeds" if group.spread else "test clips"
    columns = [
        Column("architecture", "cell"),
        DIFFERENCE[0],
        Column(f"95 %, {covers}, all pairs", "all_pairs_interval", signed_span),
        Column("behind the best", "behind", words=True),
    ]
    note = (
        f"The lead of {best.label} in macro ROC-AUC, paired over test clips. Something has to be best, and "
        "the best was picked by looking. Therefore the intervals hold for all pairs at once (Tukey): among "
        "equal architectures, in 95 % of cases all of them have 0 inside. " + seeds_in_words(group)
    )
    return Table("best", f"Lead of the best: {best.label}", note, columns, records)


def cost(group: Group) -> Table:
    """Return parameters and training time, relative to the basic block with the same aggregation."""
    records = []
    for one in group.architectures:
        runs = one.runs
        records.append(
            {
                **one.fields,
                "parameters": runs[0].results.parameters,
                "seconds_per_epoch": fmean(run.seconds_per_epoch for run in runs),
                "relative": one.relative_time(group.table1("basic", one.multi)),
                "paper": COST.get(str(one.block)) if one.in_table1 else None,
                "epochs": fmean(run.results.epochs for run in runs),
                "train_seconds": fmean(run.results.train_seconds for run in runs),
            }
        )
    columns = [
        Column("architecture", "cell"),
        Column("parameters", "parameters"),
        Column("seconds an epoch", "seconds_per_epoch", partial(number, digits=1)),
        Column("relative to Basic", "relative", partial(number, digits=2)),
        Column("paper", "paper", partial(number, digits=2)),
        Column("epochs", "epochs", partial(number, digits=0)),
        Column("training", "train_seconds", duration),
    ]
    note = (
        "Means over seeds of the median epoch, validation included, on the hardware named under "
        "provenance; relative to Basic with the same aggregation on the same hardware. The paper's ratios "
        "are of width 128; it does not say with which aggregation. Trainings that shared a machine slow each "
        "other down."
    )
    title = "Parameters and training time"
    return Table("cost", title, note, columns, records, lowest=("parameters",))


def per_tag(group: Group, best: Architecture) -> Table:
    """Return the scores of each tag: of the best architecture for people, of all in the CSV file."""
    auc, interval = partial(number, digits=3), partial(span, digits=3)
    columns = [
        Column("tag", "tag"),
        Column("positive clips", "positives"),
        Column("ROC-AUC", "roc_auc", auc),
        Column("95 % interval", "roc_auc_interval", interval),
        Column("PR-AUC", "pr_auc", auc),
        Column("95 % interval", "pr_auc_interval", interval),
    ]
    note = (
        f"{best.label}, means over seeds, best first. There is no interval for a tag with fewer than "
        f"{PER_TAG} positive or negative test clips, and none for an AUC of exactly 1, from which no draw "
        "departs. "
        "per_tag.csv has all architectures."
    )
    others = [one for one in group.architectures if one is not best]
    shown, unseen = (
        [
            {"cell": one.label, "tag": tag, **asdict(scores)}
            for one in several
            for tag, scores in one.scores.best_first
        ]
        for several in ([best], others)
    )
    return Table("per_tag", "Scores of each tag", note, columns, shown, unseen)


def run_table(runs: Sequence[Run]) -> Table:
    """Return where each number is from."""
    keys = (
        *("run", "model", "block", "multi", "seed", "averaged", "roc_auc", "epochs", "train_seconds"),
        *("precision", "hardware", "versions", "config_hash"),
    )
    records = []
    for run in runs:
        versions = ", ".join(f"{name} {version}" for name, version in run.results.versions.items())
        known = {
            **vars(run.results),
            "run": run.name,
            "roc_auc": run.results.test.roc_auc,
            "versions": versions,
        }
        records.append({key: known[key] for key in keys})
    columns = [
        Column("run folder", "run"),
        Column("model", "model", words=True),
        Column("block", "block", words=True),
        Column("multi", "multi", lambda multi: {True: "yes", False: "no"}.get(multi, NONE), words=True),
        Column("seed", "seed", str),
        Column("tested", "averaged", words=True, optional=True),
        ROC[0],
        *(Column(key.replace("_", " "), key, words=True) for key in ("precision", "hardware", "versions")),
        Column("config hash", "config_hash", lambda digest: digest[:HASH], words=True),
    ]
    return Table("runs", "Runs", "Folders are relative to the one above all of them.", columns, records)
