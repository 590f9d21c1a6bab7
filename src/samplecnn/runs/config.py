"""What a run was asked for: the resolved configuration in its folder, ``config.yaml``."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from samplecnn.data.datasets import find
from samplecnn.files import write
from samplecnn.runs.description import NAMED, ProbeDescription
from samplecnn.runs.errors import RunError
from samplecnn.runs.rules import NAME, OBJECT, OF_SAMPLECNN, SAMPLECNN, TEXT, checked, flat, require
from samplecnn.runs.untrusted import read_yaml

CONFIG = "config.yaml"
# What does not change what a run computes: where things are and how it is watched.
NOT_IDENTITY = (
    *("logger", "init", "resume", "recipe", "fast"),
    *("trainer.log_every_n_steps", "trainer.save_every_minutes"),
    "trainer.strategy",
    *("data.raw", "data.root", "data.catalog", "data.resident"),
)
KERAS_SGD: Mapping[str, Any] = {"name": "keras_sgd"}
NO_AVERAGE: Mapping[str, Any] = {"name": "none"}
# Keys that came later, with the value that is as if they were not there: earlier runs keep their hash.
LATER: dict[str, Any] = {
    "model": {"name": SAMPLECNN, "_target_": "samplecnn.model.network.SampleCNN"},
    "rate": None,
    "init_sha256": None,
    "freeze": "none",
    "features_rate": 1.0,
    "data.train_clips": None,
    "optimizer": KERAS_SGD,
    "average": NO_AVERAGE,
    "label_smoothing": 0.0,
    "data.random_chunks": None,
    "augment": {"name": "none"},
    "trainer.num_nodes": 1,
    "trainer.sync_batchnorm": False,
}


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which clips and tags, and where they are."""

    name: str
    split: str
    top: int | None  # tags; None: all
    root: str = "data"
    raw: str | None = None
    train_clips: int | None = None  # of the training part; None: all
    train_segments: int | None = None  # of a clip
    random_chunks: int | None = None
    test_segments: int | None = None
    resident: Literal["auto"] | bool = "auto"


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """What it is computed on, and for how long."""

    precision: str | int
    accelerator: str = "auto"
    devices: int = 1  # per machine
    num_nodes: int = 1
    strategy: str = "auto"
    sync_batchnorm: bool = False
    max_epochs: int | None = None
    limit_train_batches: int | None = None
    log_every_n_steps: int = 50
    save_every_minutes: float = 10


@dataclass(frozen=True, kw_only=True)
class LoggerConfig:
    """Where it can be watched."""

    name: str = "none"
    project: Annotated[str | None, TEXT] = None
    entity: Annotated[str | None, TEXT] = None
    group: Annotated[str | None, TEXT] = None
    run_name: Annotated[str | None, TEXT] = None


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What the project reads of a configuration. A default is for files of before the key was there."""

    model: Annotated[Mapping[str, Any], NAMED] = field(default_factory=lambda: {"name": SAMPLECNN})
    block: Annotated[Mapping[str, Any] | None, NAMED] = None  # these three of a SampleCNN alone
    multi: bool | None = None
    width: int | None = None
    rate: int | None = None  # Hz; None: the network's own
    init: str | None = None  # the model that it starts from
    init_sha256: str | None = None  # of that model's weights
    freeze: str | int = "none"
    features_rate: float = 1.0
    probe: ProbeDescription | None = None  # of a model that is one: what `init` brings along
    dropout: float
    optimizer: Annotated[Mapping[str, Any], NAMED] = field(default_factory=lambda: KERAS_SGD)
    weight_decay: float
    average: Annotated[Mapping[str, Any], NAMED] = field(default_factory=lambda: NO_AVERAGE)
    label_smoothing: float = 0.0
    batch_size: int
    seed: int
    recipe: Annotated[str | None, NAME] = None
    scale_rate: bool = False
    running_statistics: str = "keras"
    fast: str | bool = "auto"
    data: DataConfig
    trainer: TrainerConfig
    logger: LoggerConfig = LoggerConfig()
    schedule: Annotated[Mapping[str, Any], OBJECT]
    augment: Annotated[Mapping[str, Any], NAMED] = field(default_factory=lambda: {"name": "none"})
    plain: Annotated[dict[str, Any], OBJECT]  # all of it, as it is in the file

    @classmethod
    def read(cls, plain: Any, where: str, prefix: str = "") -> "RunConfig":
        """Check plain values; RunError, which names ``where`` and the key, for one that is not allowed."""
        read = checked(cls, {**plain, "plain": plain} if isinstance(plain, dict) else plain, where, prefix)
        if read.model["name"] == SAMPLECNN:
            require(read, OF_SAMPLECNN, where, prefix)
        return read

    @property
    def world(self) -> int:
        """The number of devices on all machines."""
        return self.trainer.devices * self.trainer.num_nodes

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
        if (name := f"{prefix}{key}") not in NOT_IDENTITY and not (name in LATER and LATER[name] == value)
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
    from omegaconf import OmegaConf  # here, since tagging reads runs without it

    write(run / CONFIG, OmegaConf.to_yaml(OmegaConf.create({**config.plain, "resume": None})))
