"""Whether figures of several ways to compute the same, each with the same seeds, differ by chance alone."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samplecnn.analysis.comparison import student


def compared(ends: Mapping[str, Sequence[float]], plain: str) -> dict[str, Any]:
    """Compare the figures that ways end with, one of each seed, to those of the way called ``plain``.

    Return of each other way, its mean difference, what a 95 % interval extends from it, and how often chance
    makes any as large; the range of ``plain``; and whether all are alike: none is that large in less than 5 %
    of cases, and with its interval each lies within that range.
    """
    ways = [way for way in ends if way != plain]
    differences = np.array([ends[way] for way in ways]) - np.array(ends[plain])
    means, seeds = differences.mean(axis=1), differences.shape[1]
    halves = student(seeds - 1) * differences.std(axis=1, ddof=1) / math.sqrt(seeds)
    chances = chance(differences)
    spread = max(ends[plain]) - min(ends[plain])
    alike = (chances >= 0.05) & (abs(means) + halves <= spread)  # false for NaN
    figures = {
        way: {"difference": float(mean), "interval": float(half), "chance": float(p)}
        for way, mean, half, p in zip(ways, means, halves, chances, strict=True)
    }
    return {"minus_plain": figures, "spread": spread, "alike": bool(alike.all())}


def chance(differences: NDArray[Any]) -> NDArray[Any]:
    """Return how often chance makes any mean difference as large as each: ``(ways, seeds)`` to ``(ways,)``.

    Were a way like the plain one, each seed's difference would be as likely with the other sign. So all signs
    are tried, those of a seed in all ways together, and the largest mean of all ways counts, in units of its
    root mean square (Westfall and Young, Resampling-Based Multiple Testing, 1993). 0 where any is NaN.
    """
    seeds = differences.shape[1]
    signs = 1 - 2 * (np.arange(2**seeds) >> np.arange(seeds)[:, None] & 1)
    scale = np.sqrt((differences**2).mean(axis=1, keepdims=True))
    sums = abs(np.divide(differences, scale, out=np.zeros(differences.shape), where=scale != 0) @ signs)
    return (sums.max(axis=0) >= sums[:, :1] - 1e-9).mean(axis=1)
