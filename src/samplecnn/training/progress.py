"""How long a training takes: said once in the log, shown in the bar, and written now and then without one."""

import logging
import math
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar

from samplecnn.training.module import TaggingModule
from samplecnn.training.schedule import Schedule

log = logging.getLogger(__name__)

SURE_STEPS, SURE_SECONDS = 3, 3.0  # that are timed before anything is said
FORWARD = 1 / 3  # of a training step: the backward pass takes twice as long
NARROW = 32  # a width for trying things
GROWTH = math.log(12, 4)  # time goes with the width to this power: width 32 takes a twelfth of width 128
LONG = 60.0  # seconds an epoch, from which on the narrow network is worth a word
LOG_SECONDS = 120.0  # between two lines where there is no bar
DRAW_SECONDS = 0.5  # between two moves of the bar


class TimeLeft(pl.Callback):
    """Times steps and validations, and says what an epoch and the schedule take.

    Until a validation has been timed it is taken to be so many forward passes. ``width`` is a SampleCNN's.
    Every ``log_seconds`` a line says how far the training is; None: never.
    """

    def __init__(
        self, schedule: Schedule, max_epochs: int | None, width: int | None, *, log_seconds: float | None
    ) -> None:
        self.schedule, self.max_epochs, self.width = schedule, max_epochs, width
        self.log_seconds = log_seconds
        self._first: tuple[int, float] | None = None  # step of this epoch that ended first, and when
        self._done = 0  # steps of this epoch
        self._step: float | None = None  # seconds
        self._validation: float | None = None  # seconds
        self._validation_began = self._logged = 0.0
        self._said = False

    def epoch_seconds(self, trainer: pl.Trainer, done: int = 0) -> float:
        """Return what an epoch takes after ``done`` steps, validation included; a step has to be timed."""
        assert self._step is not None
        validation = self._validation
        if validation is None:
            data = trainer.datamodule  # type: ignore[attr-defined]
            segments = sum(map(len, data.in_order("valid")))
            validation = FORWARD * self._step * segments / (data.batch_size * trainer.world_size)
        return self._step * (trainer.num_training_batches - done) + validation

    def whole(self, trainer: pl.Trainer) -> str | None:
        """Say how long all is going to take from now on; None where nobody can know."""
        if self._step is None or (to_come := self._epochs_to_come(trainer)) is None:
            return None
        word, epochs = to_come
        present = self.epoch_seconds(trainer, self._done)
        return word + duration(present + (epochs - 1) * self.epoch_seconds(trainer))

    def _epochs_to_come(self, trainer: pl.Trainer) -> tuple[str, int] | None:
        """Return the epochs that are not over yet, with "at most" or "at least" where that is all we know."""
        cap, least = self.max_epochs, self.schedule.least_epochs
        if cap is not None:
            return "at most " if least is not None and least < cap else "", cap - trainer.current_epoch
        if least is not None and least > trainer.current_epoch:
            return "at least ", least - trainer.current_epoch
        return None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of the lines."""
        self._logged = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count steps; the last epoch's time of a step holds until there is a new one."""
        self._first, self._done = None, 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Time the step, and say what there is to say."""
        now = time.monotonic()
        self._done = batch_idx + 1
        if self._first is None:  # a first step allocates: it only starts the clock
            self._first = batch_idx, now
            return
        first, began = self._first
        self._step = (now - began) / (batch_idx - first)
        if not self._said and batch_idx - first >= SURE_STEPS and now - began >= SURE_SECONDS:
            self._say_once(trainer)
        elif self.log_seconds is not None and now - self._logged >= self.log_seconds:
            self._say_again(trainer, now)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of a validation."""
        self._validation_began = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note what a validation takes, which ends the epoch."""
        self._validation = time.monotonic() - self._validation_began
        if not self._said and self._step is not None:
            self._say_once(trainer)

    def _say_once(self, trainer: pl.Trainer) -> None:
        """Say what an epoch takes, and the whole schedule."""
        self._said = True
        self._logged = time.monotonic()
        seconds, to_come = self.epoch_seconds(trainer), self._epochs_to_come(trainer)
        parts = [f"about {duration(seconds)} an epoch"]
        if to_come is not None:
            word, epochs = to_come
            parts.append(f"{word}{epochs} epoch{'s' if epochs > 1 else ''} in {duration(epochs * seconds)}")
        if seconds > LONG and self.width is not None and self.width > NARROW:
            narrow = seconds * (NARROW / self.width) ** GROWTH
            parts.append(f"width={NARROW} takes about {duration(narrow)} an epoch")
        if trainer.is_global_zero:
            log.info("; ".join(parts))

    def _say_again(self, trainer: pl.Trainer, now: float) -> None:
        """Write how far the epoch is, and what is left of it and of all."""
        self._logged = now
        share = self._done / trainer.num_training_batches
        left = duration(self.epoch_seconds(trainer, self._done))
        line = f"epoch {trainer.current_epoch}: {share:.0%}, {left} of it left"
        if (whole := self.whole(trainer)) is not None:
            line += f", {whole} in all"
        if trainer.is_global_zero:
            log.info(line)


class TimedBar(TQDMProgressBar):
    """Lightning's bar, moved by time: a step may take a millisecond or a minute.

    It shows what is left of all epochs, and in a grid the ``cell``, such as "cell 3 of 12".
    """

    def __init__(self, time_left: TimeLeft, cell: str | None) -> None:
        super().__init__()
        self.time_left, self.cell = time_left, cell
        self._drawn = 0.0

    def _should_update(self, current: int, total: int) -> bool:
        now = time.monotonic()
        if not self.is_enabled or (current < total and now - self._drawn < DRAW_SECONDS):
            return False
        self._drawn = now
        return True

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Name the cell before the epoch."""
        super().on_train_epoch_start(trainer)
        if self.cell is not None:
            self.train_progress_bar.set_description(f"{self.cell}, epoch {trainer.current_epoch}")

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return what stands behind the bar."""
        metrics: dict[str, Any] = {**super().get_metrics(trainer, pl_module)}
        metrics.pop("v_num", None)  # a logger's, and no measure of anything
        if isinstance(pl_module, TaggingModule) and pl_module.step_loss is not None:
            metrics = {"train/loss_step": pl_module.step_loss, **metrics}
        whole = self.time_left.whole(trainer)
        return metrics if whole is None else {**metrics, "left": whole}


def duration(seconds: float) -> str:
    """Write a time as people say it: ``8 s``, ``12 min``, ``3.6 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
