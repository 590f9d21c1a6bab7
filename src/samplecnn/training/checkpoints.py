"""When a run keeps checkpoints while it trains: after and within an epoch, and when it is asked to stop."""

import logging
import math
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from samplecnn.runs.folder import BEST, LAST
from samplecnn.training.checkpoint_files import NEXT, PREVIOUS
from samplecnn.training.module import TaggingModule
from samplecnn.training.ranks import gather, rank, world
from samplecnn.training.schedule import monitored

log = logging.getLogger(__name__)

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
# Steps between two times that the processes of several devices ask each other, which a GPU would wait for.
TOGETHER = {"cpu": 1, "cuda": 50}
VALIDATION_SAVED = 30.0  # seconds since the last checkpoint after which one is made before a validation


class Stopped(SystemExit):
    """The training was asked to stop by a signal; the exit status is 128 and its number, of rank 0.

    The others end with 0: who started them would take anything else for a failure, and end rank 0.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number if rank() == 0 else 0)


class RunCheckpoint(Checkpoint):
    """Keeps a run's checkpoints: after each epoch, every few minutes within one, and at a signal to stop.

    ``tested`` is the schedule's: ``"best"`` for the weights with the lowest validation loss of the whole run,
    ``"last"`` for the newest. A checkpoint within an epoch goes on at its next step, with the same random
    numbers. Signals that ask to stop (SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2) are answered between two
    steps with a checkpoint and ``Stopped``; a second one ends the process at once.
    """

    def __init__(self, run: Path, *, tested: str, every_minutes: float) -> None:
        self.run = run
        self.tested = tested
        self.every_minutes = every_minutes
        self.best = math.inf
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._saved = time.monotonic()
        self._random: list[dict[str, Any]] = []  # of each rank
        self._in_epoch = False
        self._ended = False  # by the schedule

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Catch the signals, which Lightning gives back; within an epoch, go on with its random numbers."""
        self._saved = time.monotonic()
        self._catch(self._note)
        if self._random:
            assert isinstance(pl_module, TaggingModule)
            pl_module.seed_dropout()  # where the checkpoint is of fewer devices
            state = self._random[rank()] if rank() < len(self._random) else {}
            if "cpu" in state:
                torch.set_rng_state(state["cpu"])
            if "cuda" in state and pl_module.device.type == "cuda":
                torch.cuda.set_rng_state(state["cuda"], pl_module.device)
            self._random = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is time, and before a validation, and stop where that was asked for."""
        left = int(trainer.num_training_batches) - (batch_idx + 1)
        if left == 0:  # the checkpoint of the epoch has its validation too
            return
        waited = time.monotonic() - self._saved
        due = waited >= (VALIDATION_SAVED if left == 1 else 60 * self.every_minutes)
        if trainer.world_size > 1:
            if left > 1 and batch_idx % TOGETHER[trainer.strategy.root_device.type]:
                return
            self.received = signal_of_any(trainer, self.received)
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        if due or self.received is not None:
            self._in_epoch = True
            self._save(trainer)
            self._in_epoch = False
        self._stop_if_asked()

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Stop where that was asked for: the checkpoint before the validation goes on."""
        if trainer.world_size == 1:
            self._stop_if_asked()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights that were validated if they count: of an average, not those trained on."""
        loss = monitored(trainer)
        if self.tested == "last" or loss < self.best:
            self.best = min(loss, self.best)
            trainer.save_checkpoint(self.run / BEST, weights_only=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep all that the training goes on from."""
        self._ended = trainer.should_stop
        self._save(trainer)
        if trainer.world_size > 1:
            self.received = signal_of_any(trainer, self.received)
        self._stop_if_asked()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Nothing is to be saved in a test: signals end it as they end other programs."""
        self._catch(self._leave)

    def _save(self, trainer: pl.Trainer) -> None:
        fresh, last = self.run / NEXT, self.run / LAST
        trainer.save_checkpoint(fresh)
        if trainer.is_global_zero:
            if last.is_file():
                last.replace(self.run / PREVIOUS)
            fresh.replace(last)
        self._saved = time.monotonic()

    def _catch(self, handler: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in STOPPING:
            if (number, signal.getsignal(number)) != (signal.SIGHUP, signal.SIG_IGN):  # of nohup
                self._before[number] = signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:  # asked twice
            self._leave(number, _frame)
        self.received = signal.Signals(number)
        log.info("%s: stopping after this step", self.received.name)

    def _leave(self, number: int, _frame: FrameType | None) -> None:
        raise Stopped(number)

    def _stop_if_asked(self) -> None:
        if self.received is None:
            return
        before = self._before.get(self.received)
        if self.received in (signal.SIGUSR1, signal.SIGUSR2) and rank() == 0:
            if callable(before):
                before(self.received, None)  # submitit's, which has the job queued again and ends it
            elif "SLURM_JOB_ID" in os.environ:
                queue_again(os.environ["SLURM_JOB_ID"])
        raise Stopped(self.received)

    def state_dict(self) -> dict[str, Any]:
        """Return where the training stands; within an epoch also where each rank's random numbers are."""
        state: dict[str, Any] = {"best": self.best, "world": world(), "ended": self._ended}
        if self._in_epoch:
            random = {"cpu": torch.get_rng_state()}
            if torch.cuda.is_available() and torch.cuda.is_initialized():
                random["cuda"] = torch.cuda.get_rng_state()
            state["random"] = gather(random)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the state of a checkpoint."""
        self.best, self._random = state_dict["best"], state_dict.get("random", [])


def signal_of_any(trainer: pl.Trainer, received: signal.Signals | None) -> signal.Signals | None:
    """Return a signal that any process of a training on several devices has received: all stop together."""
    number = torch.tensor(received or 0, device=trainer.strategy.root_device)
    highest = int(trainer.strategy.reduce(number, reduce_op="max"))
    return signal.Signals(highest) if highest else None


def queue_again(job: str) -> None:
    """Have SLURM start a job again."""
    command = shutil.which("scontrol")
    if command is None or not job.replace("_", "").isdigit():
        log.warning("SLURM's job %s cannot be queued again: scontrol was not found", job)
        return
    done = subprocess.run([command, "requeue", job], check=False, capture_output=True, text=True)
    log.info("scontrol requeue %s: %s", job, "done" if done.returncode == 0 else done.stderr.strip())
