"""The paper's schedule against a written-out trace, in a real fit; the one cycle against its definition."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn

from samplecnn.errors import UserError
from samplecnn.training.optimiser import KerasSGD
from samplecnn.training.schedule import MONITOR, Cosine, OneCycle, Schedule, set_rate
from samplecnn.training.schedules import make_schedule

CONF = Path(__file__).parents[2] / "conf"
STEPS = 2  # per epoch


def paper(**changes: float) -> Schedule:
    """Return the schedule of conf/schedule/paper.yaml at its rate for the authors' optimiser."""
    settings = yaml.safe_load((CONF / "schedule" / "paper.yaml").read_text())
    return make_schedule({**settings, "learning_rate": 0.01, **changes})


# (validation loss of the epoch, the stage it belongs to, whether it is the stage's best so far)
TRACE = [
    (1.0, 0, True),
    (0.9, 0, True),
    (0.95, 0, False),
    (0.9, 0, False),  # as good is not better
    (0.91, 0, False),  # third in a row: the stage ends; back to the weights of epoch 1
    (2.0, 1, True),  # worse than everything before, but the first of its stage
    (2.1, 1, False),
    (2.2, 1, False),
    (1.5, 1, True),  # just in time
    (1.6, 1, False),
    (1.6, 1, False),
    (1.6, 1, False),
    (1.0, 2, True),
    (1.1, 2, False),
    (1.1, 2, False),
    (1.1, 2, False),
    (0.5, 3, True),
    (0.6, 3, False),
    (0.6, 3, False),
    (0.6, 3, False),
    (0.4, 4, True),
    (0.3, 4, True),
    (0.4, 4, False),
    (0.4, 4, False),
    (0.4, 4, False),  # the last stage ends: stop
]
STOPPED = len(TRACE)


class Batches:
    """``count`` batches of one number; a list would be taken for several loaders."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.zeros(self.count, 1))


class Scripted(pl.LightningModule):
    """One weight pushed by a constant gradient of 1, with validation losses from a script."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.losses = losses
        self.rates: list[float] = []
        self.weights: list[float] = []  # after each step

    def configure_optimizers(self) -> KerasSGD:
        return KerasSGD(self.parameters(), lr=0.0)

    def training_step(self, batch: Tensor, _index: int) -> Tensor:
        return self.weight.sum()

    def on_train_batch_end(self, *_: Any) -> None:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        self.weights.append(self.weight.item())

    def validation_step(self, batch: Tensor, _index: int) -> None:
        self.log(MONITOR, torch.tensor(self.losses[self.current_epoch], dtype=torch.float64))


class Stop(pl.Callback):
    """Stops after so many epochs."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch + 1 == self.epochs


def fit(
    module: Scripted,
    schedule: pl.Callback,
    folder: Path,
    *,
    max_epochs: int = -1,
    resume: bool = False,
    stop_after: int | None = None,
) -> None:
    """Train, with ``stop_after`` only so many epochs of ``max_epochs``."""
    checkpoint = ModelCheckpoint(
        folder,
        filename="last",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        callbacks=[schedule, checkpoint, *([] if stop_after is None else [Stop(stop_after)])],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(
        module,
        Batches(STEPS),
        Batches(1),
        ckpt_path=folder / "last.ckpt" if resume else None,
        weights_only=True,
    )


def written_out(epochs: int) -> tuple[list[float], list[float]]:
    """Rates and weights of all steps, from the trace alone, with momentum in Keras' form."""
    rates, weights = [], []
    weight, velocity, step, stage, best_weight = 0.0, 0.0, 0, 0, 0.0
    for _, of_stage, is_best in TRACE[:epochs]:
        if of_stage != stage:
            weight, velocity, step, stage = best_weight, 0.0, 0, of_stage
        for _ in range(STEPS):
            rate = 0.01 * 0.2**stage / (1 + 1e-6 * step)
            velocity = 0.9 * velocity - rate
            weight += 0.9 * velocity - rate
            step += 1
            rates.append(rate)
            weights.append(weight)
        if is_best:
            best_weight = weight
    return rates, weights


def assert_trace(module: Scripted, epochs: int) -> None:
    rates, weights = written_out(epochs)
    assert len(module.rates) == STEPS * epochs
    assert module.rates == pytest.approx(rates, rel=1e-12)
    assert module.weights == pytest.approx(weights, rel=1e-12)


LOSSES = [loss for loss, _, _ in TRACE]


def test_five_stages(tmp_path: Path) -> None:
    module = Scripted([*LOSSES, 0.0, 0.0])  # what would come after the stop is much better
    fit(module, paper(), tmp_path)
    assert_trace(module, STOPPED)


@pytest.mark.parametrize("epochs", [1, 5, 7, 13])
def test_max_epochs_caps_all_stages(tmp_path: Path, epochs: int) -> None:
    module = Scripted(LOSSES)
    fit(module, paper(), tmp_path, max_epochs=epochs)
    assert_trace(module, epochs)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("epochs", [3, 5, 10])
def test_resuming_changes_nothing(tmp_path: Path, epochs: int) -> None:
    first = Scripted(LOSSES)
    fit(first, paper(), tmp_path, max_epochs=epochs)
    second = Scripted(LOSSES)
    fit(second, paper(), tmp_path, resume=True)
    second.rates[:0] = first.rates
    second.weights[:0] = first.weights
    assert_trace(second, STOPPED)


def test_the_decay_within_a_stage_shows_in_long_stages(tmp_path: Path) -> None:
    schedule = paper(decay=0.5)
    module = Scripted([1.0, 0.9])
    fit(module, schedule, tmp_path, max_epochs=2)
    assert module.rates == pytest.approx([0.01, 0.01 / 1.5, 0.01 / 2, 0.01 / 2.5])


def test_one_cycle(tmp_path: Path) -> None:
    schedule = OneCycle(0.1, warmup=0.25)
    module = Scripted([1.0] * 10)
    fit(module, schedule, tmp_path, max_epochs=10)
    rates = module.rates
    assert len(rates) == 20
    assert rates[0] == pytest.approx(0.004)
    assert rates.index(max(rates)) == 5
    assert max(rates) == pytest.approx(0.1)
    assert rates[:6] == sorted(rates[:6])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert 0 < rates[-1] < 0.002
    # Half way down the cosine.
    assert (rates[12] + rates[13]) / 2 == pytest.approx(0.05, rel=0.02)


@pytest.mark.parametrize(("warmup", "final"), [(0.25, 0.1), (0.0, 0.0), (0.12, 0.5)])
def test_cosine(tmp_path: Path, warmup: float, final: float) -> None:
    """The warm-up's steps are equal, and the last of them would be the peak, where the cosine begins."""
    module = Scripted([1.0] * 10)
    fit(module, Cosine(0.3, warmup=warmup, final=final), tmp_path, max_epochs=10)
    steps, up = 20, int(warmup * 20)
    rates = [0.3 * k / (up + 1) for k in range(1, up + 1)]
    angles = torch.arange(steps - up, dtype=torch.float64) * math.pi / (steps - up)
    rates += (0.3 * (final + (1 - final) * (1 + torch.cos(angles)) / 2)).tolist()
    assert module.rates == pytest.approx(rates, rel=1e-9)
    assert max(module.rates) == module.rates[up] == pytest.approx(0.3)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_cosine_goes_on_where_it_stopped(tmp_path: Path) -> None:
    def cosine() -> Schedule:
        return Cosine(0.3, warmup=0.25, final=0.1)

    whole, first, second = (Scripted([1.0] * 10) for _ in range(3))
    fit(whole, cosine(), tmp_path / "whole", max_epochs=10)
    fit(first, cosine(), tmp_path / "stopped", max_epochs=10, stop_after=3)
    fit(second, cosine(), tmp_path / "stopped", max_epochs=10, resume=True)
    assert [*first.weights, *second.weights] == whole.weights


@pytest.mark.parametrize("schedule", [OneCycle(0.3, warmup=0.25), Cosine(0.3, warmup=0.25, final=0.0)])
def test_more_steps_behind_it_than_there_are(tmp_path: Path, schedule: Any) -> None:
    """Where two devices have shared an odd number of batches, and one goes on: the last rate holds."""
    schedule.load_state_dict({"step": 2})
    module = Scripted([1.0] * 4)
    fit(module, schedule, tmp_path, max_epochs=4)
    assert module.rates[5:] == [schedule.learning_rate(7, 8)] * 3


class Adam(Scripted):
    """With another optimiser than the authors'."""

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.0, weight_decay=0.0)


def test_stages_begin_anew_with_any_optimiser(tmp_path: Path) -> None:
    """Adam's first step has the size of the rate, whatever the gradient: so has the first of each stage."""
    module = Adam(LOSSES)
    fit(module, paper(), tmp_path)
    weight = best = step = 0.0
    m = v = 0.0
    stage, taken = 0, iter(module.weights)
    for _, of_stage, is_best in TRACE:
        if of_stage != stage:
            weight, m, v, step, stage = best, 0.0, 0.0, 0, of_stage
        for _ in range(STEPS):
            rate = 0.01 * 0.2**stage / (1 + 1e-6 * step)
            step += 1
            m, v = 0.9 * m + 0.1, 0.999 * v + 0.001
            weight -= rate * (m / (1 - 0.9**step)) / (math.sqrt(v / (1 - 0.999**step)) + 1e-8)
            assert next(taken) == pytest.approx(weight, rel=1e-9)
        if is_best:
            best = weight


class Line(Schedule):
    """A rate in proportion to the step."""

    tested = "last"

    def __init__(self, rate: float, *, fails: bool = False) -> None:
        if fails:
            raise ValueError("as asked")
        self.rate = rate
        self.step = 0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        set_rate(trainer, pl_module, self.rate * self.step)
        self.step += 1


class Nameless(pl.Callback):
    """A callback that is no schedule."""


class Untested(Schedule):
    """It does not say which weights count."""


def test_a_schedule_of_one_s_own() -> None:
    made = make_schedule({"_target_": f"{__name__}.Line", "rate": 0.5})
    assert isinstance(made, Line)
    assert (made.rate, made.tested) == (0.5, "last")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"_target_": "nowhere.Schedule"}, "nowhere"),
        ({"_target_": f"{__name__}.Line", "rates": 3}, "rates"),
        ({"_target_": f"{__name__}.Line", "rate": 3, "fails": True}, "as asked"),
        ({"_target_": f"{__name__}.Nameless"}, "is not a .*Schedule"),
        ({"_target_": f"{__name__}.Untested"}, "tested = "),
        ({"_target_": "builtins.dict"}, "is not a .*Schedule"),
    ],
)
def test_what_is_no_schedule(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        make_schedule(settings)
    assert settings["_target_"] in str(error.value)


def test_a_rate_of_nothing_is_refused(tmp_path: Path) -> None:
    """The momentum is rescaled by it."""
    with pytest.raises(UserError, match="a learning rate of 0"):
        fit(Scripted([1.0]), Line(0.5), tmp_path, max_epochs=1)
    with pytest.raises(UserError, match="a learning rate of inf"):
        fit(Scripted([1.0]), Cosine(math.inf, warmup=0.5, final=0.1), tmp_path, max_epochs=1)
