"""What distinguishes cells: differences between them, of which test clips and seeds are the noise.

Two things vary that are not the architecture: which clips happen to be in the test split (draws of
`statistics.bootstrap`), and which seed a network was trained with (the spread over seeds of a cell). An
interval here says which of the two it covers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from samplecnn.analysis.statistics import LEVEL, Estimate, Interval, Z, student


@dataclass(frozen=True)
class Spread:
    """How scores differ between trainings that differ in their seed alone."""

    deviation: float  # standard deviation of one training
    freedom: int  # degrees of freedom behind it


def pooled_spread(cells: Sequence[Sequence[float]]) -> Spread | None:
    """Return the standard deviation within cells (scores per seed), pooled over those with two seeds or more.

    A single cell's, from two or three seeds, would be all but unknown. None if no cell has two.
    """
    several = [np.asarray(scores) for scores in cells if len(scores) > 1]
    freedom = sum(len(scores) - 1 for scores in several)
    if not freedom:
        return None
    squares = sum(float(((scores - scores.mean()) ** 2).sum()) for scores in several)
    return Spread(math.sqrt(squares / freedom), freedom)


def difference_interval(
    difference: Estimate, spread: Spread | None = None, seeds: tuple[int, int] = (1, 1)
) -> Interval:
    """Return the 95 % interval of a paired difference: percentiles of the draws.

    Without ``spread`` it covers which clips are in the test split, for these trained networks. With it, also
    which seeds they were trained with: ``seeds`` are how many are behind each side. To either side both
    reaches are joined as independent, to the square root of the sum of their squares.
    """
    low, high = np.quantile(difference.draws - difference.value, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    below, above = max(-low, 0.0), max(high, 0.0)
    if spread is not None:
        reach = student(spread.freedom) * seed_error(spread, seeds)
        below, above = math.hypot(below, reach), math.hypot(above, reach)
    return float(difference.value - below), float(difference.value + above)


def seed_error(spread: Spread, seeds: tuple[int, int]) -> float:
    """Return the standard error that seeds alone give a difference of two means."""
    return spread.deviation * math.sqrt(1 / seeds[0] + 1 / seeds[1])


def all_pairs_reach(
    estimates: Sequence[Estimate], seeds: Sequence[int], spread: Spread | None = None, *, seed: int = 0
) -> float:
    """Return how many standard errors apart two of several cells must be to tell them apart.

    So many that, were all cells equal, no pair of them would be that far apart in 95 % of cases: Tukey's
    criterion, with the distribution of the largest difference taken from the draws. It therefore holds also
    for pairs that were picked because they differ, such as the best cell and any other.
    """
    if len(estimates) < 2:
        return Z
    rng = np.random.default_rng(seed)
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


def standard_error(difference: Estimate, spread: Spread | None, seeds: tuple[int, int]) -> float:
    """Return the standard error of a difference, that of the seeds included where their spread is known."""
    clips = difference.standard_error
    return clips if spread is None else math.hypot(clips, seed_error(spread, seeds))
