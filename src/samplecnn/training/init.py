"""Runs that start from a trained model: they have its network and rate, and its weights."""

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from hydra.utils import get_class
from torch import nn

from samplecnn.model.architecture import OURS, SAMPLECNN, Blocks, Networks, own_rate
from samplecnn.model.blocks import BLOCKS
from samplecnn.model.network import last_layer, sample_cnns
from samplecnn.model.networks.network import Network
from samplecnn.model.norm import restart_statistics
from samplecnn.runs import weights
from samplecnn.runs.config import RunConfig
from samplecnn.runs.description import Description
from samplecnn.runs.folder import Model, find_checkpoint, load_model, read_description, unfinished
from samplecnn.runs.rules import OF_SAMPLECNN
from samplecnn.training.config import OTHERS_LACK, ConfigError, check
from samplecnn.training.ranks import on_all

log = logging.getLogger(__name__)

TAKEN = ("model", *OF_SAMPLECNN, "rate")  # keys that the model decides
Classes = tuple[Blocks, Networks]  # of blocks and networks that are the user's own
Module = TypeVar("Module", bound=nn.Module)

_hashes: dict[tuple[Path, int], str] = {}  # of weights, by file and its time: a sweep asks in every cell


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
    if description.probe is not None:
        taken["probe"] = asdict(description.probe)
    config = check({**others, **taken, "init": str(path.resolve())})
    key = path, find_checkpoint(path).stat().st_mtime_ns
    if key not in _hashes:
        _, _hashes[key] = read_model(path, own_classes(RunConfig.read(config, "the configuration")))
    return {**config, "init_sha256": _hashes[key]}


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


def own_classes(config: RunConfig) -> Classes:
    """Return the classes of the block and of the network under their names, where they are not ours."""
    blocks = _own("block", config.block, BLOCKS, nn.Module) if config.block else {}
    return blocks, _own("model", config.model, OURS, Network)


def _own(
    group: str, chosen: Mapping[str, Any], ours: Mapping[str, type[Module]], base: type[Module]
) -> dict[str, type[Module]]:
    name, target = chosen["name"], chosen.get("_target_")
    if target is None:  # of before there were others
        return {}
    try:
        found = get_class(target)
    except Exception as error:  # Hydra wraps whatever an import raises
        raise ConfigError(f"{group}._target_={target} cannot be imported: {error}") from error
    if not issubclass(found, base):
        raise ConfigError(f"{group}._target_={target} is not a {base.__module__}.{base.__name__}")
    return {} if found is ours.get(name) else {name: found}


def start(
    network: Network, config: RunConfig, tags: Sequence[str], classes: Classes, *, goes_on: bool
) -> None:
    """Give a fresh network the weights of the model that ``config.init`` names, and freeze parts of it.

    Where the model's tags are others, or in another order, the last layer stays as it is: fresh. A run that
    ``goes_on`` has its weights in its checkpoint, and needs the model no more. Raises RunError where that
    cannot be read, and ConfigError where its weights are not those that the configuration is of.
    """
    if config.init is None:
        return
    if not goes_on:
        path = Path(config.init)
        model, sha256 = on_all(lambda: read_model(path, classes))
        if sha256 != config.init_sha256:
            raise ConfigError(f"{path} holds other weights than before (SHA-256 {sha256})")
        log.info("starting from %s: %s", path, ", ".join(model.description.words))
        if (sentence := unfinished(path)) is not None:
            log.warning(sentence)
        take_over(network, model, tags)
    freeze(network, config.freeze)
    restart_statistics(network)


def read_model(path: Path, classes: Classes) -> tuple[Model, str]:
    """Return a model and the SHA-256 of its weights, the same in a checkpoint and in a bundle.

    Raises RunError for what is not a model, or is damaged.
    """
    model = load_model(path, *classes)
    return model, weights.sha256(weights.encode(model.network.state_dict()))


def take_over(network: Network, model: Model, tags: Sequence[str]) -> None:
    """Copy a model's weights into a network of its architecture; log what is taken and what is new."""
    taken = model.network.state_dict()
    if model.tags != tuple(tags):
        last = f"{last_layer(network)}."
        taken = {name: tensor for name, tensor in taken.items() if not name.startswith(last)}
    new = network.load_state_dict(taken, strict=False).missing_keys
    number = sum(tensor.numel() for tensor in taken.values() if tensor.is_floating_point())
    log.info("taken over: %d tensors, %s parameters", len(taken), f"{number:,}")
    if not new:
        log.info("its %d tags are those of the data: nothing is new", len(tags))
        return
    common = len(set(model.tags) & set(tags))
    log.info(
        "new: %s, for %d tags; the model has %d, of which %d are of the same name and begin anew too",
        *(", ".join(new), len(tags), len(model.tags), common),
    )


def freeze(network: Network, what: str | int) -> None:
    """Freeze ``"features"`` (all but the last layer), or the stem and so many blocks of a SampleCNN.

    The network's own dropout, which is in front of the last layer, goes on.
    """
    if what == "none":
        return
    if what == "features":
        last = last_layer(network)
        network.requires_grad_(False)
        network.get_submodule(last).requires_grad_(True)
        children = network.named_children()
        network.freeze(m for name, m in children if name != last and not isinstance(m, nn.Dropout))
    else:
        [found] = sample_cnns(network)
        network.freeze([found.stem_conv, found.stem_bn, *found.blocks[: int(what)]])
    sizes = [parameter.numel() for parameter in network.parameters()]
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    log.info("frozen (freeze=%s): %s of %s weights", what, f"{sum(sizes) - trained:,}", f"{sum(sizes):,}")
