"""Reading the levels of a network: what it has made of a segment on the way to its tags.

    with Levels(network, ("block8", "block9")) as levels:
        network(waveforms)
        low, high = levels.take()  # (batch, features) each

A SampleCNN has `block1` to `block9`, the outputs of its blocks, each reduced to its maximum over time (what
multi-level aggregation joins), and `last`, what its last dense layer hears. Any other network has `last`,
and `fc`, what the dense layer before hears, if it calls one so.
"""

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any, Self

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from samplecnn.errors import UserError
from samplecnn.model.network import SampleCNN
from samplecnn.model.networks.network import Network

LAST = "last"
DENSE = ("fc", LAST)  # attributes of networks that are no SampleCNN


class LevelError(UserError):
    """A network has no such level."""


def level_layers(network: Network) -> dict[str, nn.Module]:
    """Return the layers by level: blocks, whose outputs are read, and dense layers, whose inputs are."""
    if isinstance(network, SampleCNN):
        blocks = {f"block{number}": block for number, block in enumerate(network.blocks, start=1)}
        return {**blocks, LAST: network.head_fc2}
    named = {name: getattr(network, name, None) for name in DENSE}
    return {name: layer for name, layer in named.items() if isinstance(layer, nn.Linear)}


def default_levels(network: Network) -> tuple[str, ...]:
    """Return the levels of the features that a network tags by.

    Of a SampleCNN what its dense layers hear: its last three blocks, or the last where they are not joined.
    """
    if isinstance(network, SampleCNN):
        return tuple(level_layers(network))[-1 - network.levels : -1]
    return (LAST,)


def _width(network: Network, name: str, layer: nn.Module) -> int:
    """Return how many features a level has."""
    if isinstance(layer, nn.Linear):
        return layer.in_features
    assert isinstance(network, SampleCNN)
    return network.channels[int(name.removeprefix("block"))]


class _Seen(threading.local):
    """What each thread has seen last; a copy, as of a network that is read for good, begins empty."""

    def __deepcopy__(self, _memo: dict[int, Any]) -> "_Seen":
        return _Seen()


class Levels:
    """What a network makes of segments at some levels, within the ``with``; each thread sees its own.

    ``names`` are in the order of what `take` returns, by default `default_levels`, and ``widths`` how many
    features each has. Raises LevelError for a level that the network does not have, and for one that is named
    twice.
    """

    def __init__(self, network: Network, names: Sequence[str] | None = None) -> None:
        layers = level_layers(network)
        self.names = default_levels(network) if names is None else tuple(names)
        if unknown := [name for name in self.names if name not in layers]:
            raise LevelError(f"{network.title} has no level {unknown[0]!r}; allowed are {', '.join(layers)}")
        if not self.names or len(set(self.names)) < len(self.names):
            raise LevelError(f"levels {','.join(self.names)}: name one or more, and none twice")
        self._layers = {name: layers[name] for name in self.names}
        self.widths = tuple(_width(network, name, layer) for name, layer in self._layers.items())
        self._seen = _Seen()
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for name, layer in self._layers.items():
            if isinstance(layer, nn.Linear):
                handle = layer.register_forward_pre_hook(partial(self._keep_input, name))
            else:
                handle = layer.register_forward_hook(partial(self._keep_output, name))
            self._handles.append(handle)
        return self

    def __exit__(self, *_error: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _keep_input(self, name: str, _layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        vars(self._seen)[name] = inputs[0]

    def _keep_output(self, name: str, _layer: nn.Module, _inputs: object, maps: Tensor) -> None:
        vars(self._seen)[name] = maps.amax(dim=(2, 3))

    def take(self) -> list[Tensor]:
        """Return each level ``(batch, features)`` of this thread's last forward pass, in float32."""
        return [vars(self._seen).pop(name).float() for name in self.names]
