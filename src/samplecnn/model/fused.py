"""The Triton operations in the network's own terms: batch norms that keep their running statistics.

For training on a GPU alone. Not run on a GPU yet. What each does and costs: `kernels/triton_ops.py`.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from samplecnn.model.kernels import triton_ops as ops
from samplecnn.model.norm import BatchNorm

Gate = Callable[[Tensor], Tensor]  # squeezed means (batch, channels) -> excitations (batch, channels)


def stem(conv: nn.Conv2d, norm: BatchNorm, waveforms: Tensor) -> Tensor:
    """Return ``relu(norm(conv(waveforms)))``: ``(batch, samples) -> (batch, channels, 1, samples // 3)``."""
    assert conv.bias is not None
    device = waveforms.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else waveforms.dtype
    y, mean, variance = ops.stem(
        waveforms, conv.weight, conv.bias, norm.weight, norm.bias, norm.eps, dtype=dtype
    )
    norm.update(mean, variance)
    return y


def fork(x: Tensor) -> tuple[Tensor, "ops.Skip"]:
    """Return a map for a block's convolution and, with its gradient added in one pass, for its shortcut."""
    return ops.fork(x)


def norm_relu(norm: BatchNorm, x: Tensor, *, dropout: float) -> Tensor:
    """Return ``dropout(relu(norm(x)))``, of the shape of ``x``."""
    y, mean, variance = ops.norm_relu(x, norm.weight, norm.bias, norm.eps, dropout=dropout)
    norm.update(mean, variance)
    return y


def norm_relu_pool(norm: BatchNorm, x: Tensor, *, gate: Gate | None = None) -> Tensor:
    """Return ``relu(pool(norm(x)))``, times what ``gate`` makes of its means over time."""
    y, mean, variance = ops.norm_relu_pool(x, norm.weight, norm.bias, norm.eps, gate=gate)
    norm.update(mean, variance)
    return y


def norm_add_relu_pool(
    norm: BatchNorm,
    x: Tensor,
    shortcut: "Tensor | ops.Skip",
    shortcut_norm: BatchNorm | None = None,
    *,
    gate: Gate | None = None,
) -> Tensor:
    """Return ``relu(pool(norm(x) * gate + shortcut))``; the shortcut under its own norm if it has one."""
    y, mean, variance, other_mean, other_variance = ops.norm_add_relu_pool(
        x,
        norm.weight,
        norm.bias,
        norm.eps,
        shortcut,
        None if shortcut_norm is None else shortcut_norm.weight,
        None if shortcut_norm is None else shortcut_norm.bias,
        gate=gate,
    )
    norm.update(mean, variance)
    if shortcut_norm is not None:
        assert other_mean is not None
        assert other_variance is not None
        shortcut_norm.update(other_mean, other_variance)
    return y
