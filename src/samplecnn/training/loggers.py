"""Where a run can be watched: Weights & Biases, CSV, TensorBoard or nowhere."""

import logging
import os
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from samplecnn.training.metrics import Scores
from samplecnn.training.runs import write_atomically

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run

log = logging.getLogger(__name__)

WANDB_ID = "wandb_id.txt"  # in the run folder, from before the first step


@dataclass
class Watch:
    """A run's logger, with what has to be said to it at the end."""

    loggers: list[Logger] = field(default_factory=list)
    wandb: "Run | None" = None

    def results(self, scores: Scores, summary: dict[str, Any]) -> None:
        """Put the per-tag table and the summary where they are seen first."""
        if self.wandb is None:
            return
        import wandb

        rows = [
            [tag, scores.roc_auc[i].item(), scores.pr_auc[i].item(), int(scores.positives[i])]
            for i, tag in enumerate(scores.tags)
        ]
        columns: list[str | int] = ["tag", "roc_auc", "pr_auc", "positives"]
        self.wandb.log({"test/per_tag": wandb.Table(columns=columns, data=rows)})
        self.wandb.summary.update(summary)

    def close(self, *, failed: bool) -> None:
        """End the run, so that the next of a multirun begins its own; say how to upload an offline one."""
        if self.wandb is None:
            return
        offline, folder = self.wandb.settings._offline, self.wandb.settings.sync_dir
        self.wandb.finish(exit_code=int(failed))
        if offline:
            print(f"Weights & Biases: recorded offline; to upload: wandb sync {folder}", flush=True)


def start(
    settings: dict[str, Any], run: Path, *, config: dict[str, Any], name: str, group: str | None
) -> Watch:
    """Start the logger that ``settings`` (of ``conf/logger/``) ask for, writing into the run folder."""
    starters = {"wandb": _wandb, "csv": _csv, "tensorboard": _tensorboard, "none": lambda *_: Watch()}
    return starters[settings["name"]](settings, run, config, name, group)


def _csv(_settings: Any, run: Path, config: dict[str, Any], _name: str, _group: str | None) -> Watch:
    # The logger empties a folder that it finds: a resumed run gets the next one.
    logger = CSVLogger(run, name="csv", version=len(list(run.glob("csv/version_*"))))
    logger.log_hyperparams(config)
    return Watch([logger])


def _tensorboard(_settings: Any, run: Path, config: dict[str, Any], _name: str, _group: str | None) -> Watch:
    try:
        logger = TensorBoardLogger(run, name="tensorboard", version="")
    except ModuleNotFoundError as error:
        raise ValueError(
            'logger=tensorboard needs TensorBoard: pip install "samplecnn[tensorboard]"'
        ) from error
    logger.log_hyperparams(config)
    return Watch([logger])


def _wandb(
    settings: dict[str, Any], run: Path, config: dict[str, Any], name: str, group: str | None
) -> Watch:
    import wandb

    # Written before the first step, so that a resumed run goes on in the same W&B run.
    id_file = run / WANDB_ID
    if not id_file.is_file():
        write_atomically(id_file, uuid.uuid4().hex[:12])
    arguments: dict[str, Any] = {
        "project": settings["project"],
        "entity": settings["entity"],
        "group": settings["group"] or group,
        "name": name,
        "id": id_file.read_text(encoding="utf-8").strip(),
        "dir": str(run),
        "config": config,
    }
    mode: Any = os.environ.get("WANDB_MODE")
    try:
        if mode is None:
            mode = "online" if wandb.login(prompt=False) else "offline"
        if mode in ("online", "shared"):
            return _watch(wandb.init(**arguments, resume="allow"))
    except wandb.Error as error:
        log.warning("Weights & Biases cannot be used (%s): recording offline", error)
        mode = "offline"
    quiet = wandb.Settings(silent=True)
    return _watch(wandb.init(**arguments, mode=mode, settings=quiet))


def _watch(run: "Run") -> Watch:
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return Watch([WandbLogger(experiment=run)], run)
