"""Differences between cells: seeds and clips together, and many comparisons at once."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from samplecnn.analysis.comparison import (
    Spread,
    T,
    critical_value,
    difference_interval,
    pooled_spread,
    student,
)
from samplecnn.analysis.statistics import Estimate, Z

DRAWS = 400


def estimate(rng: np.random.Generator, value: float, error: float, draws: int = DRAWS) -> Estimate:
    return Estimate(value, value + error * rng.normal(size=draws))


def held(
    difference: Estimate, spread: Spread | None = None, seeds: tuple[int, int] = (1, 1)
) -> tuple[float, float]:
    """Return the interval of a difference that has one."""
    interval = difference_interval(difference, spread, seeds)
    assert interval is not None
    return interval


def test_students_quantiles() -> None:
    assert len(T) == 30
    for freedom in (*range(1, 40), 60, 120, 1000):
        assert student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-3)


def test_the_spread_is_pooled_within_cells() -> None:
    cells = [[0.90, 0.92, 0.91], [0.80, 0.80], [0.5]]
    spread = pooled_spread(cells)
    assert spread is not None
    assert spread.freedom == 3
    assert spread.deviation == pytest.approx(math.sqrt((2 * np.var(cells[0], ddof=1) + 0) / 3))
    one = pooled_spread([[0.90, 0.92, 0.91]])
    assert one is not None
    assert one.deviation == pytest.approx(np.std([0.90, 0.92, 0.91], ddof=1))
    assert pooled_spread([[0.9], [0.8], []]) is None


def test_the_interval_of_a_difference() -> None:
    difference = estimate(np.random.default_rng(0), 0.01, 0.002)
    low, high = held(difference)
    assert [low, high] == pytest.approx(np.percentile(difference.draws, [2.5, 97.5]))
    assert low < 0.01 < high
    spread = Spread(0.003, 4)
    both = held(difference, spread, (3, 2))
    of_seeds = 2.776 * 0.003 * math.sqrt(1 / 3 + 1 / 2)
    assert both[1] - 0.01 == pytest.approx(math.hypot(high - 0.01, of_seeds))
    assert 0.01 - both[0] == pytest.approx(math.hypot(0.01 - low, of_seeds))
    one_sided = Estimate(0.02, difference.draws)  # all draws below: the interval still holds the value
    assert held(one_sided)[1] == 0.02
    assert difference_interval(Estimate(0.01, difference.draws, enough=False)) is None


def simulated(rng: np.random.Generator, cells: int, seeds: int) -> tuple[list[Estimate], list[list[float]]]:
    """Return what equal cells come to: noise of clips, half of it common to all, and noise of seeds."""
    common = rng.normal(size=DRAWS) * 0.004
    observed = rng.normal() * 0.004
    estimates, by_seed = [], []
    for _ in range(cells):
        own = rng.normal() * 0.004
        trainings = 0.9 + observed + own + 0.003 * rng.normal(size=seeds)
        value = float(trainings.mean())
        estimates.append(Estimate(value, value + common + 0.004 * rng.normal(size=DRAWS)))
        by_seed.append(list(trainings))
    return estimates, by_seed


@pytest.mark.parametrize(("cells", "seeds"), [(2, 2), (4, 3), (12, 3)])
def test_intervals_over_clips_and_seeds_cover_the_truth(cells: int, seeds: int) -> None:
    """All cells are equal: 0 has to be in 95 % of the intervals, and is not if the seeds are forgotten."""
    rng = np.random.default_rng(cells)
    covered, clips_only, simulations = 0, 0, 500
    for _ in range(simulations):
        estimates, by_seed = simulated(rng, cells, seeds)
        difference = estimates[0] - estimates[1]
        low, high = held(difference, pooled_spread(by_seed), (seeds, seeds))
        covered += low <= 0 <= high
        low, high = held(difference)
        clips_only += low <= 0 <= high
    assert covered / simulations >= 0.93
    assert clips_only / simulations < covered / simulations
    if (
        cells > 2
    ):  # with two cells of two seeds hardly anything is known of the spread, and the interval is long
        assert covered / simulations <= 0.98


def test_the_critical_value_is_tukeys() -> None:
    """Of equal, independent cells the largest difference has the studentized range's distribution."""
    rng = np.random.default_rng(0)
    for cells in (2, 5, 12):
        estimates = [estimate(rng, 0.9, 0.01, draws=40_000) for _ in range(cells)]
        expected = stats.studentized_range.ppf(0.95, cells, np.inf) / math.sqrt(2)
        assert critical_value(estimates, [1] * cells) == pytest.approx(expected, rel=0.02)
    spread = Spread(0.02, 8)  # beside which the clips are next to nothing
    alike = [estimate(rng, 0.9, 1e-9, draws=40_000) for _ in range(4)]
    expected = stats.studentized_range.ppf(0.95, 4, 8) / math.sqrt(2)
    assert critical_value(alike, [3] * 4, spread) == pytest.approx(expected, rel=0.02)


def test_the_critical_value_without_anything_to_compare() -> None:
    one = estimate(np.random.default_rng(0), 0.9, 0.01)
    assert critical_value([one], [1]) == Z
    assert critical_value([], []) == Z
    assert critical_value([one, Estimate(one.value, one.draws.copy())], [1, 1]) == 0


def test_equal_cells_are_seldom_distinguished() -> None:
    """In 95 % of simulations no pair of six equal cells is further apart than the critical value."""
    rng = np.random.default_rng(1)
    apart, simulations = 0, 200
    for _ in range(simulations):
        estimates, _ = simulated(rng, 6, 1000)  # so many seeds that only the clips are left
        critical = critical_value(estimates, [1] * 6)
        values: NDArray[np.float64] = np.array([e.value for e in estimates])
        best = estimates[int(values.argmax())]
        worst = estimates[int(values.argmin())]
        apart += (best.value - worst.value) / (best - worst).standard_error > critical
    assert apart / simulations < 0.1
