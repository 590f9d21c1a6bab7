"""Who has started the processes of a training on several devices: torchrun, SLURM's srun, or the first."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from samplecnn.training.config import ConfigError

TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class Launch:
    """The place of this process among those that have been started with it."""

    rank: int
    devices: int  # processes per machine
    nodes: int  # machines


def launched() -> Launch | None:
    """Return what torchrun or SLURM's srun says to this process; None where neither has started it."""
    environment = os.environ
    if all(name in environment for name in TORCHRUN):
        rank, _, world, devices = (int(environment[name]) for name in TORCHRUN)
    elif "SLURM_STEP_ID" in environment and int(environment.get("SLURM_NTASKS", 1)) > 1:
        # In a job's script, before srun, there is no step: what is started there is one process.
        rank, world = int(environment["SLURM_PROCID"]), int(environment["SLURM_NTASKS"])
        devices = -(-world // int(environment["SLURM_NNODES"]))
    else:
        return None
    if world % devices:
        raise ConfigError(f"{world} processes on machines of {devices}: allowed is the same number on each")
    return Launch(rank, devices, world // devices)


def rank() -> int:
    """Return which of the processes this is; rank 0 writes the files, decides and speaks."""
    launch = launched()
    return launch.rank if launch else 0


def as_launched(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain values with the numbers of devices and machines that have been started.

    Raises ConfigError for several machines where nothing has started processes on them.
    """
    trainer = plain.get("trainer", {})
    launch = launched()
    if launch is None:
        if trainer.get("num_nodes", 1) > 1:
            raise ConfigError(
                f"trainer.num_nodes={trainer['num_nodes']}: on several machines, torchrun or SLURM's srun "
                "has to start the training on each (docs/clusters.md)"
            )
        return dict(plain)
    return {**plain, "trainer": {**trainer, "devices": launch.devices, "num_nodes": launch.nodes}}
