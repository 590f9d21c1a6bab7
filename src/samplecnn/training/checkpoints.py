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
from fractions import Fraction
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
from samplecnn.training.module import TaggingModule
from samplecnn.training.ranks import gather, rank, world
from samplecnn.training.schedule import monitored

log = logging.getLogger(__name__)

NEXT, PREVIOUS = "checkpoints/next.ckpt", "checkpoints/previous.ckpt"  # next: between written and renamed
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
        fit_to_devices(checkpoint)
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
    """Say whether the training of a checkpoint is over; if so, put its epochs into the table.

    Its schedule may have ended it, or it has ``max_epochs`` epochs or more: a run is ended early so, resumed
    with fewer epochs than it has.
    """
    states = read_checkpoint(path)["callbacks"]
    epochs = len(states["EpochTable"]["rows"])
    if states.get("RunCheckpoint", {}).get("ended", False):
        log.info("the schedule has ended after %d epochs: testing", epochs)
    elif max_epochs is not None and epochs >= max_epochs:
        log.info("%d epochs are trained, and trainer.max_epochs=%d: testing", epochs, max_epochs)
    else:
        return False
    table.load_state_dict(states["EpochTable"])
    return True


def _damage(path: Path) -> str | None:
    """Say what is wrong with a checkpoint; None for one that is ours and whose parts have their checksums."""
    try:
        read_checkpoint(path)
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
    except Exception as error:  # a damaged archive raises whatever its layers do
        return str(error)
    return f"{part} has another checksum" if part else None


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


def fit_to_devices(checkpoint: dict[str, Any]) -> None:
    """Have a checkpoint go on with this number of devices where it was trained with another, and say so.

    An epoch that has begun goes on after as many segments, in steps of this number's.
    """
    states = checkpoint.get("callbacks", {})
    state = states.get("RunCheckpoint")  # weights alone have none
    if state is None or (then := state.get("world", 1)) == (now := world()):
        return
    log.info(
        "trained on %d devices so far, from here on %d: a step has %s times the segments, an epoch %s times "
        "the steps; segments keep their order, but others share a step, and dropout draws other numbers",
        *(then, now, Fraction(now, then), Fraction(then, now)),
    )
    for schedule in {"OneCycle", "Cosine"} & states.keys():
        states[schedule]["step"] = states[schedule]["step"] * then // now
    if "random" not in state:  # at the end of an epoch
        return
    loop = checkpoint["loops"]["fit_loop"]
    current = loop["epoch_loop.batch_progress"]["current"]
    before = current["ready"]
    done = before * then // now
    checkpoint["losses"] = checkpoint["losses"] * (done / before)
    # A step counts as completed once the hooks after it have run, in one of which this was saved.
    current |= {"ready": done, "started": done, "processed": done, "completed": done - 1}
    for loader in loop["state_dict"]["combined_loader"]:
        loader["given"] = done


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
