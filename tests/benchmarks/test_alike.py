"""When ways to compute the same are told apart, and when too little is known of them."""

from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "alike.py"
SEEDS = 10
NOISE = np.random.default_rng(5).normal(size=(6, SEEDS))


@pytest.fixture(scope="module")
def compared() -> Callable[..., dict[str, Any]]:
    spec = spec_from_file_location("alike", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.compared


def ends(shift: float = 0.0, noise: float = 1.0, seeds: int = SEEDS) -> dict[str, list[float]]:
    """Figures of five ways and of a plain one, whose seeds spread by 1; one is shifted."""
    found = {str(way): list(NOISE[way, :seeds] * noise) for way in range(1, 6)}
    found["3"] = [end + shift for end in found["3"]]
    return {"plain": list(NOISE[0, :seeds]), **found}


def test_ways_that_differ_by_seeds_alone_are_alike(compared: Callable[..., dict[str, Any]]) -> None:
    found = compared(ends(), "plain")
    assert found["alike"] is True
    assert found["minus_plain"].keys() == {"1", "2", "3", "4", "5"}
    assert found["spread"] == np.ptp(NOISE[0])


@pytest.mark.parametrize("shift", [-2.0, 2.0])
def test_a_shift_of_two_standard_deviations_is_found(
    shift: float, compared: Callable[..., dict[str, Any]]
) -> None:
    found = compared(ends(shift), "plain")
    assert found["alike"] is False
    assert found["minus_plain"]["3"]["chance"] < 0.05
    assert all(found["minus_plain"][way]["chance"] > 0.05 for way in "1245")


def test_differences_that_are_known_badly_prove_nothing(compared: Callable[..., dict[str, Any]]) -> None:
    """Nothing is told apart, but the intervals are wider than the seeds of the plain way."""
    found = compared(ends(noise=10.0), "plain")
    assert all(way["chance"] > 0.05 for way in found["minus_plain"].values())
    assert found["alike"] is False


def test_chance_by_hand(compared: Callable[..., dict[str, Any]]) -> None:
    """Six differences of one sign: only two of the 64 ways to choose signs have so large a mean."""
    found = compared({"plain": [0.0, 1, 2, 3, 4, 5], "other": [0.25, 1.5, 2.5, 3.5, 4.5, 5.75]}, "plain")
    other = found["minus_plain"]["other"]
    assert other["chance"] == 2 / 64
    assert other["difference"] == 0.5
    # Standard error 0.158 / sqrt(6); Student's t of 5 degrees of freedom is 2.571.
    assert other["interval"] == pytest.approx(2.571 * 0.158114 / 6**0.5, rel=1e-5)
    assert found["alike"] is False


def test_several_ways_are_told_apart_less_easily(compared: Callable[..., dict[str, Any]]) -> None:
    """The largest of several differences is large more often by chance."""
    alone = {way: of_way for way, of_way in ends(1.2).items() if way in ("plain", "3")}
    one = compared(alone, "plain")["minus_plain"]["3"]["chance"]
    five = compared(ends(1.2), "plain")["minus_plain"]["3"]["chance"]
    assert one < five


def test_the_same_figures_are_alike(compared: Callable[..., dict[str, Any]]) -> None:
    found = compared(
        {"plain": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "same": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}, "plain"
    )
    assert found["alike"] is True
    assert found["minus_plain"]["same"] == {"difference": 0.0, "interval": 0.0, "chance": 1.0}


@pytest.mark.parametrize("way", ["plain", "3"])
def test_a_loss_that_is_no_number_is_never_alike(way: str, compared: Callable[..., dict[str, Any]]) -> None:
    figures = ends()
    figures[way][4] = float("nan")
    assert compared(figures, "plain")["alike"] is False
