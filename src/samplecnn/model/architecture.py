"""A network from the plain description that run folders and model files hold."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

from torch import nn

from samplecnn.errors import UserError
from samplecnn.model.blocks import BLOCKS
from samplecnn.model.network import SampleCNN
from samplecnn.model.networks import NETWORKS
from samplecnn.model.networks.network import Network, NetworkError

SAMPLECNN = "samplecnn"  # the network that an architecture is of unless it says otherwise

Blocks = Mapping[str, type[nn.Module]]
Networks = Mapping[str, type[Network]]
Module = TypeVar("Module", bound=nn.Module)


class BlockError(UserError):
    """There is no such block, or it does not take what is asked of it."""


def build(
    architecture: Mapping[str, Any], tags: int, blocks: Blocks | None = None, networks: Networks | None = None
) -> Network:
    """Build the network that ``architecture`` describes, with fresh weights.

    ``architecture`` holds ``model`` (a network's short name and options, such as ``{"name": "shortchunk",
    "res": True}``; without it SampleCNN is meant) and ``dropout``; of a SampleCNN also ``block`` (likewise,
    such as ``{"name": "se", "alpha": 16}``), ``multi`` and ``width``. ``sample_rate`` in Hz is the network's
    own where it is left out. Blocks and networks that are not of this project come from ``blocks`` and
    ``networks``, by name: nothing that a file names is ever imported.

    Raises BlockError and NetworkError for an unknown block or network, for one of the user's under the name
    of one of these, for options that it does not take, and for a rate that it does not hear.
    """
    options = dict(architecture.get("model") or {"name": SAMPLECNN})
    name = options.pop("name")
    chosen = _chosen("network", name, {SAMPLECNN: SampleCNN, **NETWORKS}, networks, NetworkError)
    if chosen is SampleCNN:
        network = _sample_cnn(architecture, options, tags, blocks)
    else:
        network = _other(chosen, name, {**options, "dropout": architecture["dropout"]}, tags)
    rate = architecture.get("sample_rate") or network.sample_rate
    if rate != network.sample_rate and not network.any_rate:
        raise NetworkError(f"network {name!r} hears {network.sample_rate} Hz, not {rate}")
    network.sample_rate = rate
    return network


def own_rate(name: str) -> int | None:
    """Return the rate in Hz that a network of this project hears by itself, None for another network."""
    known: Networks = {SAMPLECNN: SampleCNN, **NETWORKS}
    return known[name].sample_rate if name in known else None


def _sample_cnn(
    architecture: Mapping[str, Any], others: dict[str, Any], tags: int, blocks: Blocks | None
) -> Network:
    options = dict(architecture["block"])
    name = options.pop("name")
    block = _chosen("block", name, BLOCKS, blocks, BlockError)
    try:
        return SampleCNN(
            partial(block, **options),
            tags=tags,
            width=architecture["width"],
            multi=architecture["multi"],
            dropout=architecture["dropout"],
            **others,
        )
    except (TypeError, ValueError) as error:
        said = {**options, **others}
        raise BlockError(f"block {name!r} cannot be built with the options {said}: {error}") from error


def _other(chosen: type[Network], name: str, options: dict[str, Any], tags: int) -> Network:
    try:
        return chosen(tags=tags, **options)
    except (TypeError, ValueError) as error:
        takes = ", ".join(option for option in inspect.signature(chosen).parameters if option != "tags")
        reason = f"{error}. It takes {takes}"
        raise NetworkError(f"network {name!r} cannot be built with {options}: {reason}") from error


def _chosen(
    kind: str,
    name: str,
    ours: Mapping[str, type[Module]],
    theirs: Mapping[str, type[Module]] | None,
    error: type[UserError],
) -> type[Module]:
    """Return the class of a name out of the project's table or the user's own; ``error`` for none or two."""
    own = dict(theirs or {})
    if taken := sorted(own.keys() & ours.keys()):
        raise error(
            f"{taken[0]!r} is one of samplecnn's own {kind}s ({', '.join(ours)}): give your own another name"
        )
    known = {**ours, **own}
    if name not in known:
        raise error(
            f"unknown {kind} {name!r}; known are {', '.join(known)}. "
            f"A {kind} of your own is passed in by the caller: {kind}s={{{name!r}: TheClass}}, "
            f"on the command line --{kind} {name}=MODULE.CLASS"
        )
    return known[name]
