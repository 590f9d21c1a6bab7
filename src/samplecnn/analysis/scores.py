"""Architectures with their scores: means over seeds, intervals, and differences from one another."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from samplecnn.analysis.comparison import (
    Spread,
    critical_value,
    difference_interval,
    pooled_spread,
    standard_error,
)
from samplecnn.analysis.grid import Architecture, Group, ReportError
from samplecnn.analysis.statistics import Bootstrap, Estimate, bootstrap, split_scores
from samplecnn.analysis.tabular import Record
from samplecnn.runs.predictions import Predictions
from samplecnn.runs.results import Interval, SplitScores, TagScores
from samplecnn.runs.run import Run


@dataclass(frozen=True, eq=False)
class Draws:
    """The bootstrap of all runs of a report that have predictions."""

    sampled: Bootstrap
    index: Mapping[Run, int]  # of a run among the models of the bootstrap
    tags: tuple[str, ...]
    clips: int

    def models(self, runs: Sequence[Run]) -> list[int] | None:
        """Return where runs are among the models, None if one of them has no predictions."""
        found = [self.index[run] for run in runs if run in self.index]
        return found if len(found) == len(runs) else None


def draw(
    runs: Sequence[Run], *, draws: int, seed: int, progress: Callable[[], object] = lambda: None
) -> Draws | None:
    """Resample the test clips, the same draws for all runs; None if no run has predictions.

    Raises ReportError where runs of one split were tested on different clips.
    """
    having = [(run, run.predictions) for run in runs if run.predictions is not None]
    if not having:
        return None
    first, reference = having[0]
    for run, predictions in having:
        if not _same_clips(reference, predictions):
            raise ReportError(
                f"{run.name} and {first.name} say that they are of one split, but their predictions.npz "
                "hold other clips, tags or labels: leave one of them out"
            )
    sampled = bootstrap(
        reference.labels[np.argsort(reference.clip_ids)],
        [predictions.probabilities[np.argsort(predictions.clip_ids)] for _, predictions in having],
        draws=draws,
        seed=seed,
        progress=progress,
    )
    index = {run: position for position, (run, _) in enumerate(having)}
    return Draws(sampled, index, reference.tags, len(reference.clip_ids))


def _same_clips(one: Predictions, other: Predictions) -> bool:
    if one.tags != other.tags or sorted(one.clip_ids) != sorted(other.clip_ids):
        return False
    ours, theirs = (p.labels[np.argsort(p.clip_ids)] for p in (one, other))
    return bool(np.array_equal(ours, theirs))


@dataclass(frozen=True, eq=False)
class Scored:
    """An architecture with its scores."""

    architecture: Architecture
    scores: SplitScores  # means over seeds, with intervals over test clips where there are predictions
    roc: Estimate | None  # macro ROC-AUC, as differences need it; None where runs have no predictions

    @property
    def label(self) -> str:
        """The name of the architecture."""
        return self.architecture.label

    @property
    def roc_auc(self) -> float | None:
        """Mean over seeds of the macro ROC-AUC."""
        return self.scores.roc_auc

    @property
    def roc_interval(self) -> Interval | None:
        """95 % interval of the macro ROC-AUC: which clips are in the test split."""
        return self.scores.roc_auc_interval

    @cached_property
    def by_seed(self) -> list[float]:
        """Macro ROC-AUC of each run that has one."""
        scores = [run.results.test.roc_auc for run in self.architecture.runs]
        return [score for score in scores if score is not None]

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the ROC-AUC over seeds; None with fewer than two."""
        return float(np.std(self.by_seed, ddof=1)) if len(self.by_seed) > 1 else None

    @property
    def fields(self) -> Record:
        """What tables say of the scores."""
        return {
            "roc_auc": self.roc_auc,
            "roc_auc_interval": self.roc_interval,
            "seeds": len(self.architecture.runs),
            "roc_auc_sd": self.deviation,
            "pr_auc": self.scores.pr_auc,
            "pr_auc_interval": self.scores.pr_auc_interval,
        }


@dataclass(frozen=True)
class Difference:
    """ROC-AUC of one architecture less that of another, paired over test clips.

    Intervals are None with too few clips, those over seeds also where none of the group has several seeds.
    """

    value: float
    clips: Interval | None  # 95 %, which clips are in the test split
    both: Interval | None  # 95 %, clips and seeds
    among_all: Interval | None  # 95 % for all pairs of the group at once; seeds too, where they are known

    @property
    def distinguishable(self) -> str:
        """Whether the interval that covers most leaves out 0."""
        return verdict(self.both or self.clips)


def verdict(interval: Interval | None) -> str:
    """Say whether an interval leaves out 0."""
    return "too few clips" if interval is None else "no" if interval[0] <= 0 <= interval[1] else "yes"


@dataclass(frozen=True, eq=False)
class ScoredGroup:
    """A group of comparable architectures with their scores."""

    group: Group
    scored: tuple[Scored, ...]
    spread: Spread | None  # over seeds, pooled over the architectures that have two or more

    def of(self, architecture: Architecture | None) -> Scored | None:
        """Return the scores of an architecture."""
        return next((one for one in self.scored if one.architecture is architecture), None)

    @property
    def ranked(self) -> list[Scored]:
        """Those that have a ROC-AUC, the best first."""
        return sorted((s for s in self.scored if s.roc_auc is not None), key=lambda s: -(s.roc_auc or 0))

    def difference(self, one: Scored | None, other: Scored | None) -> Difference | None:
        """Return how much better ``one`` is, None where one of the two has no predictions.

        An architecture with a single seed is taken to vary with it as the others do: without that, the one
        that was tried least would have the shortest interval.
        """
        if one is None or other is None or one.roc is None or other.roc is None:
            return None
        apart = one.roc - other.roc
        seeds = (len(one.architecture.runs), len(other.architecture.runs))
        half = self._critical_value * standard_error(apart, self.spread, seeds)
        return Difference(
            apart.value,
            difference_interval(apart),
            difference_interval(apart, self.spread, seeds) if self.spread else None,
            (apart.value - half, apart.value + half) if apart.enough else None,
        )

    @cached_property
    def _critical_value(self) -> float:
        estimates = [(one.roc, len(one.architecture.runs)) for one in self.scored if one.roc]
        return critical_value([roc for roc, _ in estimates], [seeds for _, seeds in estimates], self.spread)


def score_group(group: Group, draws: Draws | None) -> ScoredGroup:
    """Score all architectures of a group."""
    scored = tuple(_score(architecture, draws) for architecture in group.architectures)
    return ScoredGroup(group, scored, pooled_spread([one.by_seed for one in scored]))


def _score(architecture: Architecture, draws: Draws | None) -> Scored:
    models = draws.models(architecture.runs) if draws else None
    if draws is None or models is None:
        return Scored(architecture, _mean_scores([run.results.test for run in architecture.runs]), None)
    macro = draws.sampled.roc_auc.macro(models)
    scores = split_scores(draws.sampled, draws.tags, models)
    return Scored(architecture, scores, None if math.isnan(macro.value) else macro)


def _mean_scores(tests: Sequence[SplitScores]) -> SplitScores:
    """Return the means over runs, without intervals."""
    per_tag = {
        tag: TagScores(
            roc_auc=_mean([test.per_tag[tag].roc_auc for test in tests]),
            pr_auc=_mean([test.per_tag[tag].pr_auc for test in tests]),
            positives=scores.positives,
        )
        for tag, scores in tests[0].per_tag.items()
    }
    return SplitScores.of(per_tag)


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
