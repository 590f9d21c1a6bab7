"""A schedule of one's own, as docs/new-schedule.md explains it."""

import math
from typing import Any

import pytorch_lightning as pl

from samplecnn.training.schedule import Schedule, set_rate


class InverseRoot(Schedule):
    """Up in a line for ``warmup`` steps, then down with the root of the step (Vaswani et al. 2017)."""

    tested = "best"
    kept = ("step",)

    def __init__(self, learning_rate: float, *, warmup: int) -> None:
        if warmup < 1:
            raise ValueError(f"warmup must be at least 1 step, not {warmup}")
        self.peak = learning_rate
        self.warmup = warmup
        self.step = 0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Set the rate of this step."""
        self.step += 1
        set_rate(
            trainer, pl_module, self.peak * min(self.step / self.warmup, math.sqrt(self.warmup / self.step))
        )
