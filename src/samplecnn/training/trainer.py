"""Lightning's trainer as the configuration wants it."""

import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy, Strategy

from samplecnn.hardware import missing_kernels, multiplies_bfloat16, usable_device
from samplecnn.runs.config import RunConfig, TrainerConfig
from samplecnn.training.checkpoint_files import WholeFiles
from samplecnn.training.config import ConfigError
from samplecnn.training.launch import TORCHRUN, launched, rank
from samplecnn.training.quiet import quiet_libraries
from samplecnn.training.ranks import PARENT, end_with_parent, start_others


def device_and_precision(
    config: TrainerConfig, *, asked: str = "trainer.accelerator=cuda"
) -> tuple[torch.device, str]:
    """Return what to compute on, and Lightning's name of the precision.

    ``auto`` is a GPU if there is one, and bfloat16 where the hardware multiplies in it. Raises ConfigError
    for a GPU that is not there, or that this build of PyTorch has no code for: ``asked`` is how the user did.
    """
    accelerator, precision = config.accelerator, str(config.precision)
    if accelerator == "cuda":
        fault = missing_kernels() if torch.cuda.is_available() else "PyTorch sees no CUDA device"
        if fault:
            raise ConfigError(f"{asked}, but {fault}: use cpu or auto")
    elif accelerator == "auto":
        accelerator = usable_device().type
    if precision == "auto":
        precision = "bf16-mixed" if multiplies_bfloat16(accelerator) else "32"
    return torch.device(accelerator), "32-true" if precision == "32" else precision


def watched() -> bool:
    """Whether somebody sees a progress bar; of jobs side by side each would write over the others'."""
    return sys.stderr.isatty() and multiprocessing.parent_process() is None and rank() == 0


def join(config: RunConfig, run: Path) -> None:
    """Have all processes of a training on several devices in one group, and start them if nothing else has.

    Raises ConfigError for more devices than there are.
    """
    trainer = config.trainer
    if dist.is_initialized() or trainer.devices * trainer.num_nodes == 1:
        return
    if device_and_precision(trainer)[0].type == "cuda" and trainer.devices > (
        found := torch.cuda.device_count()
    ):
        raise ConfigError(
            f"trainer.devices={trainer.devices}, but PyTorch sees {found} GPUs on this machine. SLURM has to "
            "show every task all of them: --gpus-per-node, not --gpus-per-task"
        )
    if launched() is None:
        start_others(trainer.devices)
    elif PARENT in os.environ or "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent()
    quiet_libraries()
    make_trainer(config, run, logger=False, enable_checkpointing=False).strategy.setup_environment()


def make_trainer(config: RunConfig, run: Path, **options: Any) -> pl.Trainer:
    """Return a Lightning trainer as the ``trainer`` configuration wants it."""
    device, precision = device_and_precision(config.trainer)
    return pl.Trainer(
        default_root_dir=run / "lightning",  # where Lightning would look for checkpoints of its own
        plugins=[WholeFiles(), *_environment()],
        accelerator=device.type,
        devices=config.trainer.devices,
        num_nodes=config.trainer.num_nodes,
        strategy=_strategy(config.trainer),
        precision=precision,  # type: ignore[arg-type]
        log_every_n_steps=1,  # the module logs when it is time
        num_sanity_val_steps=0,
        enable_model_summary=False,
        enable_progress_bar=watched(),
        **options,
    )


def _environment() -> list[ClusterEnvironment]:
    """Return what tells Lightning the ranks; nothing where a process trains alone."""
    if all(name in os.environ for name in TORCHRUN):
        return [TorchElasticEnvironment()]
    if launch := launched():
        os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(launch.devices))  # without, Lightning refuses -n 2
    # SLURM's signals are answered by `RunCheckpoint`; Lightning's way leaves checkpoints of its own.
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def _strategy(config: TrainerConfig) -> Strategy | str:
    """Return how gradients are averaged over the devices.

    The batch norms' running statistics are not exchanged in every step: `TaggingModule` takes rank 0's where
    they count.
    """
    if config.devices * config.num_nodes == 1:
        return "auto"
    return DDPStrategy(broadcast_buffers=False, find_unused_parameters=config.strategy.endswith("_true"))
