"""Which signals stop a training."""

import signal
from pathlib import Path

import pytorch_lightning as pl

from samplecnn.training.checkpoints import STOPPING, RunCheckpoint


def test_under_nohup_a_terminal_that_is_closed_stops_nothing(tmp_path: Path) -> None:
    before = {number: signal.getsignal(number) for number in STOPPING}
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        checkpoint = RunCheckpoint(tmp_path, tested="best", every_minutes=10)
        checkpoint.on_train_start(pl.Trainer(logger=False, accelerator="cpu"), pl.LightningModule())
        caught = {number for number in STOPPING if callable(signal.getsignal(number))}
        assert caught == {*STOPPING} - {signal.SIGHUP}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
