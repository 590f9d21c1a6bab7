"""The recipe of Won et al. against a written-out trace, in a real fit."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import Tensor

from samplecnn.training.config import ConfigError
from samplecnn.training.schedule import Schedule
from samplecnn.training.schedules import make_schedule
from training.test_schedule import STEPS, Scripted, fit

CONF = Path(__file__).parents[2] / "conf"
SMALL: dict[str, Any] = {"adam_epochs": 3, "sgd_epochs": [2, 1, 2], "weight_decay": 0.1}
LOSSES = [1.0, 0.8, 0.9, 0.7, 0.95, 0.75, 0.6, 0.5]  # best before each change: epochs 1, 3, 3
ENDS = (0, 3, 5, 6, 8)
RATES = (1e-4, 1e-3, 1e-4, 1e-5)


def won(**changes: Any) -> Schedule:
    """Return the schedule of conf/schedule/won.yaml."""
    settings = yaml.safe_load((CONF / "schedule" / "won.yaml").read_text())
    return make_schedule({**settings, **changes})


class Quadratic(Scripted):
    """One weight with gradient 1, and what the optimiser adds to it."""

    def training_step(self, batch: Tensor, _index: int) -> Tensor:
        return self.weight.sum()


def written_out() -> list[float]:
    """The weight after every step: Adam, then Nesterov momentum from the best weight of all epochs so far."""
    weights: list[float] = []
    weight, best, best_weight = 0.0, math.inf, 0.0
    for stage, (first, end) in enumerate(pairwise(ENDS)):
        if stage:
            weight = best_weight
        m = v = velocity = 0.0
        step = 0
        for epoch in range(first, end):
            for _ in range(STEPS):
                step += 1
                gradient = 1 + 0.1 * weight
                if stage == 0:
                    m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
                    corrected = math.sqrt(v / (1 - 0.999**step)) + 1e-8
                    weight -= RATES[0] * m / (1 - 0.9**step) / corrected
                else:
                    velocity = 0.9 * velocity + gradient
                    weight -= RATES[stage] * (gradient + 0.9 * velocity)
                weights.append(weight)
            if LOSSES[epoch] < best:
                best, best_weight = LOSSES[epoch], weight
    return weights


def test_adam_and_three_stages_of_sgd(tmp_path: Path) -> None:
    module = Quadratic([*LOSSES, 0.0, 0.0])
    fit(module, won(**SMALL), tmp_path)
    assert module.weights == pytest.approx(written_out(), rel=1e-9)
    stages = [end - first for first, end in pairwise(ENDS)]
    assert module.rates == [rate for rate, n in zip(RATES, stages, strict=True) for _ in range(STEPS * n)]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("epochs", [1, 3, 4, 6, 7])
def test_resuming_changes_nothing(tmp_path: Path, epochs: int) -> None:
    first, second = Quadratic(LOSSES), Quadratic(LOSSES)
    fit(first, won(**SMALL), tmp_path, max_epochs=epochs)
    fit(second, won(**SMALL), tmp_path, resume=True)
    assert [*first.weights, *second.weights] == pytest.approx(written_out(), rel=1e-9)


def test_the_published_length() -> None:
    schedule = won()
    assert vars(schedule)["ends"] == (80, 100, 120, 200)
    assert vars(schedule)["rates"] == RATES
    assert schedule.least_epochs == 200


def test_stages_without_rates_are_refused() -> None:
    with pytest.raises(ConfigError, match="sgd_rates has 3 stages, sgd_epochs 2: as many are needed"):
        won(sgd_epochs=[1, 1])
