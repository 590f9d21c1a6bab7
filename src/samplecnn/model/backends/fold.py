"""A trained network made for inference: its batch norms folded into the layers in front of them."""

from collections.abc import Iterator
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

from samplecnn.model.blocks import BLOCKS, Shortcut
from samplecnn.model.network import SampleCNN, sample_cnns
from samplecnn.model.networks.network import Network
from samplecnn.model.norm import BatchNorm

AnyNetwork = TypeVar("AnyNetwork", bound=Network)


def fold(network: AnyNetwork) -> AnyNetwork:
    """Return a copy in evaluation mode that computes the same, of a SampleCNN with fewer operations.

    Every batch norm that follows a convolution or dense layer becomes part of its weights, and an identity
    in its own place. Blocks that are not the paper's are left as they are: what is called ``bn1`` there
    need not follow ``conv1``. The copy cannot be trained.
    """
    folded = deepcopy(network).eval().requires_grad_(False)
    for found in sample_cnns(folded):
        for owner, layer, norm in _pairs(found):
            _absorb(getattr(owner, layer), getattr(owner, norm))
            setattr(owner, norm, nn.Identity())
    return folded


def _pairs(network: SampleCNN) -> Iterator[tuple[nn.Module, str, str]]:
    """Yield a module and the names in it of a layer and of the batch norm that follows it."""
    yield network, "stem_conv", "stem_bn"
    yield network, "head_fc1", "head_bn"
    for block in network.blocks:
        if type(block) not in BLOCKS.values():
            continue
        for number in (1, 2):
            if hasattr(block, f"conv{number}"):
                yield block, f"conv{number}", f"bn{number}"
        shortcut = getattr(block, "shortcut", None)
        if isinstance(shortcut, Shortcut) and shortcut.conv is not None:
            yield shortcut, "conv", "bn"


@torch.no_grad()
def _absorb(layer: nn.Conv2d | nn.Linear, norm: BatchNorm) -> None:
    mean, variance = norm.running_mean, norm.running_var
    assert isinstance(mean, Tensor)
    assert isinstance(variance, Tensor)
    assert layer.bias is not None
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    layer.weight.mul_(scale.view(-1, *[1] * (layer.weight.ndim - 1)))
    layer.bias.copy_((layer.bias - mean) * scale + norm.bias)
