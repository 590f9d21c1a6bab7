"""Where a run can be watched: Weights & Biases, CSV, TensorBoard or nowhere.

In Weights & Biases the runs of a sweep are a group of its name, with the job type ``train``; a report on them
is a run of the job type ``report`` in the same group.
"""

import csv
import logging
import os
import shlex
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from samplecnn.errors import UserError
from samplecnn.files import write
from samplecnn.runs.config import RunConfig, read_config
from samplecnn.runs.folder import WANDB_ID, WANDB_URL
from samplecnn.runs.results import Results
from samplecnn.runs.sweep_plan import sweep_of

if TYPE_CHECKING:
    import wandb
    from wandb.sdk.wandb_run import Run

log = logging.getLogger(__name__)

TAG_LENGTH = 64  # characters that Weights & Biases allows


@dataclass
class RunLogger:
    """What a run is logged with: Lightning's loggers, and the W&B run that has to be ended."""

    loggers: list[Logger] = field(default_factory=list)
    wandb: "Run | None" = None

    def log_results(self, results: Results) -> None:
        """Put the per-tag table and the summary where they are seen first."""
        if self.wandb is None:
            return
        import wandb

        columns: list[str | int] = ["tag", "roc_auc", "pr_auc", "positives"]
        rows = [[tag, s.roc_auc, s.pr_auc, s.positives] for tag, s in results.test.per_tag.items()]
        self.wandb.log({"test/per_tag": wandb.Table(columns=columns, data=rows)})
        self.wandb.summary.update({k: v for k, v in results.as_dict().items() if not isinstance(v, dict)})

    def close(self, *, failed: bool) -> None:
        """End the run, so that the next of a multirun begins its own; say how to upload an offline one."""
        if self.wandb is None:
            return
        offline, folder = self.wandb.settings._offline, self.wandb.settings.sync_dir
        self.wandb.finish(exit_code=int(failed))
        if offline:
            print(
                f"Weights & Biases: recorded offline; to upload: wandb sync {shlex.quote(folder)}", flush=True
            )


def start(config: RunConfig, run: Path) -> RunLogger:
    """Start the logger that the configuration asks for, writing into the run folder."""
    match config.logger.name:
        case "wandb":
            started = _start_wandb(config, run)
            return RunLogger([WandbLogger(experiment=started)], started)
        case "csv":
            # The logger empties a folder that it finds: a resumed run gets the next one.
            logger: Logger = CSVLogger(run, name="csv", version=len(list(run.glob("csv/version_*"))))
        case "tensorboard":
            try:
                logger = TensorBoardLogger(run, name="tensorboard", version="")
            except ModuleNotFoundError as error:
                raise UserError(
                    'logger=tensorboard needs TensorBoard: pip install "samplecnn[tensorboard]"'
                ) from error
        case _:
            return RunLogger()
    logger.log_hyperparams(config.plain)
    return RunLogger([logger])


def _start_wandb(config: RunConfig, run: Path) -> "Run":
    settings = config.logger
    tags = [config.model["name"], config.data.name]
    if config.block is not None:
        tags[:1] = [config.block["name"], "multi" if config.multi else "no multi"]
    started = _begin(
        run,
        project=settings.project,
        entity=settings.entity,
        group=settings.group,
        job_type="train",
        name=settings.run_name,
        tags=[tag[:TAG_LENGTH] for tag in tags],
        config=config.plain,
    )
    started.define_metric("trainer/global_step")
    started.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return started


def _begin(folder: Path, **arguments: Any) -> "Run":
    """Start the W&B run of a folder, or go on with it; offline where there is no login."""
    import wandb

    id_file = folder / WANDB_ID
    if os.environ.get("WANDB_SWEEP_ID"):  # its agent has chosen the project and the run's id
        arguments |= {"project": None, "entity": None}
    else:
        # Written before the first step, so that a resumed run goes on in the same W&B run.
        if not id_file.is_file():
            write(id_file, uuid.uuid4().hex[:12])
        arguments["id"] = id_file.read_text(encoding="utf-8").strip()
    arguments["dir"] = str(folder)
    mode: Any = os.environ.get("WANDB_MODE")
    try:
        if mode is None:
            mode = "online" if wandb.login(prompt=False) else "offline"
        if mode in ("online", "shared"):
            started = wandb.init(**arguments, resume="allow")
            if started.url:
                write(folder / WANDB_URL, started.url)
            return started
    except wandb.Error as error:
        log.warning("Weights & Biases cannot be used (%s): recording offline", error)
        mode = "offline"
    return wandb.init(**arguments, mode=mode, settings=wandb.Settings(silent=True))


def attach_report(folder: Path, runs: Sequence[Path]) -> None:
    """Log what a folder holds about runs to Weights & Biases, in the group of these runs.

    CSV files become tables that can be sorted, PNG files images, pages and SVG figures are shown as they are;
    all files are an artifact of the type ``report`` too. The same folder again goes on in the same W&B run.
    Raises UserError for an empty folder, and for runs that were not recorded by Weights & Biases or are of
    several projects or groups.
    """
    import wandb

    own = (WANDB_ID, WANDB_URL)
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name not in own)
    if not files:
        raise UserError(f"{folder} holds no files to attach")
    project, entity, group = _place(runs)
    of = group or ", ".join(run.name for run in runs)
    arguments = {"project": project, "entity": entity, "group": group, "job_type": "report"}
    report = _begin(folder, **arguments, name=f"report on {of}", config={"runs": [str(run) for run in runs]})
    failed = True
    try:
        artifact = wandb.Artifact(f"report-{report.id}", type="report", description=f"Report on {of}")
        for path in files:
            artifact.add_file(str(path))
        report.log({key: value for path in files for key, value in _shown(path).items()})
        report.log_artifact(artifact)
        failed = False
    finally:
        RunLogger(wandb=report).close(failed=failed)


def _place(runs: Sequence[Path]) -> tuple[str, str | None, str | None]:
    """Return project, entity and group that runs were recorded in."""
    places: dict[tuple[str, str | None, str | None], Path] = {}
    for run in runs:
        settings = read_config(run).logger
        if settings.name == "wandb":
            place = settings.project or "", settings.entity, settings.group or sweep_of(run)
            places.setdefault(place, run)
    if not places:
        raise UserError(f"none of the {len(runs)} runs was recorded by Weights & Biases (logger=wandb)")
    if len(places) > 1:
        found = "; ".join(f"{run}: {project}, {group}" for (project, _, group), run in places.items())
        raise UserError(f"the runs are of several projects or groups of Weights & Biases: {found}")
    return next(iter(places))


def _shown(path: Path) -> dict[str, Any]:
    """Return what W&B shows of a file, under its key; nothing for a kind of file that it does not show."""
    import wandb

    match path.suffix:
        case ".csv":
            return {f"tables/{path.stem}": _table(path)}
        case ".png":
            return {f"figures/{path.stem}": wandb.Image(str(path))}
        case ".svg" if not path.with_suffix(".png").exists():
            return {f"figures/{path.stem}": wandb.Html(path.read_text(encoding="utf-8"), inject=False)}
        case ".html":
            return {f"pages/{path.stem}": wandb.Html(str(path), inject=False)}
    return {}


def _table(path: Path) -> "wandb.Table":
    """Return a CSV file as a table: numbers as numbers, so that they sort; None for empty fields."""
    import wandb

    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    columns = [_numbers([row[index] for row in rows]) for index in range(len(header))]
    return wandb.Table(columns=list(header), data=[list(row) for row in zip(*columns, strict=True)])


def _numbers(column: Sequence[str]) -> list[Any]:
    for kind in (int, float):
        try:
            return [kind(text) if text else None for text in column]
        except ValueError:
            continue
    return [text or None for text in column]
