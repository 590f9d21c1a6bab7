"""A network from the plain description that run folders and model files hold."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from torch import nn

from samplecnn.model.blocks import BLOCKS
from samplecnn.model.network import SampleCNN
from samplecnn.model.networks import NETWORKS
from samplecnn.model.networks.network import Network, NetworkError
from samplecnn.model.probe import Probe

SAMPLECNN = "samplecnn"  # the network that an architecture is of unless it says otherwise

Blocks = Mapping[str, type[nn.Module]]
Networks = Mapping[str, type[Network]]
OURS: Networks = {SAMPLECNN: SampleCNN, **NETWORKS}
Module = TypeVar("Module", bound=nn.Module)


def build(
    architecture: Mapping[str, Any], tags: int, blocks: Blocks | None = None, networks: Networks | None = None
) -> Network:
    """Build the network that ``architecture`` describes, with fresh weights.

    ``architecture`` holds ``model`` (a network's short name and options, such as ``{"name": "shortchunk",
    "res": True}``; without it SampleCNN is meant) and ``dropout``; of a SampleCNN also ``block`` (likewise,
    such as ``{"name": "se", "alpha": 16}``), ``multi`` and ``width``. ``sample_rate`` in Hz is the network's
    own where it is left out. With ``probe`` the tags are said by a classifier with ``hidden`` units (None:
    none) that hears ``levels`` of this network, which itself has ``tags`` of another number.
    Blocks and networks that are not of this project come from ``blocks`` and ``networks``, by name: nothing
    that a file names is ever imported.

    Raises NetworkError for an unknown block or network, for one of the user's under the name
    of one of these, for options that it does not take, and for a rate that it does not hear; LevelError for a
    level that the network does not have.
    """
    options = dict(architecture.get("model") or {"name": SAMPLECNN})
    name = options.pop("name")
    make: Callable[..., Network] = _chosen("network", name, OURS, networks)
    what, given, takes = f"network {name!r}", {**options, "dropout": architecture["dropout"]}, ""
    if make is SampleCNN:
        of_block = dict(architecture["block"])
        block_name = of_block.pop("name")
        block = partial(_chosen("block", block_name, BLOCKS, blocks), **of_block)
        make = partial(SampleCNN, block, width=architecture["width"], multi=architecture["multi"])
        what, given = f"block {block_name!r}", {**of_block, **options}
    else:
        takes = ", ".join(option for option in inspect.signature(make).parameters if option != "tags")
        takes = f". It takes {takes}"
    probe, dropout = architecture.get("probe"), architecture["dropout"]
    try:
        network = make(tags=tags if probe is None else probe["tags"], dropout=dropout, **options)
    except (TypeError, ValueError) as error:
        raise NetworkError(f"{what} cannot be built with the options {given}: {error}{takes}") from error
    rate = architecture.get("sample_rate") or network.sample_rate
    if rate != network.sample_rate and not network.any_rate:
        raise NetworkError(f"network {name!r} hears {network.sample_rate} Hz, not {rate}")
    network.sample_rate = rate
    if probe is None:
        return network
    return Probe(network, probe["levels"], tags=tags, hidden=probe["hidden"], dropout=dropout)


def own_rate(name: str) -> int | None:
    """Return the rate in Hz that a network of this project hears by itself, None for another network."""
    return OURS[name].sample_rate if name in OURS else None


def _chosen(
    kind: str, name: str, ours: Mapping[str, type[Module]], theirs: Mapping[str, type[Module]] | None
) -> type[Module]:
    """Return a class by name, of the project's table or the user's own; NetworkError for none or two."""
    own = dict(theirs or {})
    if taken := sorted(own.keys() & ours.keys()):
        raise NetworkError(
            f"{taken[0]!r} is one of samplecnn's own {kind}s ({', '.join(ours)}): give your own another name"
        )
    known = {**ours, **own}
    if name not in known:
        raise NetworkError(
            f"unknown {kind} {name!r}; known are {', '.join(known)}. "
            f"A {kind} of your own is passed in by the caller: {kind}s={{{name!r}: TheClass}}, "
            f"on the command line --{kind} {name}=MODULE.CLASS"
        )
    return known[name]
