"""The configuration of a run that starts from a trained model: it has that model's network and rate."""

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from samplecnn.model.architecture import SAMPLECNN, own_rate
from samplecnn.model.blocks import BLOCKS
from samplecnn.model.network import SampleCNN
from samplecnn.model.networks import NETWORKS
from samplecnn.model.networks.network import Network
from samplecnn.runs.config import RunConfig
from samplecnn.runs.description import Description
from samplecnn.runs.folder import find_checkpoint, read_description
from samplecnn.runs.rules import OF_SAMPLECNN
from samplecnn.training.config import OTHERS_LACK, ConfigError, check
from samplecnn.training.network import own_classes
from samplecnn.training.start import read_model

OURS: dict[str, type[Network]] = {SAMPLECNN: SampleCNN, **NETWORKS}
Own = tuple[tuple[str, type], ...]  # classes of the user's own, by name
TAKEN = ("model", *OF_SAMPLECNN, "rate")  # keys that the model decides


def with_model(plain: Mapping[str, Any], overrides: Sequence[str], path: Path) -> dict[str, Any]:
    """Return the configuration with network and rate of the model in ``path``, and the hash of its weights.

    ``plain`` is validated, ``overrides`` are what was typed: of dropout that holds, else the model's. Raises
    RunError for what is no model, and ConfigError where what was typed is not the model's.
    """
    description = read_description(path)
    typed = dict(override.lstrip("+~").partition("=")[::2] for override in overrides)
    taken = _taken(plain, description, path)
    if different := _different(plain, taken, typed):
        raise ConfigError(
            f"a run that starts from {path} has its network ({', '.join(description.words)}, "
            f"{description.sample_rate} Hz): leave out {' '.join(different)}"
        )
    if "dropout" not in typed:
        taken["dropout"] = description.dropout
    if "block.dropout" in typed:
        taken["block"]["dropout"] = plain["block"]["dropout"]
    others = {key: value for key, value in plain.items() if key not in (*TAKEN, *OTHERS_LACK)}
    if description.model["name"] == SAMPLECNN:
        taken["running_statistics"] = plain.get("running_statistics", "average")
    config = check({**others, **taken, "init": str(path.resolve())})
    own = own_classes(RunConfig.read(config, "the configuration"))
    written = find_checkpoint(path).stat().st_mtime_ns
    return {**config, "init_sha256": _sha256(path, written, *(tuple(classes.items()) for classes in own))}


@cache
def _sha256(path: Path, _written: int, blocks: Own, networks: Own) -> str:
    """Return the hash of a model's weights; a sweep asks for it in every cell."""
    return read_model(path, (dict(blocks), dict(networks)))[1]


def _taken(plain: Mapping[str, Any], description: Description, path: Path) -> dict[str, Any]:
    """Return what a model decides, as the configuration has it."""
    name = description.model["name"]
    rate = None if description.sample_rate == own_rate(name) else description.sample_rate
    taken: dict[str, Any] = {
        "model": _with_class("model", description.model, OURS, plain, path),
        "rate": rate,
    }
    if description.block is not None:
        block = _with_class("block", description.block, BLOCKS, plain, path)
        taken |= {"block": block, "multi": description.multi, "width": description.width}
    return taken


def _with_class(
    group: str, options: Mapping[str, Any], ours: Mapping[str, type], plain: Mapping[str, Any], path: Path
) -> dict[str, Any]:
    """Return a model's block or network with the name of its class: nothing is imported that a file names."""
    name, typed = options["name"], plain.get(group) or {}
    if name in ours:
        target = f"{ours[name].__module__}.{ours[name].__qualname__}"
    elif typed.get("name") == name:
        target = typed["_target_"]
    else:
        raise ConfigError(
            f"{path} has {group} {name!r}, which is none of {', '.join(ours)}. Say which class it is: "
            f"{group}=custom {group}.name={name} {group}._target_=MODULE.CLASS, and its options"
        )
    return {**options, "_target_": target}


def _different(plain: Mapping[str, Any], taken: Mapping[str, Any], typed: Mapping[str, str]) -> list[str]:
    """Return what was typed of the network and is not the model's."""
    ours, theirs = (_network_keys(config) for config in (plain, taken))
    keys = {key for key in (*ours, *theirs) if ours.get(key) != theirs.get(key)}
    found = [o for o in typed if any(key == o or key.startswith(f"{o}.") for key in keys)]
    # model=rese2 is a block too.
    if "model" in typed and typed["model"] not in OURS and any(key.startswith("block.") for key in keys):
        found.append("model")
    # What an experiment chooses is not typed.
    if not found and ours["model.name"] not in (SAMPLECNN, theirs["model.name"]):
        return [f"model={ours['model.name']}"]
    return [f"{key}={typed[key]}" for key in dict.fromkeys(found)]


def _network_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides shape and rate of a network, by dotted keys, less options at their defaults."""
    found = {key: config.get(key) for key in ("multi", "width")}
    found["rate"] = config.get("rate") or own_rate(config["model"]["name"])
    groups: tuple[tuple[str, Mapping[str, type]], ...] = (("model", OURS), ("block", BLOCKS))
    for group, ours in groups:
        options = config.get(group) or {}
        known = inspect.signature(ours[options["name"]]).parameters if options.get("name") in ours else {}
        for key, value in options.items():
            if key not in ("_target_", "dropout") and not (key in known and known[key].default == value):
                found[f"{group}.{key}"] = value
    return found
