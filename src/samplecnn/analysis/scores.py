"""Cells with their scores: means over seeds, draws of the test clips, differences between cells."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from samplecnn.analysis.cells import Cell, Group, ReportError
from samplecnn.analysis.comparisons import (
    Spread,
    all_pairs_reach,
    difference_interval,
    pooled_spread,
    standard_error,
)
from samplecnn.analysis.statistics import Bootstrap, Estimate, Interval, bootstrap, score_interval
from samplecnn.runs.predictions import Predictions
from samplecnn.runs.run import Run


@dataclass(frozen=True, eq=False)
class Draws:
    """The bootstrap of all runs of a report that have predictions."""

    sampled: Bootstrap
    index: Mapping[Run, int]  # of a run among its models
    tags: tuple[str, ...]
    clips: int

    def models(self, cell: Cell) -> list[int] | None:
        """Return where the runs of a cell are, None if one of them has no predictions."""
        found = [self.index[run] for run in cell.runs if run in self.index]
        return found if len(found) == len(cell.runs) else None


def draw(
    runs: Sequence[Run], *, draws: int, seed: int, progress: Callable[[], None] = lambda: None
) -> Draws | None:
    """Resample the test clips, the same draws for all runs; None if no run has predictions.

    Raises ReportError where runs of one split were tested on different clips.
    """
    having = [(run, run.predictions) for run in runs if run.predictions is not None]
    if not having:
        return None
    first, reference = having[0]
    order = np.argsort(reference.clip_ids)
    for run, predictions in having:
        if not _same_clips(reference, predictions):
            raise ReportError(
                f"{run.name} and {first.name} say that they are of one split, but their predictions.npz "
                "hold other clips, tags or labels: leave one of them out"
            )
    sampled = bootstrap(
        reference.labels[order],
        [predictions.probabilities[np.argsort(predictions.clip_ids)] for _, predictions in having],
        draws=draws,
        seed=seed,
        progress=progress,
    )
    index = {run: position for position, (run, _) in enumerate(having)}
    return Draws(sampled, index, reference.tags, len(order))


def _same_clips(one: Predictions, other: Predictions) -> bool:
    if one.tags != other.tags or sorted(one.clip_ids) != sorted(other.clip_ids):
        return False
    ours, theirs = (p.labels[np.argsort(p.clip_ids)] for p in (one, other))
    return bool(np.array_equal(ours, theirs))


@dataclass(frozen=True)
class TagScore:
    """What a cell makes of one tag: means over seeds."""

    positives: int  # test clips
    roc_auc: float | None
    roc_interval: Interval | None
    pr_auc: float | None
    pr_interval: Interval | None


@dataclass(frozen=True, eq=False)
class Scored:
    """A cell with its scores; estimates are None where runs have no predictions."""

    cell: Cell
    roc: Estimate | None
    pr: Estimate | None
    per_tag: Mapping[str, TagScore]

    @cached_property
    def by_seed(self) -> list[float]:
        """Macro ROC-AUC of each run that has one."""
        return [auc for run in self.cell.runs if (auc := run.results.test.roc_auc) is not None]

    @property
    def roc_auc(self) -> float | None:
        """Mean over seeds of the macro ROC-AUC."""
        return self.roc.value if self.roc else _mean(self.by_seed)

    @property
    def pr_auc(self) -> float | None:
        """Mean over seeds of the macro PR-AUC."""
        return self.pr.value if self.pr else _mean([run.results.test.pr_auc for run in self.cell.runs])

    @property
    def roc_interval(self) -> Interval | None:
        """95 % interval of the macro ROC-AUC: which clips are in the test split."""
        return score_interval(self.roc) if self.roc else None

    @property
    def pr_interval(self) -> Interval | None:
        """95 % interval of the macro PR-AUC."""
        return score_interval(self.pr) if self.pr else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the ROC-AUC over seeds; None with fewer than two."""
        return float(np.std(self.by_seed, ddof=1)) if len(self.by_seed) > 1 else None


@dataclass(frozen=True)
class Difference:
    """ROC-AUC of one cell less that of another, paired over test clips."""

    one: Scored
    other: Scored
    value: float
    clips: Interval  # 95 %, which clips are in the test split
    both: Interval | None  # 95 %, that and the seeds; None where no cell of the group has two seeds
    errors: float  # its size in standard errors, of clips and, where they are known, seeds

    @property
    def interval(self) -> Interval:
        """The interval that covers more."""
        return self.both or self.clips

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval[0] > 0 or self.interval[1] < 0


@dataclass(frozen=True, eq=False)
class ScoredGroup:
    """A group of comparable cells with their scores."""

    group: Group
    cells: tuple[Scored, ...]
    spread: Spread | None  # over seeds, pooled over the cells that have two or more

    def of(self, cell: Cell | None) -> Scored | None:
        """Return the scores of a cell."""
        return next((scored for scored in self.cells if scored.cell is cell), None)

    @property
    def ranked(self) -> list[Scored]:
        """Cells that have a ROC-AUC, the best first."""
        return sorted((c for c in self.cells if c.roc_auc is not None), key=lambda c: -(c.roc_auc or 0))

    def difference(self, one: Scored | None, other: Scored | None) -> Difference | None:
        """Return how much better ``one`` is, None where one of the two has no predictions.

        A cell with a single seed is taken to vary with the seed as the others do: without that, the least
        tested cell would have the shortest interval.
        """
        if one is None or other is None or one.roc is None or other.roc is None:
            return None
        apart = one.roc - other.roc
        seeds = (len(one.cell.runs), len(other.cell.runs))
        both = difference_interval(apart, self.spread, seeds) if self.spread else None
        error = standard_error(apart, self.spread, seeds)
        errors = (
            abs(apart.value) / error if error else math.copysign(math.inf, apart.value) * (apart.value != 0)
        )
        return Difference(one, other, apart.value, difference_interval(apart), both, errors)

    @cached_property
    def reach(self) -> float:
        """Standard errors that two cells must be apart, whichever two are picked: see `all_pairs_reach`."""
        having = [scored for scored in self.cells if scored.roc is not None]
        seeds = [len(scored.cell.runs) for scored in having]
        return all_pairs_reach([s.roc for s in having if s.roc], seeds, self.spread)


def score_group(group: Group, draws: Draws | None) -> ScoredGroup:
    """Score all cells of a group."""
    cells = tuple(_score(cell, draws) for cell in group.cells)
    return ScoredGroup(group, cells, pooled_spread([scored.by_seed for scored in cells]))


def _score(cell: Cell, draws: Draws | None) -> Scored:
    models = draws.models(cell) if draws else None
    if draws is None or models is None:
        return Scored(cell, None, None, {tag: _from_results(cell, tag) for tag in cell.runs[0].tags})
    roc, pr = draws.sampled.roc_auc, draws.sampled.pr_auc
    per_tag = {}
    for index, tag in enumerate(draws.tags):
        of_roc, of_pr = roc.tag(models, index), pr.tag(models, index)
        defined = not math.isnan(of_roc.value)
        per_tag[tag] = TagScore(
            int(draws.sampled.positives[index]),
            of_roc.value if defined else None,
            score_interval(of_roc),
            of_pr.value if defined else None,
            score_interval(of_pr),
        )
    macro = roc.macro(models)
    if math.isnan(macro.value):
        return Scored(cell, None, None, per_tag)
    return Scored(cell, macro, pr.macro(models), per_tag)


def _from_results(cell: Cell, tag: str) -> TagScore:
    told = [run.results.test.per_tag[tag] for run in cell.runs]
    return TagScore(
        told[0].positives,
        _mean([values.roc_auc for values in told]),
        None,
        _mean([values.pr_auc for values in told]),
        None,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
