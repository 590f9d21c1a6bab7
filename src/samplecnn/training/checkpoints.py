"""What a run keeps while it trains: whole files, also within an epoch and when it is asked to stop.

checkpoints/best.ckpt      the weights that are tested, by the schedule's rule
checkpoints/last.ckpt      all that the training goes on from
checkpoints/previous.ckpt  the one before, for when that one is damaged
"""

import logging
import math
import os
import shutil
import signal
import subprocess
import threading
import time
import zipfile
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint

from samplecnn.files import writing
from samplecnn.runs.checkpoint import read_checkpoint
from samplecnn.runs.errors import RunError
from samplecnn.runs.folder import BEST, LAST
from samplecnn.training.epochs import EpochTable
from samplecnn.training.schedule import MONITOR

log = logging.getLogger(__name__)

NEXT, PREVIOUS = "checkpoints/next.ckpt", "checkpoints/previous.ckpt"  # next: between written and renamed
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
TOGETHER = 50  # steps between two times that the processes of several devices ask each other
VALIDATION_SAVED = 30.0  # seconds since the last checkpoint after which one is made before a validation


class Stopped(SystemExit):
    """The training was asked to stop by a signal; the exit status is 128 and its number."""


class WholeFiles(TorchCheckpointIO):
    """Writes Lightning's checkpoints beside their target, where Lightning goes through ``TMPDIR``."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint that takes the target's place once it is on the disk.

        Raises OSError, with the file's name, where that is not possible.
        """
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with writing(Path(path)) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # of a full disk
                    raise error.__context__ from error
                raise

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint of this version, or of one that kept its best score elsewhere."""
        checkpoint = read_checkpoint(Path(path), mapped=False)
        states = checkpoint.get("callbacks", {})
        for key in [key for key in states if key.startswith("RunCheckpoint{")]:
            score = states.pop(key).get("best_model_score")
            states["RunCheckpoint"] = {"best": math.inf if score is None else float(score)}
        return checkpoint


def last_checkpoint(run: Path) -> Path | None:
    """Return the checkpoint to go on from, None if there is none.

    Where the last one is damaged, that is the one before, with a warning. Raises RunError if both are.
    """
    damaged = []
    for path in (run / NEXT, run / LAST, run / PREVIOUS):
        if not path.is_file():
            continue
        if reason := _damage(path):
            damaged.append(f"{path} is damaged ({reason})")
            continue
        for sentence in damaged:
            log.warning("%s: going on from the one before, %s", sentence, path.name)
        return path
    if damaged:
        raise RunError(f"{'; '.join(damaged)}: train the run again, in another folder")
    return None


def finished(path: Path, max_epochs: int | None, table: EpochTable) -> bool:
    """Say whether a checkpoint has ``max_epochs`` epochs or more behind it; if so, put them into the table.

    A run is ended early so: resumed with fewer epochs than it has.
    """
    state = read_checkpoint(path)["callbacks"]["EpochTable"]
    if max_epochs is None or len(state["rows"]) < max_epochs:
        return False
    log.info("%d epochs are trained, and trainer.max_epochs=%d: testing", len(state["rows"]), max_epochs)
    table.load_state_dict(state)
    return True


def _damage(path: Path) -> str | None:
    """Say what is wrong with a checkpoint; None for a file whose parts all have their checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        return str(error)
    return f"{part} has another checksum" if part else None


class RunCheckpoint(Checkpoint):
    """Keeps a run's checkpoints: after each epoch, every few minutes within one, and at a signal to stop.

    ``tested`` is the schedule's: ``"best"`` for the weights with the lowest validation loss of the whole run,
    ``"last"`` for the newest. A checkpoint within an epoch goes on at its next step, with the same random
    numbers. Signals that ask to stop (SIGTERM, SIGINT, SIGUSR1 and SIGUSR2) are answered between two steps
    with a checkpoint and ``Stopped``; a second one ends the process at once.
    """

    def __init__(self, run: Path, *, tested: str, every_minutes: float) -> None:
        self.run = run
        self.tested = tested
        self.every_minutes = every_minutes
        self.best = math.inf
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._saved = time.monotonic()
        self._random: dict[str, Any] = {}
        self._in_epoch = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Catch the signals, which Lightning gives back; within an epoch, go on with its random numbers."""
        self._saved = time.monotonic()
        self._catch(self._note)
        if self._random:
            torch.set_rng_state(self._random["cpu"])
            if "cuda" in self._random and pl_module.device.type == "cuda":
                torch.cuda.set_rng_state(self._random["cuda"], pl_module.device)
            self._random = {}

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
            if left > 1 and batch_idx % TOGETHER:
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

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights if they count, and all that the training goes on from."""
        loss = float(trainer.callback_metrics[MONITOR])
        if self.tested == "last" or loss < self.best:
            self.best = min(loss, self.best)
            trainer.save_checkpoint(self.run / BEST, weights_only=True)
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
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, handler) for number in STOPPING}

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:  # asked twice
            self._leave(number, _frame)
        self.received = signal.Signals(number)
        log.info("%s: stopping after this step", self.received.name)

    def _leave(self, number: int, _frame: FrameType | None) -> None:
        raise Stopped(128 + number)

    def _stop_if_asked(self) -> None:
        if self.received is None:
            return
        before = self._before.get(self.received)
        if self.received in (signal.SIGUSR1, signal.SIGUSR2):
            if callable(before):
                before(self.received, None)  # submitit's, which has the job queued again and ends it
            elif "SLURM_JOB_ID" in os.environ:
                queue_again(os.environ["SLURM_JOB_ID"])
        raise Stopped(128 + self.received)

    def state_dict(self) -> dict[str, Any]:
        """Return the lowest validation loss; within an epoch also where the random numbers are."""
        state: dict[str, Any] = {"best": self.best}
        if self._in_epoch:
            state["random"] = {"cpu": torch.get_rng_state()}
            if torch.cuda.is_available() and torch.cuda.is_initialized():
                state["random"]["cuda"] = torch.cuda.get_rng_state()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the state of a checkpoint."""
        self.best = state_dict["best"]
        self._random = state_dict.get("random", {})


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
