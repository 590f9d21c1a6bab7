"""The configuration of a run that goes on: its own, which is untrusted input, with what may change."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from samplecnn.data.datasets import DATASETS
from samplecnn.model.blocks import BLOCKS
from samplecnn.model.network import SampleCNN
from samplecnn.model.networks import NETWORKS
from samplecnn.overrides import override
from samplecnn.runs.config import CONFIG, read_config
from samplecnn.runs.rules import flat
from samplecnn.training.config import PATHS, ConfigError, check
from samplecnn.training.schedules import SCHEDULES

RESUMABLE = ("trainer", "logger", "fast")


def _names(classes: Iterable[type]) -> set[str | None]:
    return {f"{c.__module__}.{c.__qualname__}" for c in classes}


# The classes and functions that a configuration names; a run folder may name these.
OWN_TARGETS = {
    "model": _names([SampleCNN, *NETWORKS.values()]),
    "block": _names(BLOCKS.values()),
    "schedule": _names(SCHEDULES.values()),
    "data.catalog": {name for known in DATASETS.values() for name in (known.catalog, known.formerly)},
}


def resumed(config: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return the configuration of the run to resume, with what may change from sitting to sitting.

    ``config`` is the validated configuration of this call. The run's own is untrusted input: it has the keys
    and values of ours alone, and nothing in it is imported but parts of this project and what the command
    line names again. Raises ConfigError for anything else, and for an override that would make it another
    run.
    """
    run = Path(config["resume"])
    stored = read_config(run).plain
    said: dict[str, str] = {}
    for changed in overrides:
        key, _, value = changed.lstrip("+").partition("=")
        if key == "resume":
            continue
        if key.removesuffix("._target_") in OWN_TARGETS:
            said[key.removesuffix("._target_")] = value
            continue
        if key.partition(".")[0] not in RESUMABLE and key not in PATHS:
            raise ConfigError(
                f"{changed}: a run is resumed with its own configuration; "
                f"only {', '.join(RESUMABLE)} and {', '.join(PATHS)} can change"
            )
        _take_over(key, config, stored)
    require_own(stored, said, run / CONFIG)
    try:
        return {**check(stored), "resume": str(run)}
    except ConfigError as error:
        raise ConfigError(f"{run / CONFIG}: {error}") from error


def _take_over(key: str, new: Mapping[str, Any], stored: dict[str, Any]) -> None:
    """Put the value of a dotted key into the stored configuration; a run keeps its name for W&B."""
    group, _, name = key.partition(".")
    kept, value = stored.get(group, {}), new[group]
    if name:
        value = {**kept, name: value[name]}
    elif group == "logger" and value.get("run_name", "") is None:
        value = {**value, "run_name": kept.get("run_name")}
    stored[group] = value


def require_own(stored: Mapping[str, Any], said: Mapping[str, str], file: Path) -> None:
    """Raise ConfigError where a run's configuration would import or call what is not of this project.

    ``said`` are the classes and functions that the command line names again.
    """
    values = dict(flat(stored))
    for part, own in OWN_TARGETS.items():
        if part in ("model", "block") and stored.get(part) is None:
            continue  # of before there were other models, or of one without blocks
        target = values.get(f"{part}._target_")
        if not isinstance(target, str) or not re.fullmatch(r"\w+(\.\w+)+", target, re.ASCII):
            raise ConfigError(f"{file} has {part}._target_={target!r:.80}, which is no name of a class")
        if target not in own and said.get(part) != target:
            raise ConfigError(
                f"{file} has {part}._target_={target}, which is not of this project. "
                f"To run it, say it again on the command line: {override(f'{part}._target_', target)}"
            )
    allowed = {f"{part}._target_" for part in OWN_TARGETS}
    for key in _called(stored):
        if key not in allowed:
            raise ConfigError(f"{file} has {key}, which a run's configuration does not have")


def _called(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys that Hydra acts on when it calls something (``_target_``, ``_args_``, ...)."""
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        if str(key).startswith("_"):
            yield f"{prefix}{key}"
        yield from _called(value, f"{prefix}{key}.")
