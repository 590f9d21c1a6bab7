"""One finished run, read from its folder as hostile.

Needed are ``results.json`` and ``config.yaml``; with ``predictions.npz`` there are intervals, with
``metrics.csv`` learning curves. Checkpoints are not looked at.
"""

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from samplecnn.runs.folder import NOT_IDENTITY, RunError, read_config, read_results
from samplecnn.runs.predictions import Predictions, belong_to, read_predictions
from samplecnn.runs.rules import NAME, NOT_NEGATIVE, RULES, Rule

CONFIG, RESULTS, EPOCHS = "config.yaml", "results.json", "metrics.csv"
LARGEST = 16 << 20  # bytes of a text file
CURVES = ("epoch", "train_loss", "val_loss", "val_roc_auc", "seconds")
ABSENT = object()

TEXT = Rule("a printable text", lambda v: isinstance(v, str) and bool(v) and v.isprintable())
COUNT = Rule("a whole number of at least 1", RULES["width"].holds)
# PyTorch's single precision may go a little beyond 1.
AUC = Rule("null or a number from 0 to 1", lambda v: v is None or (NOT_NEGATIVE.holds(v) and v < 1 + 1e-5))
# What a report uses of results.json; other keys may be there.
FIELDS = {
    "block": NAME,
    "multi": RULES["multi"],
    "seed": RULES["seed"],
    "data": NAME,
    "split": TEXT,
    "split_hash": TEXT,
    "width": COUNT,
    "parameters": COUNT,
    "epochs": COUNT,
    "train_seconds": NOT_NEGATIVE,
    "precision": TEXT,
    "hardware": TEXT,
    "config_hash": TEXT,
    "test.roc_auc": AUC,
    "test.pr_auc": AUC,
}
PER_TAG = {
    "roc_auc": AUC,
    "pr_auc": AUC,
    "positives": Rule("a whole number", lambda v: NOT_NEGATIVE.holds(v) and isinstance(v, int)),
}


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run."""

    path: Path
    name: str  # the folder, relative to the folder above all runs
    results: Mapping[str, Any]  # checked: see FIELDS
    config: Mapping[str, Any]
    epochs: tuple[Mapping[str, float], ...]  # rows of metrics.csv; none if it cannot be read
    predictions: Predictions | None
    notes: tuple[str, ...] = ()  # what is wrong with it and did not keep it out

    @property
    def seed(self) -> int:
        """What initial weights, order and dropout were drawn from."""
        return int(self.results["seed"])

    @property
    def tags(self) -> tuple[str, ...]:
        """What the outputs mean, in their order."""
        return tuple(self.results["test"]["per_tag"])

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What the run computes, as one level of dotted keys: without paths, logger and machine.

        What is off (null or false) is left out, so that a key which an earlier version did not have yet makes
        no difference where it is off.
        """
        flat = dict(_flatten(self.config))
        flat["trainer.precision"] = self.results["precision"]
        dropped = (*NOT_IDENTITY, "trainer.accelerator")
        return {
            key: value
            for key, value in flat.items()
            if value is not None
            and value is not False
            and not any(key == name or key.startswith(f"{name}.") for name in dropped)
        }

    @property
    def identity(self) -> tuple[dict[str, Any], str]:
        """What two runs have in common that should have the same results."""
        return self.settings, self.results["split_hash"]

    @property
    def dataset(self) -> str:
        """The kind of data set: ``mtat``, ``mini``, ``msd``, ... whatever the store is called."""
        catalog = dict(_flatten(self.config)).get("data.catalog._target_")
        return str(catalog).removesuffix(".catalog").rpartition(".")[2]

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the software that trained it."""
        told = self.results.get("versions")
        pairs = told.items() if isinstance(told, dict) else ()
        return {str(k): str(v) for k, v in pairs if TEXT.holds(v) and TEXT.holds(k)}

    @property
    def seconds_per_epoch(self) -> float:
        """Training and validation of an epoch: the median, which a slow first epoch does not move."""
        seconds = sorted(row["seconds"] for row in self.epochs)
        if not seconds:
            return float(self.results["train_seconds"] / self.results["epochs"])
        middle = len(seconds) // 2
        return (seconds[middle] + seconds[~middle]) / 2


def _flatten(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def read_run(folder: Path, name: str | None = None) -> Run:
    """Read one run folder; RunError where it has not finished, is damaged or was left by another version."""
    for file in (CONFIG, RESULTS, EPOCHS):
        if (folder / file).is_file() and (folder / file).stat().st_size > LARGEST:
            raise RunError(f"{file} is larger than {LARGEST >> 20} MiB: not a file of a run")
    try:
        results, config = read_results(folder), read_config(folder)
    except RunError:
        raise
    except Exception as error:  # the yaml library's, on a file that is not a configuration
        reason = str(error).partition("\n")[0] or "it does not hold keys and values"
        raise RunError(f"{CONFIG} or {RESULTS} cannot be read: {reason}") from error
    check_results(results)
    for key, value in _flatten(config):
        if not f"{key}{value}".isprintable():
            raise RunError(f"{CONFIG}: {key!r} holds what cannot be printed")
    block = config.get("block")
    cell = (block.get("name") if isinstance(block, dict) else None, config.get("multi"), config.get("seed"))
    if cell != (results["block"], results["multi"], results["seed"]):
        raise RunError(f"{CONFIG} and {RESULTS} are of different runs: block, multi or seed differ")
    notes = []
    predictions, epochs = None, None
    try:
        predictions = read_predictions(folder)
    except RunError as error:
        notes.append(f"{error}: it has no interval")
    if predictions is not None and not belong_to(predictions, results["test"]):
        raise RunError(f"predictions.npz and {RESULTS} are of different runs: their tags or AUC differ")
    try:
        epochs = read_epochs(folder / EPOCHS)
    except (ValueError, OSError, csv.Error) as error:
        notes.append(f"{EPOCHS} cannot be read ({error}): it has no learning curve")
    return Run(folder, name or folder.name, results, config, epochs or (), predictions, tuple(notes))


def read_epochs(path: Path) -> tuple[dict[str, float], ...]:
    """Return the rows of a run's table of epochs, none without the file; ValueError for another file."""
    if not path.is_file():
        return ()
    with path.open(newline="", encoding="utf-8") as file:
        rows = tuple({key: float(row.get(key) or "") for key in CURVES} for row in csv.DictReader(file))
    if not all(math.isfinite(row["seconds"]) and row["seconds"] >= 0 for row in rows):
        raise ValueError("seconds are not numbers of at least 0")
    return rows


def check_results(results: Mapping[str, Any]) -> None:
    """Raise RunError where results lack what a report needs, or hold something impossible."""
    flat = dict(_flatten({k: v for k, v in results.items() if k != "versions"}))
    for key, rule in FIELDS.items():
        _check(results, key, flat.get(key, ABSENT), rule)
    per_tag = results["test"].get("per_tag")
    if not isinstance(per_tag, dict) or not per_tag:
        raise RunError(f"{RESULTS}: test.per_tag names no tags; {_writer(results)}")
    for tag, values in per_tag.items():
        if not tag.isprintable():
            raise RunError(f"{RESULTS}: the name of tag {tag!r} is not printable")
        for key, rule in PER_TAG.items():
            value = values.get(key, ABSENT) if isinstance(values, dict) else ABSENT
            _check(results, f"test.per_tag.{tag}.{key}", value, rule)


def _check(results: Mapping[str, Any], key: str, value: Any, rule: Rule) -> None:
    if value is ABSENT:
        raise RunError(f"{RESULTS} has no {key}: {_writer(results)}")
    if not rule.holds(value):
        raise RunError(f"{RESULTS}: {key}={str(value)[:50]!r} must be {rule.allowed}")


def _writer(results: Mapping[str, Any]) -> str:
    """Say which version wrote the results."""
    versions = results.get("versions")
    theirs = versions.get("samplecnn") if isinstance(versions, dict) else None
    name = str(theirs or "of unknown version")[:20]
    ours = version("samplecnn")
    return f"it was written by samplecnn {name}, and this is {ours}: report with that one, or train again"
