"""How the learning rate moves: the paper's five plateau stages, or a curve over a number of epochs.

To add one: docs/new-schedule.md
"""

import logging
import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import pytorch_lightning as pl
from torch import Tensor

from samplecnn.training.config import ConfigError

log = logging.getLogger(__name__)

MONITOR = "val/loss"  # binary cross-entropy per segment on the validation split
START = 0.04  # of one cycle: its first rate as a share of the peak


class Schedule(pl.Callback):
    """A Lightning callback that sets the rate before every step, by ``set_rate``.

    It keeps what it needs for resuming in the checkpoint: the attributes ``kept``, or what a ``state_dict``
    of its own returns. Its ``tested`` says which weights are the result: those of the epoch with the lowest
    validation loss (``"best"``), or those of the last epoch (``"last"``). Its ``least_epochs`` is what it
    takes at the least, if that is known and it ends by itself: users are told how long that will take.
    """

    tested: ClassVar[str]
    kept: ClassVar[tuple[str, ...]] = ()
    least_epochs: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return where the schedule stands."""
        return {name: getattr(self, name) for name in self.kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Stand again where ``state_dict`` says."""
        for name in self.kept:
            setattr(self, name, state_dict[name])


class Staged(Schedule, ABC):
    """Stages, each of which starts from the best weights so far, with fresh momentum."""

    tested = "best"

    def __init__(self, stages: int) -> None:
        self.stages = stages
        self.stage = 0
        self.best = math.inf
        self.best_weights: dict[str, Tensor] = {}

    @abstractmethod
    def ends_stage(self, *, better: bool) -> bool:
        """Say whether the stage ends with this epoch, which was the best so far or not."""

    @abstractmethod
    def begin_stage(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the next stage, whose weights are in the network, with fresh momentum."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the epoch's weights if they are the best so far; change stage, or stop after the last."""
        loss = monitored(trainer)
        better = loss < self.best
        if better:
            self.best = loss
            self.best_weights = {k: v.detach().clone() for k, v in pl_module.state_dict().items()}
        if not self.ends_stage(better=better):
            return
        log.info("Stage %d ends with a best %s of %.5f", self.stage + 1, MONITOR, self.best)
        if self.stage + 1 == self.stages:
            trainer.should_stop = True
            return
        pl_module.load_state_dict(self.best_weights)
        self.stage += 1
        self.begin_stage(trainer, pl_module)


class PaperSchedule(Staged):
    """The authors' schedule: stages at a fifth of the rate before, each from the best weights so far.

    Within stage ``s`` (from 0) step ``k`` (from 0) runs at ``learning_rate * factor**s / (1 + decay * k)``.
    A stage keeps its own best validation loss, which starts at infinity, so that its first epoch counts as
    better. It ends at the ``patience + 1``-th epoch in a row that is not better: the authors' Keras 2.0.5
    compares its count with the patience before it counts. The next stage starts from the weights with the
    stage's best loss, with fresh momentum; after the last stage training stops.
    """

    kept = ("stage", "step", "best", "bad_epochs", "best_weights")

    def __init__(
        self, learning_rate: float, *, stages: int, factor: float, patience: int, decay: float
    ) -> None:
        super().__init__(stages)
        self.base_rate = learning_rate
        self.factor = factor
        self.patience = patience
        self.decay = decay
        self.least_epochs = stages * (patience + 2)  # of a stage at least the first is better
        self.step = 0  # within the stage
        self.bad_epochs = 0  # in a row

    @property
    def learning_rate(self) -> float:
        """The rate of the coming step."""
        return self.base_rate * self.factor**self.stage / (1 + self.decay * self.step)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Set the rate of this step."""
        set_rate(trainer, pl_module, self.learning_rate)
        self.step += 1

    def ends_stage(self, *, better: bool) -> bool:
        """Say whether too many epochs in a row were not better than the stage's best."""
        self.bad_epochs = 0 if better else self.bad_epochs + 1
        return self.bad_epochs > self.patience

    def begin_stage(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with a best loss of its own."""
        for optimiser in trainer.optimizers:
            optimiser.state.clear()  # whichever it is, it begins as a new one would
        self.step = self.bad_epochs = 0
        self.best = math.inf


class FixedLength(Schedule, ABC):
    """Up to the peak for a share of the steps of ``trainer.max_epochs``, then down.

    While the rate is high the validation loss says little: the weights at the end are the result.
    """

    tested = "last"
    kept = ("step",)

    def __init__(self, learning_rate: float, *, warmup: float) -> None:
        self.peak = learning_rate
        self.warmup = warmup  # share of all steps
        self.step: int | None = None  # Lightning's own count is of steps on any number of devices

    @abstractmethod
    def learning_rate(self, step: int, steps: int) -> float:
        """Return the rate of ``step`` (from 0) of ``steps``."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Set the rate of this step."""
        steps = int(trainer.estimated_stepping_batches)
        if self.step is None:
            self.step = trainer.global_step
        # With fewer devices or batches, a run that goes on may have more steps behind it than there are.
        set_rate(trainer, pl_module, self.learning_rate(min(self.step, steps - 1), steps))
        self.step += 1


class OneCycle(FixedLength):
    """One cycle of the rate: up for a share of the steps, then down to zero.

    Both ways follow a cosine (Smith and Topin, 2018: super-convergence). For short trainings; the paper's
    results need its own schedule.
    """

    def learning_rate(self, step: int, steps: int) -> float:
        """Return the rate of ``step`` (from 0) of ``steps``."""
        top = self.warmup * steps
        if step < top:
            low, progress = START * self.peak, step / top
            return low + (self.peak - low) * (1 - math.cos(math.pi * progress)) / 2
        return self.peak * (1 + math.cos(math.pi * (step - top) / (steps - top))) / 2


class Cosine(FixedLength):
    """Up in a line for a share of the steps, then down by half a cosine to ``final``, a share of the peak."""

    def __init__(self, learning_rate: float, *, warmup: float, final: float) -> None:
        super().__init__(learning_rate, warmup=warmup)
        self.final = final * learning_rate

    def learning_rate(self, step: int, steps: int) -> float:
        """Return the rate of ``step`` (from 0) of ``steps``."""
        top = int(self.warmup * steps)
        if step < top:
            return self.peak * (step + 1) / (top + 1)
        progress = (step - top) / (steps - top)
        return self.final + (self.peak - self.final) * (1 + math.cos(math.pi * progress)) / 2


def monitored(trainer: pl.Trainer) -> float:
    """Return the validation loss by which all devices of a training decide: rank 0's."""
    return trainer.strategy.broadcast(float(trainer.callback_metrics[MONITOR]))


def set_rate(trainer: pl.Trainer, pl_module: pl.LightningModule, rate: float) -> None:
    """Let all of the trainer's optimisers take their next step at ``rate``, or a group's multiple of it.

    Raises ConfigError for a rate that is not greater than 0: the optimiser rescales its momentum by it.
    """
    if not 0 < rate < math.inf:
        raise ConfigError(f"the schedule sets a learning rate of {rate}: it has to be greater than 0")
    for optimiser in trainer.optimizers:
        for group in optimiser.param_groups:
            group["lr"] = rate * group.get("rate_factor", 1.0)
