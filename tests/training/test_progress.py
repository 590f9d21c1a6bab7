"""What is said of a training's time, in real fits whose clock is moved by their steps."""

import logging
import re
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.training import progress
from samplecnn.training.optimiser import KerasSGD
from samplecnn.training.progress import TimedBar, TimeLeft, duration
from samplecnn.training.schedule import OneCycle, Schedule
from training.stores import write_store
from training.test_schedule import Batches, paper

STEPS, VALIDATIONS = 100, 30  # batches an epoch


class Clock:
    """Stands until it is moved."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


class Data(pl.LightningDataModule):
    """As many validation segments as ``VALIDATIONS`` batches of training hold."""

    batch_size = 23

    def in_order(self, part: str) -> list[np.ndarray]:
        return np.split(np.arange(23 * VALIDATIONS), VALIDATIONS)

    def train_dataloader(self) -> Batches:
        return Batches(STEPS)

    def val_dataloader(self) -> Batches:
        return Batches(VALIDATIONS)


class Timed(pl.LightningModule):
    """A step takes so many seconds of the clock, and a validation batch ``validation``."""

    def __init__(self, clock: Clock, step: float, validation: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.clock, self.step, self.validation = clock, step, validation

    def configure_optimizers(self) -> KerasSGD:
        return KerasSGD(self.parameters(), lr=0.0)

    def training_step(self, batch: Tensor, _index: int) -> Tensor:
        first = self.trainer.global_step == 0
        self.clock.now += 60 if first else self.step  # which allocates
        return self.weight.sum()

    def validation_step(self, batch: Tensor, _index: int) -> None:
        self.clock.now += self.validation
        self.log("val/loss", 1.0)


def said(
    clock: Clock,
    folder: Path,
    schedule: Schedule,
    cap: int | None,
    *,
    step: float,
    validation: float,
    width: int = 128,
    log_seconds: float | None = None,
    epochs: int = 2,
    data: pl.LightningDataModule | None = None,
    bar: bool = False,
) -> list[str]:
    """Train for so many epochs; return what was said, each with the step at which it was."""
    module = Timed(clock, step, validation)
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{module.trainer.global_step}: {record.getMessage()}")

    progress.log.setLevel(logging.INFO)
    progress.log.addHandler(handler := Handler())
    time_left = TimeLeft(schedule, cap, width, log_seconds=log_seconds)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[schedule, time_left, *([TimedBar(time_left, None)] if bar else [])],
        logger=False,
        enable_progress_bar=bar,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )
    try:
        trainer.fit(module, data or Data())
    finally:
        progress.log.removeHandler(handler)
        progress.log.setLevel(logging.NOTSET)
    return lines


def test_it_is_said_once_after_a_few_steps(clock: Clock, tmp_path: Path) -> None:
    """110 steps' worth: the first does not count, and a validation batch is a third of a step."""
    lines = said(clock, tmp_path, paper(), None, step=6, validation=4)
    assert lines == [
        "4: about 11 min an epoch; at least 20 epochs in 3.7 h; width=32 takes about 55 s an epoch"
    ]


@pytest.mark.parametrize(
    ("cap", "width", "words"),
    [
        (8, 32, "about 11 min an epoch; 8 epochs in 88 min"),
        (8, 64, "about 11 min an epoch; 8 epochs in 88 min; width=32 takes about 3 min an epoch"),
        (1, 16, "about 11 min an epoch; 1 epoch in 11 min"),
    ],
)
def test_one_cycle(clock: Clock, tmp_path: Path, cap: int, width: int, words: str) -> None:
    cycle = OneCycle(0.1, warmup=0.3)
    assert said(clock, tmp_path, cycle, cap, step=6, validation=2, width=width) == [f"4: {words}"]


@pytest.mark.parametrize(("cap", "word"), [(30, "at most 30 epochs in 5.5 h"), (5, "5 epochs in 55 min")])
def test_a_cap_on_the_papers_schedule(clock: Clock, tmp_path: Path, cap: int, word: str) -> None:
    (line,) = said(clock, tmp_path, paper(), cap, step=6, validation=2, width=32)
    assert line == f"4: about 11 min an epoch; {word}"


def test_an_epoch_of_an_instant_is_said_at_its_end(clock: Clock, tmp_path: Path) -> None:
    """And with the validation as it was, not as it might have been."""
    lines = said(clock, tmp_path, OneCycle(0.1, warmup=0.3), 2, step=0.01, validation=1)
    assert lines == ["100: about 31 s an epoch; 2 epochs in 62 s"]


def test_only_what_validation_computes_counts(clock: Clock, tmp_path: Path) -> None:
    """5 steps of 6 s, and a segment of each of 5 clips: 2.5 batches, each a third of a step."""
    data = SegmentDataModule(write_store(tmp_path), batch_size=2, top=None, test_segments=1)
    lines = said(clock, tmp_path, OneCycle(0.1, warmup=0.3), 1, step=6, validation=0, epochs=1, data=data)
    assert lines == ["4: about 35 s an epoch; 1 epoch in 35 s"]


def test_without_a_bar_a_line_every_few_minutes(clock: Clock, tmp_path: Path) -> None:
    lines = said(
        clock, tmp_path, OneCycle(0.1, warmup=0.3), 2, step=6, validation=4, width=32, log_seconds=300
    )
    assert lines == [
        "4: about 11 min an epoch; 2 epochs in 22 min",
        "54: epoch 0: 54%, 6 min of it left, 17 min in all",
        "102: epoch 1: 2%, 12 min of it left, 12 min in all",
        "152: epoch 1: 52%, 7 min of it left, 7 min in all",
    ]


@pytest.mark.parametrize(("step", "every"), [(2, 1), (0.125, 4)])
def test_the_bar_moves_by_time(
    clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str], step: float, every: int
) -> None:
    """Every half a second, be that a step or several: a step may take a minute."""
    said(clock, tmp_path, OneCycle(0.1, warmup=0.3), 1, step=step, validation=0, epochs=1, bar=True)
    shown = {int(done) for done in re.findall(r"Epoch 0:.*? (\d+)/100", capsys.readouterr().out)}
    assert shown == {0, *range(1, STEPS, every), STEPS}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5000, "83 min"), (5400, "1.5 h"), (1e6, "277.8 h")],
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words
