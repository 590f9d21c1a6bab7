"""Reading the excitations: what the gates of squeeze-and-excitation are set to while a network runs.

The excitations of a segment are the outputs of the sigmoids in a block's squeeze-and-excitation, one per
channel (section 2.1.1 of Kim, Lee and Nam, 2018). Blocks are numbered from 1, as in the paper.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from samplecnn.errors import UserError
from samplecnn.model.blocks import SqueezeExcitation
from samplecnn.model.network import SampleCNN
from samplecnn.model.networks.network import Network


class ExcitationError(UserError):
    """Excitations that cannot be had or shown: what is wrong and what is allowed."""


def se_layers(network: Network) -> dict[int, list[SqueezeExcitation]]:
    """Return the squeeze-and-excitation layers of each block that has any; ExcitationError if none has."""
    if not isinstance(network, SampleCNN):
        raise ExcitationError(f"{network.title} has no blocks with squeeze-and-excitation: SampleCNN has")
    layers = {
        number: [module for module in block.modules() if isinstance(module, SqueezeExcitation)]
        for number, block in enumerate(network.blocks, start=1)
    }
    layers = {number: found for number, found in layers.items() if found}
    if not layers:
        raise ExcitationError(
            f"the block {type(network.blocks[0]).__name__} has no squeeze-and-excitation, so no excitations: "
            "se, rese1 and rese2 have, and blocks of your own that contain "
            "samplecnn.model.blocks.SqueezeExcitation"
        )
    return layers


@contextmanager
def recorded_excitations(network: Network) -> Iterator[dict[int, Tensor]]:
    """Record the excitations of one forward pass within the ``with``, whatever else it computes.

    Gives a dictionary that is filled when the ``with`` ends: block -> ``(batch, channels)``. Where a block
    has several squeeze-and-excitations, the channels of one come after those of the other, in the order in
    which they run. Raises ExcitationError for a network without squeeze-and-excitation, for one in training
    mode, and where gates did not run.
    """
    if network.training:
        raise ExcitationError("the network is in training mode: call network.eval() first")
    seen: dict[int, list[Tensor]] = {}
    excitations: dict[int, Tensor] = {}
    handles = []
    for block, layers in se_layers(network).items():
        keep = partial(_keep, seen.setdefault(block, []))
        handles += [layer.gate.register_forward_hook(keep) for layer in layers]
    try:
        yield excitations
    finally:
        for handle in handles:
            handle.remove()
    if silent := [block for block, gates in seen.items() if not gates]:
        raise ExcitationError(f"the gates of block {silent[0]} did not run: its excitations cannot be read")
    excitations |= {block: torch.cat(gates, dim=1) for block, gates in seen.items()}


def segment_excitations(network: Network, waveforms: Tensor) -> dict[int, Tensor]:
    """Return the excitations of segments `(batch, 59049)`: block -> `(batch, channels)`.

    Raises ExcitationError as `recorded_excitations` does.
    """
    with recorded_excitations(network) as excitations, torch.inference_mode():
        network(waveforms)
    return excitations


def _keep(seen: list[Tensor], _layer: nn.Module, _inputs: object, gates: Tensor) -> None:
    seen.append(gates.flatten(1))
