"""One finished run, read from its folder; untrusted input.

Needed are ``results.json`` and ``config.yaml``; with ``predictions.npz`` there are intervals, with
``metrics.csv`` learning curves, with ``robustness.json`` scores under disturbances, with ``thresholds.json``
decisions. Checkpoints are not looked at.
"""

import csv
import io
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from samplecnn.model.architecture import own_rate
from samplecnn.runs.config import CONFIG, RunConfig, identity, read_config
from samplecnn.runs.errors import RunError
from samplecnn.runs.predictions import Predictions, belong_to, read_predictions
from samplecnn.runs.results import RESULTS, Results, read_results
from samplecnn.runs.robustness import ROBUSTNESS, Robustness, read_robustness
from samplecnn.runs.rules import flat
from samplecnn.runs.thresholds import FILE as THRESHOLDS
from samplecnn.runs.thresholds import Thresholds, read_run_thresholds
from samplecnn.runs.untrusted import MAX_JSON, read_bytes
from samplecnn.text import is_printable

T = TypeVar("T")

EPOCHS = "metrics.csv"
CURVES = ("epoch", "train_loss", "val_loss", "val_roc_auc", "seconds")


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run."""

    path: Path
    name: str  # the folder, relative to the folder above all runs
    results: Results
    config: RunConfig
    epochs: tuple[Mapping[str, float], ...]  # rows of metrics.csv; none if it cannot be read
    predictions: Predictions | None
    robustness: Robustness | None = None
    thresholds: Thresholds | None = None
    notes: tuple[str, ...] = ()  # what is wrong with it and did not keep it out

    @property
    def seed(self) -> int:
        """What initial weights, order and dropout were drawn from."""
        return self.results.seed

    @property
    def tags(self) -> tuple[str, ...]:
        """What the outputs mean, in their order."""
        return tuple(self.results.test.per_tag)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What the run computes, as one level of dotted keys: without paths, logger and machine.

        What is off (null or false) is left out, so that a key which an earlier version did not have yet makes
        no difference where it is off; so is the network's own rate, which need not be said.
        """
        values = {**dict(flat(identity(self.config.plain))), "trainer.precision": self.results.precision}
        if values.get("rate") == own_rate(self.config.model["name"]):
            values["rate"] = None
        return {
            key: value
            for key, value in values.items()
            if value is not None and value is not False and key != "trainer.accelerator"
        }

    @property
    def identity(self) -> tuple[dict[str, Any], str | None, str]:
        """What two runs have in common that should have the same results, under the same name."""
        return self.settings, self.config.recipe, self.results.split_hash

    @property
    def seconds_per_epoch(self) -> float:
        """Training and validation of an epoch: the median, which a slow first epoch does not move."""
        if not self.epochs:
            return self.results.train_seconds / self.results.epochs
        return statistics.median(row["seconds"] for row in self.epochs)


def read_run(folder: Path, name: str | None = None) -> Run:
    """Read one run folder; RunError where it has not finished, is damaged or was left by another version."""
    results, config = read_results(folder), read_config(folder)
    for key, value in flat(config.plain):
        if not is_printable(f"{key}{value}"):
            raise RunError(f"{CONFIG}: {key!r} holds what cannot be printed")
    block = config.block["name"] if config.block else None
    theirs = results.model, results.block, results.multi, results.seed
    if (config.model["name"], block, config.multi, config.seed) != theirs:
        raise RunError(f"{CONFIG} and {RESULTS} are of different runs: model, block, multi or seed differ")
    notes: list[str] = []

    def attempt(read: Callable[[Path], T | None], without: str) -> T | None:
        try:
            return read(folder)
        except RunError as error:
            notes.append(f"{error}: {without}")
            return None

    predictions = attempt(read_predictions, "it has no interval")
    if predictions is not None and not belong_to(predictions, results.test):
        raise RunError(f"predictions.npz and {RESULTS} are of different runs: their tags or AUC differ")
    epochs = attempt(read_epochs, "it has no learning curve") or ()
    robustness = attempt(lambda run: read_robustness(run / ROBUSTNESS), "it is not shown")
    if robustness is not None and robustness.split_hash != results.split_hash:
        notes.append(f"{ROBUSTNESS} is of another test split: it is not shown")
        robustness = None
    thresholds = attempt(read_run_thresholds, "it is not shown")
    if thresholds is not None and not _chosen_for(thresholds, results):
        notes.append(f"{THRESHOLDS} is of other tags or of another split: it is not shown")
        thresholds = None
    of_run = (epochs, predictions, robustness, thresholds)
    return Run(folder, name or folder.name, results, config, *of_run, notes=tuple(notes))


def _chosen_for(thresholds: Thresholds, results: Results) -> bool:
    tags = set(thresholds.per_tag) == set(results.test.per_tag)
    return tags and thresholds.split_hash == results.split_hash


def read_epochs(run: Path) -> tuple[dict[str, float], ...]:
    """Return the rows of a run's table of epochs, none without one; RunError for another file."""
    path = run / EPOCHS
    if not path.is_file():
        return ()
    try:
        text = io.StringIO(read_bytes(path, MAX_JSON).decode("utf-8"), newline="")
        rows = tuple({key: float(row.get(key) or "") for key in CURVES} for row in csv.DictReader(text))
        for key in ("epoch", "seconds"):  # of the others, a training that diverged leaves NaN
            if not all(0 <= row[key] < math.inf for row in rows):
                raise ValueError(f"{key} is not a number of at least 0 everywhere")
    except (ValueError, OSError, csv.Error) as error:
        raise RunError(f"{EPOCHS} cannot be read ({error})") from error
    return rows
