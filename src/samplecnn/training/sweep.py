"""Multiruns: every cell checked before the first starts, and a table of all at the end."""

import json
import sys
from pathlib import Path
from typing import Any

from hydra import compose
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from samplecnn.training.config import ConfigError, validate

CELL = "cell.json"  # in a job's folder: the overrides that make it
CELLS = "cells.json"  # in the sweep's folder: those of all its jobs


class SweepGuard(Callback):
    """Refuses a multirun with an impossible cell before any is trained, and remembers where it is."""

    folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Compose and validate every cell; exit with what is wrong with which."""
        planned = []
        if config.hydra.sweeper._target_.endswith("BasicSweeper"):
            planned = cells(list(config.hydra.overrides.task))
        for overrides in planned:
            try:
                validate(compose(config.hydra.job.config_name, overrides=overrides))
            except ConfigError as error:
                sys.exit(f"{' '.join(overrides)}\n{error}")
        SweepGuard.folder = Path(config.hydra.sweep.dir)
        SweepGuard.folder.mkdir(parents=True, exist_ok=True)
        (SweepGuard.folder / CELLS).write_text(json.dumps(planned), encoding="utf-8")

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Write down what makes this cell."""
        if config.hydra.mode is not None and config.hydra.mode.name == "MULTIRUN":
            folder = Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir
            folder.mkdir(parents=True, exist_ok=True)
            cell = {"overrides": list(config.hydra.overrides.task)}
            (folder / CELL).write_text(json.dumps(cell), encoding="utf-8")


def cells(overrides: list[str]) -> list[list[str]]:
    """Return the override lists of all jobs of a multirun, as Hydra's own sweeper orders them."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    batches: list[list[list[str]]] = BasicSweeper.split_arguments(parsed, None)
    return [cell for batch in batches for cell in batch]


def varying(folder: Path, overrides: list[str]) -> list[str]:
    """Return those overrides of a cell that are not the same in all cells of the sweep in ``folder``."""
    planned = json.loads((folder / CELLS).read_text(encoding="utf-8"))
    same = set.intersection(*map(set, planned)) if len(planned) > 1 else set()
    return [override for override in overrides if override not in same]


def print_table(folder: Path) -> bool:
    """Print what each cell of a multirun came to; return whether all have finished."""
    jobs = sorted((path.parent for path in folder.glob(f"*/{CELL}")), key=lambda job: int(job.name))
    told = {job: json.loads((job / CELL).read_text(encoding="utf-8"))["overrides"] for job in jobs}
    table = Table("cell", "test ROC-AUC", "test PR-AUC", "parameters", "train", "folder")
    finished = True
    for job, overrides in told.items():
        name = " ".join(varying(folder, overrides)) or "(defaults)"
        if (job / "results.json").is_file():
            results = json.loads((job / "results.json").read_text(encoding="utf-8"))
            test = results["test"]
            table.add_row(
                name,
                _score(test["roc_auc"]),
                _score(test["pr_auc"]),
                f"{results['parameters']:,}",
                f"{results['train_seconds']:.0f} s",
                str(job),
            )
        else:
            finished = False
            table.add_row(name, "failed", "", "", "", str(job))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return finished


def _score(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
