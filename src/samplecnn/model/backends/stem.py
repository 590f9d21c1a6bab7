"""The strided first layer as one small matrix product, its batch norm folded in."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samplecnn.model.backends.fused import operations
from samplecnn.model.norm import BatchNorm, over_processes

PART = 3**6  # steps whose covariance is summed at once; divides the 3**9 of a segment


def stem_by_taps(conv: nn.Conv2d, bn: nn.Module, waveforms: Tensor, *, fused: bool = False) -> Tensor:
    """Return ``relu(bn(conv(waveforms)))``: ``(batch, samples) -> (batch, channels, 1, samples // taps)``.

    ``bn`` is a ``BatchNorm``, or an identity where it has been folded into the convolution. With ``fused``
    Triton computes product and ReLU in one pass; waveforms that want a gradient take PyTorch's all the same.

    The layer's output is linear in the few samples under the kernel, so that its mean and variance over a
    batch follow from theirs: ``w m + b`` and ``w S w^T``, with the samples' mean ``m`` and covariance ``S``.
    Kernel and batch norm then are one matrix, and the largest feature map of the network is written once
    and read once on the way back, where convolution, statistics, normalisation and ReLU each pass over it.
    """
    taps = conv.kernel_size[1]
    frames = waveforms.reshape(-1, taps)  # (batch * time, taps)
    weight, bias = conv.weight.flatten(1), conv.bias  # (channels, taps), (channels,)
    assert bias is not None
    if isinstance(bn, BatchNorm):
        with torch.autocast(waveforms.device.type, enabled=False):
            scale, shift = _affine(bn, frames, weight, bias)
            weight, bias = weight * scale[:, None], shift
    if fused and not waveforms.requires_grad:
        maps: Tensor = operations().stem(waveforms, torch.cat([weight.T, bias[None]]))
        return maps
    # A column of ones carries the shift, and its gradient, through the same product.
    frames = torch.cat([frames, frames.new_ones(len(frames), 1)], dim=1)
    # With a gap between the matrix' rows, autograd takes its gradient as frames^T g, which on a CPU is many
    # times as fast as (g^T frames)^T, its choice where there is none.
    matrix = F.pad(torch.cat([weight, bias[:, None]], dim=1), (0, 1))[:, :-1]  # (channels, taps + 1)
    maps = F.relu(frames @ matrix.T, inplace=True)
    return maps.view(len(waveforms), 1, -1, conv.out_channels).permute(0, 3, 1, 2)


def _affine(bn: BatchNorm, frames: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return what ``bn`` does to ``frames @ weight.T + bias``: factor of the weight, and new bias."""
    if bn.training:
        centre = frames.mean(dim=0)
        centred = frames - centre
        # In parts, which keep all of a GPU busy, and whose sums are shorter and so more precise.
        parts = centred.view(-1, PART, centred.shape[1])
        covariance = (parts.mT @ parts).sum(dim=0) / len(frames)
        if bn.synchronised:
            centre, covariance = over_processes(centre, covariance)
        mean, variance = weight @ centre + bias, ((weight @ covariance) * weight).sum(dim=1)
        bn.update(mean, variance)
    else:
        assert bn.running_mean is not None
        assert bn.running_var is not None
        mean, variance = bn.running_mean, bn.running_var
    scale = bn.weight * torch.rsqrt(variance + bn.eps)
    return scale, bn.bias + (bias - mean) * scale
