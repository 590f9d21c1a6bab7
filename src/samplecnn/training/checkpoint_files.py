"""A run's checkpoints as files: written whole, and read again, also where the last one is damaged.

checkpoints/best.ckpt      the weights that are tested, by the schedule's rule
checkpoints/last.ckpt      all that the training goes on from
checkpoints/previous.ckpt  the one before, for when that one is damaged
"""

import logging
import math
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from samplecnn.files import writing
from samplecnn.runs.checkpoint import read_checkpoint
from samplecnn.runs.errors import RunError
from samplecnn.runs.folder import LAST
from samplecnn.training.epochs import EpochTable
from samplecnn.training.ranks import world

log = logging.getLogger(__name__)

NEXT, PREVIOUS = "checkpoints/next.ckpt", "checkpoints/previous.ckpt"  # next: between written and renamed


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
