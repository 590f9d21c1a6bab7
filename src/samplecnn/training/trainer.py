"""Lightning's trainer as the configuration wants it."""

import logging
import multiprocessing
import sys
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

from samplecnn.hardware import missing_kernels, multiplies_bfloat16
from samplecnn.runs.config import RunConfig, TrainerConfig
from samplecnn.training.checkpoints import WholeFiles
from samplecnn.training.config import ConfigError

log = logging.getLogger(__name__)


def device_and_precision(config: TrainerConfig) -> tuple[torch.device, str]:
    """Return what to compute on, and Lightning's name of the precision.

    ``auto`` is a GPU if there is one, and bfloat16 where the hardware multiplies in it. Raises ConfigError
    for a GPU that is not there, or that this build of PyTorch has no code for.
    """
    accelerator, precision = config.accelerator, str(config.precision)
    unusable = missing_kernels() if torch.cuda.is_available() else "PyTorch sees no CUDA device"
    if accelerator == "cuda" and unusable:
        raise ConfigError(f"trainer.accelerator=cuda, but {unusable}: use cpu or auto")
    if accelerator == "auto":
        accelerator = "cpu" if unusable else "cuda"
        if torch.cuda.is_available() and unusable:
            log.warning("computing on the CPU: %s", unusable)
    if precision == "auto":
        precision = "bf16-mixed" if multiplies_bfloat16(accelerator) else "32"
    return torch.device(accelerator), "32-true" if precision == "32" else precision


def watched() -> bool:
    """Whether somebody sees a progress bar; of jobs side by side each would write over the others'."""
    return sys.stderr.isatty() and multiprocessing.parent_process() is None


def make_trainer(config: RunConfig, run: Path, **options: Any) -> pl.Trainer:
    """Return a Lightning trainer as the ``trainer`` configuration wants it."""
    device, precision = device_and_precision(config.trainer)
    # SLURM's signals are answered by `RunCheckpoint`; Lightning's way leaves checkpoints of its own.
    cluster = [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []
    return pl.Trainer(
        default_root_dir=run / "lightning",  # where Lightning would look for checkpoints of its own
        plugins=[WholeFiles(), *cluster],
        accelerator=device.type,
        devices=config.trainer.devices,
        precision=precision,  # type: ignore[arg-type]
        log_every_n_steps=1,  # the module logs when it is time
        num_sanity_val_steps=0,
        enable_model_summary=False,
        enable_progress_bar=watched(),
        **options,
    )


def quiet_libraries() -> None:
    """Silence what Lightning says that a user can do nothing about."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)` is deprecated", FutureWarning)
