"""The table of a run's epochs: losses, scores, speed and memory."""

import csv
import io
import resource
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from samplecnn.files import write
from samplecnn.training.ranks import gather, rank, world


def peak_memory(device: torch.device) -> int:
    """Return the most bytes in use so far: of the GPU in this epoch, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class EpochTable(pl.Callback):
    """Writes ``metrics.csv``, one row per epoch, and counts the seconds spent in training.

    Of several devices, the segments per second are of all together, and the memory is of the one that used
    most; the loggers have that of each.
    The rows are in the checkpoint too, so that a resumed run goes on with the table of the epochs that it
    stands on.
    """

    def __init__(self, path: Path, *, echo: bool) -> None:
        self.path = path
        self.echo = echo  # print a line per epoch
        self.rows: list[dict[str, float]] = []
        self._started = self._trained = self._spent = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of all epochs, validation included, over all sittings of a resumed run."""
        return sum(row["seconds"] for row in self.rows)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of an epoch to go on within, with the seconds that it has taken so far."""
        self._started = time.perf_counter() - self._spent

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._started = time.perf_counter()
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note when the training part of the epoch ended."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        self._trained = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row and write the table."""
        seconds = time.perf_counter() - self._started
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        segments = trainer.num_training_batches * trainer.train_dataloader.sampler.batch_size  # type: ignore[union-attr]
        peaks = gather(peak_memory(pl_module.device))
        speed = {
            "segments_per_second": world() * segments / (self._trained - self._started),
            "peak_memory_bytes": max(peaks),
        }
        of_each = {f"peak_memory_bytes/rank{n}": peak for n, peak in enumerate(peaks)} if world() > 1 else {}
        for logger in trainer.loggers:
            logged = {f"train/{key}": value for key, value in (speed | of_each).items()}
            logger.log_metrics(logged, trainer.global_step)
        row: dict[str, float] = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "train_loss": metrics["train/loss_epoch"],
            "val_loss": metrics["val/loss"],
            "val_roc_auc": metrics["val/roc_auc"],
            "val_pr_auc": metrics["val/pr_auc"],
            "seconds": seconds,
            **speed,
        }
        self.rows.append(row)
        if rank() == 0:
            self._write(row)

    def _write(self, row: dict[str, float]) -> None:
        """Write the table, and print its last row."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(row))
        writer.writeheader()
        writer.writerows(self.rows)
        write(self.path, text.getvalue())
        if self.echo:
            print(
                f"epoch {row['epoch']:3.0f}  train loss {row['train_loss']:.4f}  "
                f"val loss {row['val_loss']:.4f}  val ROC-AUC {row['val_roc_auc']:.4f}  "
                f"{row['seconds']:.1f} s",
                flush=True,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far, and how long the present epoch has taken."""
        return {"rows": self.rows, "spent": time.perf_counter() - self._started}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the rows of a checkpoint."""
        self.rows = list(state_dict["rows"])
        self._spent = state_dict.get("spent", 0.0)
