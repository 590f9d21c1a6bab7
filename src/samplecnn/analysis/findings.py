"""What the numbers say, in sentences."""

from collections.abc import Sequence

from samplecnn.analysis.architectures import paper_auc
from samplecnn.analysis.details import rare_tags, undefined_tags
from samplecnn.analysis.published import SPLITS, Split
from samplecnn.analysis.scores import Scored, ScoredGroup
from samplecnn.analysis.statistics import FEW_POSITIVES
from samplecnn.analysis.tables import number, span
from samplecnn.runs.run import Run

DATA_SETS = {
    "mtat": "MagnaTagATune",
    "mini": "the built-in set",
    "msd": "the Million Song Dataset",
    "jamendo": "MTG-Jamendo",
    "folder": "your own music",
}


def headline(run: Run) -> str:
    """Name the report."""
    return f"Sample-level CNNs on {DATA_SETS.get(run.dataset, run.results.data)}"


def subject(runs: Sequence[Run], clips: int | None) -> str:
    """Say how many runs were tested on what."""
    told = runs[0].results
    test = f"{clips:,} test clips, " if clips else ""
    count = f"{len(runs)} runs" if len(runs) > 1 else "One run"
    return f"{count} on store {told.data}, split {told.split}: {test}{len(runs[0].tags)} tags."


def caution(run: Run, split: Split | None) -> str:
    """Say what the paper's numbers have to do with these."""
    if split is not None:
        return f"The test split is the published one: {SPLITS[split]}."
    if run.dataset == "mini":
        return (
            "The built-in set is synthetic: these numbers show that the software works and how the "
            "architectures compare on it, not how well they tag music. The paper's numbers are of other "
            "data, and stand apart."
        )
    return "No published numbers are of this test split: the paper's are of other data, and stand apart."


def findings(scored: ScoredGroup, comparable: bool) -> list[str]:
    """Return the main finding, a sentence or two, and then what limits it."""
    if not scored.ranked:
        return ["No tag has positive and negative test clips, so that no AUC is defined."]
    best, *others = scored.ranked
    told = [_best(best, len(others) + 1, comparable)]
    if others:
        told.append(_lead(scored, best, others))
    if undefined := undefined_tags(best):
        told.append(
            f"Left out of all means, without positive or without negative test clips: {', '.join(undefined)}."
        )
    if best.roc is not None and (rare := rare_tags(best)):
        told.append(
            f"Tags with fewer than {FEW_POSITIVES} positive test clips: {len(rare)} of {len(best.per_tag)}. "
            "So few say little of how far the AUC of such a tag varies: its own interval may be too short."
        )
    return told


def _best(best: Scored, cells: int, comparable: bool) -> str:
    seeds = len(best.cell.runs)
    of = f"mean of {seeds} seeds" if seeds > 1 else "one seed"
    reach = f"95 % interval {span(best.roc_interval)}, {of}" if best.roc_interval else of
    paper = paper_auc(best.cell) if comparable else None
    theirs = f"; the paper has {number(paper)}" if paper is not None else ""
    verb = f"is the best of {cells} architectures, with" if cells > 1 else "has"
    return f"{best.cell.label} {verb} a macro ROC-AUC of {number(best.roc_auc)} ({reach}){theirs}."


def _lead(scored: ScoredGroup, best: Scored, others: list[Scored]) -> str:
    differences = [scored.difference(best, other) for other in others]
    known = [difference for difference in differences if difference is not None]
    if best.roc is None:
        return (
            f"There are no predictions of single clips (predictions.npz) of {best.cell.label}: whether its "
            "lead is more than chance cannot be said."
        )
    if not known:
        return "No other has predictions of single clips (predictions.npz): its lead may be chance."
    second = known[0]
    covers = "test clips and seeds" if second.both else "test clips"
    lead = (
        f"Its lead of {number(second.value)} over {second.other.cell.label} "
        f"({span(second.interval, sign=True)} over {covers})"
    )
    behind = [d for d in known if d.errors > scored.reach]
    told = f"{lead} {'is more than chance' if second in behind else 'cannot be told from chance'}"
    if second.certain and second not in behind:
        told += f", because the best of {len(others) + 1} was picked by looking"
    if len(known) > 1:
        joint = "but" if behind and second not in behind else "and"
        worse = "all" if len(behind) == len(known) else f"{len(behind) or 'none'} of the"
        told += f", {joint} {worse} {len(known)} others can be called worse"
    if second.both is None:
        told += ". That is of these trained networks: with one seed each, another seed may change the order"
    return f"{told}."
