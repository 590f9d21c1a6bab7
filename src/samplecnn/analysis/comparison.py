"""Differences between architectures, of which test clips and seeds are the noise.

Two things vary that are not the architecture: which clips are in the test split (draws of
`statistics.bootstrap`), and which seed a network was trained with. How much seeds change a score is pooled
over all architectures that were trained with several, as in an analysis of variance: the two or three seeds
of a single one say next to nothing. An interval here says which of the two it covers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from samplecnn.analysis.statistics import LEVEL, Estimate, Z
from samplecnn.analysis.tabular import NOTHING
from samplecnn.runs.results import Interval

# Upper quantile of a two-sided 95 % interval: Student's t with 1 to 30 degrees of freedom.
T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class Spread:
    """How scores differ between trainings that differ in their seed alone."""

    deviation: float  # standard deviation of one training
    freedom: int  # degrees of freedom behind it

    def standard_error(self, seeds: tuple[int, int]) -> float:
        """Return the standard error that seeds alone give a difference of two means over so many."""
        return self.deviation * math.sqrt(1 / seeds[0] + 1 / seeds[1])


@dataclass(frozen=True)
class Difference:
    """ROC-AUC of one architecture less that of another, paired over test clips.

    Intervals are None with too few clips, those over seeds also where none of the group has several seeds.
    """

    difference: float
    clips_interval: Interval | None  # 95 %, which clips are in the test split
    clips_and_seeds_interval: Interval | None  # 95 %
    all_pairs_interval: Interval | None  # 95 % for all pairs of the group at once; seeds too, if known

    @property
    def distinguishable(self) -> str:
        """Whether the interval that covers most leaves out 0."""
        return verdict(self.clips_and_seeds_interval or self.clips_interval)


def verdict(interval: Interval | None) -> str:
    """Say whether an interval leaves out 0; one that touches it does not."""
    if interval is None:
        return "too few clips"
    return "yes" if interval[0] > NOTHING or interval[1] < -NOTHING else "no"


def pooled_spread(scores: Sequence[Sequence[float]]) -> Spread | None:
    """Return the standard deviation within architectures (scores per seed); None if none has two seeds."""
    several = [np.asarray(of_one) for of_one in scores if len(of_one) > 1]
    freedom = sum(len(of_one) - 1 for of_one in several)
    if not freedom:
        return None
    squares = sum(float(((of_one - of_one.mean()) ** 2).sum()) for of_one in several)
    return Spread(math.sqrt(squares / freedom), freedom)


def student(freedom: int) -> float:
    """Return how many standard errors a 95 % interval extends with so many (1 or more) degrees of freedom."""
    return T[freedom - 1] if freedom <= len(T) else Z + 2.42 / freedom


def difference_interval(
    difference: Estimate, spread: Spread | None = None, seeds: tuple[int, int] = (1, 1)
) -> Interval | None:
    """Return the 95 % interval of a paired difference: percentiles of the draws. None with too few clips.

    Without ``spread`` it covers which clips are in the test split, for these trained networks. With it, also
    which seeds they were trained with; ``seeds`` are how many are behind each side. The two are independent:
    half-widths add as the square root of the sum of their squares.
    """
    if not difference.enough:
        return None
    low, high = np.quantile(difference.draws - difference.value, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    of_seeds = student(spread.freedom) * spread.standard_error(seeds) if spread else 0.0
    below, above = (math.hypot(max(half, 0.0), of_seeds) for half in (-low, high))
    return float(difference.value - below), float(difference.value + above)


def standard_error(difference: Estimate, spread: Spread | None, seeds: tuple[int, int]) -> float:
    """Return the standard error of a difference, that of the seeds included where their spread is known."""
    return math.hypot(difference.standard_error, spread.standard_error(seeds) if spread else 0.0)


def compare(
    one: Estimate, other: Estimate, spread: Spread | None, seeds: tuple[int, int], critical: float
) -> Difference:
    """Return the paired difference of two scores; ``critical`` is the `critical_value` of all of a group."""
    apart = one - other
    half = critical * standard_error(apart, spread, seeds)
    return Difference(
        apart.value,
        difference_interval(apart),
        difference_interval(apart, spread, seeds) if spread else None,
        (apart.value - half, apart.value + half) if apart.enough else None,
    )


def critical_value(
    estimates: Sequence[Estimate], seeds: Sequence[int], spread: Spread | None = None
) -> float:
    """Return how many standard errors apart two of several scores must be to be told apart.

    Tukey's criterion: were all equal, no pair of them would be that far apart in 95 % of cases. It holds also
    for a pair that was picked because it differs, such as the best and any other. The distribution of the
    largest difference is taken from the draws.
    """
    if len(estimates) < 2:
        return Z
    rng = np.random.default_rng(0)
    noise = np.stack([e.draws - e.draws.mean() for e in estimates])
    if spread is not None:
        normal = rng.standard_normal(noise.shape) / np.sqrt(np.asarray(seeds))[:, None]
        scale = np.sqrt(spread.freedom / rng.chisquare(spread.freedom, noise.shape[1]))
        noise = noise + spread.deviation * normal * scale
    largest = np.zeros(noise.shape[1])
    for i, j in combinations(range(len(estimates)), 2):
        error = standard_error(estimates[i] - estimates[j], spread, (seeds[i], seeds[j]))
        if error > 0:
            largest = np.maximum(largest, np.abs(noise[i] - noise[j]) / error)
    return float(np.quantile(largest, LEVEL))
