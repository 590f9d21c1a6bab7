"""What a run was asked for: the resolved configuration in its folder, ``config.yaml``."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import OmegaConf

from samplecnn.data.datasets import find
from samplecnn.files import write
from samplecnn.runs.description import BLOCK
from samplecnn.runs.errors import RunError
from samplecnn.runs.rules import OBJECT, RULES, TEXT, checked, flat
from samplecnn.runs.untrusted import read_yaml

CONFIG = "config.yaml"
# What does not change what a run computes: where things are and how it is watched.
NOT_IDENTITY = (
    *("logger", "resume", "fast", "trainer.log_every_n_steps", "trainer.save_every_minutes"),
    *("data.raw", "data.root", "data.catalog", "data.resident"),
)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which clips and tags, and where they are."""

    name: Annotated[str, RULES["data.name"]]
    split: Annotated[str, RULES["data.split"]]
    top: Annotated[int | None, RULES["data.top"]]  # tags; None: all
    root: Annotated[str, RULES["data.root"]] = "data"
    raw: Annotated[str | None, RULES["data.raw"]] = None
    train_segments: Annotated[int | None, RULES["data.train_segments"]] = None  # of a clip
    test_segments: Annotated[int | None, RULES["data.test_segments"]] = None
    resident: Annotated[Literal["auto"] | bool, RULES["data.resident"]] = "auto"


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """What it is computed on, and for how long."""

    precision: Annotated[str | int, RULES["trainer.precision"]]
    accelerator: Annotated[str, RULES["trainer.accelerator"]] = "auto"
    devices: Annotated[int, RULES["trainer.devices"]] = 1
    max_epochs: Annotated[int | None, RULES["trainer.max_epochs"]] = None
    limit_train_batches: Annotated[int | None, RULES["trainer.limit_train_batches"]] = None
    log_every_n_steps: Annotated[int, RULES["trainer.log_every_n_steps"]] = 50
    save_every_minutes: Annotated[float, RULES["trainer.save_every_minutes"]] = 10


@dataclass(frozen=True, kw_only=True)
class LoggerConfig:
    """Where it can be watched."""

    name: Annotated[str, RULES["logger.name"]] = "none"
    project: Annotated[str | None, TEXT] = None
    entity: Annotated[str | None, TEXT] = None
    group: Annotated[str | None, TEXT] = None
    run_name: Annotated[str | None, TEXT] = None


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What the project reads of a configuration. A default is for files of before the key was there."""

    block: Annotated[Mapping[str, Any], BLOCK]
    multi: Annotated[bool, RULES["multi"]]
    width: Annotated[int, RULES["width"]]
    dropout: Annotated[float, RULES["dropout"]]
    weight_decay: Annotated[float, RULES["weight_decay"]]
    batch_size: Annotated[int, RULES["batch_size"]]
    seed: Annotated[int, RULES["seed"]]
    scale_rate: Annotated[bool, RULES["scale_rate"]] = False
    running_statistics: Annotated[str, RULES["running_statistics"]] = "keras"
    fast: Annotated[str | bool, RULES["fast"]] = "auto"
    data: DataConfig
    trainer: TrainerConfig
    logger: LoggerConfig = LoggerConfig()
    schedule: Annotated[Mapping[str, Any], OBJECT]
    plain: Annotated[dict[str, Any], OBJECT]  # all of it, as it is in the file

    @classmethod
    def read(cls, plain: Any, where: str, prefix: str = "") -> "RunConfig":
        """Check plain values; RunError, which names ``where`` and the key, for one that is not allowed."""
        return checked(cls, {**plain, "plain": plain} if isinstance(plain, dict) else plain, where, prefix)

    @property
    def dataset(self) -> str:
        """Its name in ``DATASETS``, whatever the store is called; the function of one of the user's own."""
        target = str(dict(flat(self.plain)).get("data.catalog._target_"))
        return known.name if (known := find(target)) else target


def identity(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return what a resolved configuration computes: without paths, logger and launcher."""
    return {
        key: identity(value, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in plain.items()
        if f"{prefix}{key}" not in NOT_IDENTITY
    }


def config_hash(plain: Mapping[str, Any]) -> str:
    """Return a hash of what a resolved configuration computes."""
    canonical = json.dumps(identity(plain), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def read_config(run: Path) -> RunConfig:
    """Return the configuration of a run folder; RunError if it has none, or not a sound one."""
    path = run / CONFIG
    if not path.is_file():
        raise RunError(f"{run} is not a run folder: it has no {CONFIG}")
    return RunConfig.read(read_yaml(path), str(path))


def write_config(run: Path, config: RunConfig) -> None:
    """Write the configuration into a run folder."""
    write(run / CONFIG, OmegaConf.to_yaml(OmegaConf.create({**config.plain, "resume": None})))
