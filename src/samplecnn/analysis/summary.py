"""What a report says in sentences: its finding, what limits it, and what is missing."""

from collections.abc import Iterator, Sequence

from samplecnn.analysis.architectures import Architecture, Group
from samplecnn.analysis.comparison import verdict
from samplecnn.analysis.published import ALPHA, DAGGER, PLANNED, SPLITS, TABLE1, Split
from samplecnn.analysis.statistics import CLIPS, PER_TAG, RARE
from samplecnn.analysis.tabular import number, span
from samplecnn.data.datasets import DATASETS
from samplecnn.overrides import command
from samplecnn.runs.run import Run

EXPERIMENTS = {"table1": "Table 1", "alpha": "the alpha curve", "weight_decay": "the weight decay grid"}


def headline(run: Run) -> str:
    """Name the report."""
    known = DATASETS.get(run.config.dataset)
    return f"Sample-level CNNs on {known.title if known else run.results.data}"


def subject(runs: Sequence[Run]) -> str:
    """Say how many runs were tested on what."""
    results = runs[0].results
    clips = next((len(run.predictions.clip_ids) for run in runs if run.predictions is not None), 0)
    test = f"{clips:,} test clips, " if clips else ""
    count = f"{len(runs)} runs" if len(runs) > 1 else "One run"
    return f"{count} on store {results.data}, split {results.split}: {test}{len(runs[0].tags)} tags."


def caution(run: Run, split: Split | None) -> str:
    """Say what the paper's numbers have to do with these."""
    if split is not None:
        return f"The test split is the published one: {SPLITS[split]}."
    if run.config.dataset == "mini":
        return (
            "The built-in set is synthetic: these numbers show that the software works and how the "
            "architectures compare on it, not how well they tag music. The paper's numbers are of other "
            "data, and stand apart."
        )
    return "No published numbers are of this test split: the paper's are of other data, and stand apart."


def findings(group: Group) -> list[str]:
    """Return the main finding, a sentence or two, and then what limits it."""
    if not group.ranked:
        return ["No tag has positive and negative test clips, so that no AUC is defined."]
    best, *others = group.ranked
    sentences = [_best(best, len(others) + 1)]
    if others:
        sentences.append(_lead(group, best, others))
    scores = best.scores.per_tag.values()
    if undefined := best.scores.undefined:
        sentences.append(
            f"Left out of all means, without positive or without negative test clips: {', '.join(undefined)}."
        )
    if best.roc is not None and not best.roc.enough:
        sentences.append(
            f"Too few test clips for an interval: at least {CLIPS} are needed, and for nine tags in ten "
            f"{RARE} positive and {RARE} negative ones."
        )
    elif rare := [s for s in scores if s.roc_auc is not None and s.positives < PER_TAG]:
        sentences.append(
            f"Tags with fewer than {PER_TAG} positive test clips: {len(rare)} of {len(scores)}. So few do "
            "not show how far the AUC of a tag varies: these have no interval of their own."
        )
    return sentences


def _best(best: Architecture, architectures: int) -> str:
    seeds = len(best.runs)
    of = f"mean of {seeds} seeds" if seeds > 1 else "one seed"
    ends = best.scores.roc_auc_interval
    interval = f"95 % interval {span(ends)}, {of}" if ends else of
    theirs = f"; the paper has {number(best.paper_auc)}" if best.paper_auc is not None else ""
    kind = "architectures" if best.recipe is None else "recipes"
    verb = f"is the best of {architectures} {kind}, with" if architectures > 1 else "has"
    return f"{best.label} {verb} a macro ROC-AUC of {number(best.scores.roc_auc)} ({interval}){theirs}."


def _lead(group: Group, best: Architecture, others: list[Architecture]) -> str:
    known = [(other, d) for other in others if (d := group.difference(best, other)) is not None]
    if best.roc is None:
        return (
            f"There are no predictions of single clips (predictions.npz) of {best.label}: whether its "
            "lead is more than chance cannot be said."
        )
    if not known:
        return "No other has predictions of single clips (predictions.npz): its lead may be chance."
    second, difference = known[0]
    lead = f"Its lead of {number(difference.difference, sign=True).lstrip('+')} over {second.label}"
    if difference.all_pairs_interval is None:
        return f"{lead} may be chance: there are too few test clips to tell."
    covers = "test clips and seeds" if group.spread else "test clips"
    interval = f"{span(difference.all_pairs_interval, sign=True)} over {covers}, for all pairs at once"
    behind = [other for other, d in known if verdict(d.all_pairs_interval) == "yes"]
    sentence = (
        f"{lead} ({interval}) {'is more than chance' if second in behind else 'cannot be told from chance'}"
    )
    if len(known) > 1:
        joint = "but" if behind and second not in behind else "and"
        worse = "all" if len(behind) == len(known) else f"{len(behind) or 'none'} of the"
        sentence += f", {joint} {worse} {len(known)} others can be called worse"
    if group.spread is None:
        sentence += (
            ". That is of these trained networks: with one seed each, another seed may change the order"
        )
    return f"{sentence}."


def missing(groups: Sequence[Group], names: Sequence[str]) -> list[str]:
    """Say what the runs lack of the paper's experiments and of seeds, a sentence each.

    Of an experiment that was begun each missing architecture is named; of one that was not, how to run it.
    ``names`` are those of the groups, and stand in front of what a group lacks; "" for a single group.
    """
    begun: set[str] = set()
    sentences: list[str] = []
    for group, name in zip(groups, names, strict=True):
        lacking = []
        present = {one.label for one in group.architectures}
        for experiment, title in EXPERIMENTS.items():
            planned = [Architecture(b, {"alpha": a}, multi, d, ()) for b, multi, d, a in PLANNED[experiment]]
            absent = [one.label for one in planned if one.label not in present]
            # The searches share with Table 1 what has neither an alpha nor a weight decay of its own.
            own = [o for o in planned if o.alpha != ALPHA or o.weight_decay not in (0.0, DAGGER)] or planned
            if any(one.label in present for one in own):
                begun.add(experiment)
                if absent:
                    lacking.append(f"{title[0].upper()}{title[1:]} lacks: {'; '.join(absent)}.")
        sentences += [f"With {name}: {s}" if name else s for s in (*lacking, *_seeds(group))]
    return sentences + [
        f"No run is of {title}: {command('train')} -m experiment={experiment}"
        for experiment, title in EXPERIMENTS.items()
        if experiment not in begun
    ]


def _seeds(group: Group) -> Iterator[str]:
    found = [a for block in TABLE1 for multi in (True, False) if (a := group.table1(block, multi))]
    for seed in sorted({seed for one in found for seed in one.seeds}):
        if absent := [f"{one.name} ({one.aggregation})" for one in found if seed not in one.seeds]:
            yield f"In Table 1, seed {seed} is missing of {', '.join(absent)}; others have it."
