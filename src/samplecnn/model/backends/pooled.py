"""Batch norm, ReLU and max pooling of a training step on a CPU, in fewer passes over the feature map.

A batch norm is a line of one slope per channel, so that the largest of three normalised values is the
normalised largest of them, or smallest where the line falls. What is normalised and rectified then is the
pooled map, a third of the size, and the gradient of the whole map takes half as many passes over it.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from samplecnn.model.norm import BatchNorm, values_per_channel


def pools_first(norm: BatchNorm, x: Tensor) -> bool:
    """Say whether `pool_norm_relu` is for this map.

    Not for bfloat16: gradients would be rounded twice, and their sums, small differences, become useless.
    """
    return x.device.type == "cpu" and x.dtype.itemsize >= 4 and not norm.synchronised


def pool_norm_relu(norm: BatchNorm, x: Tensor, window: int) -> Tensor:
    """Return ``relu(pool(norm(x)))`` with the batch's statistics: ``(batch, channels, 1, time // window)``.

    Moves the running statistics. ``x`` is ``(batch, channels, 1, time)`` on a CPU.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    mean, variance = _statistics(x)
    norm.update(mean, variance)
    pooled: Tensor = _PoolNormRelu.apply(x, norm.weight, norm.bias, mean, variance, norm.eps, window)
    return pooled


def norm_gate_add_pool_relu(
    norm: BatchNorm,
    excitation: Callable[[Tensor], Tensor],
    x: Tensor,
    shortcut: Tensor,
    window: int,
) -> Tensor:
    """Return ``relu(pool(norm(x) * gate + shortcut))``, with the gates that ``excitation`` makes of means.

    As `pool_norm_relu`, for the end of a residual block with squeeze-and-excitation; ``shortcut`` has the
    shape of ``x``. Norm and gate together are one line for each channel of a segment: its slope is applied
    before the pooling, what it adds after.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    waiting: list[Tensor] = []
    means, variance = _Moments.apply(x, waiting)
    mean = means.mean(dim=0)
    norm.update(mean, variance)
    slope = norm.weight * torch.rsqrt(variance + norm.eps)
    shift = norm.bias - slope * mean
    gates = excitation(slope * means + shift)
    pooled: Tensor = _ScaleAddPool.apply(x, (slope * gates)[:, :, None, None], shortcut, window, waiting)
    return F.relu(pooled + (shift * gates)[:, :, None, None], inplace=True)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each channel."""
    count = values_per_channel(x)
    mean, variance = x.new_zeros(x.shape[1]), x.new_zeros(x.shape[1])
    # With a momentum of 1 it leaves the batch's own statistics there, its variance the unbiased one.
    torch.batch_norm_update_stats(x.detach(), mean, variance, 1.0)
    return mean, variance.mul_((count - 1) / count)


class _PoolNormRelu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        eps: float,
        window: int,
    ) -> Tensor:
        pooled, index = F.max_pool2d(x, (1, window), return_indices=True)
        falling = (weight < 0).nonzero().flatten()
        if len(falling):
            least, where = F.max_pool2d(-x[:, falling], (1, window), return_indices=True)
            pooled[:, falling], index[:, falling] = -least, where
        y = F.relu(F.batch_norm(pooled, mean, variance, weight, bias, eps=eps), inplace=True)
        ctx.save_for_backward(x, weight, mean, variance, pooled, index, y)
        ctx.eps = eps
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, pooled, index, y = ctx.saved_tensors
        gradient = torch.ops.aten.threshold_backward(gradient, y, 0)  # of the ReLU
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        # As of fixed statistics: only pooled values have a gradient that comes from above.
        of_pooled, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, pooled, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        # The statistics' share, -slope (of_bias + of_weight * normalised x) / count, is a batch norm of x.
        slope = -weight * torch.rsqrt(variance + ctx.eps) / values_per_channel(x)
        of_x = F.batch_norm(x, mean, variance, slope * of_weight, slope * of_bias, eps=ctx.eps)
        steps, at, added = (each.squeeze(2).transpose(1, 2) for each in (of_x, index, of_pooled))
        steps.scatter_add_(1, at, added)  # (batch, time, channels)
        return of_x, of_weight, of_bias, None, None, None, None


class _Moments(torch.autograd.Function):
    """Means of each segment's channels, and variances of channels; its gradient adds what is ``waiting``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, waiting: list[Tensor]) -> tuple[Tensor, Tensor]:
        mean, variance = _statistics(x)
        ctx.save_for_backward(x, mean)
        ctx.waiting = waiting
        return x.mean(dim=(2, 3)), variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_means: Tensor, of_variance: Tensor) -> tuple[Tensor | None, ...]:
        x, mean = ctx.saved_tensors
        slope = 2 / values_per_channel(x) * of_variance
        level = of_means / (x.shape[2] * x.shape[3]) - slope * mean
        of_x = torch.addcmul(level[:, :, None, None], x, slope[:, None, None])
        of_x.addcmul_(*ctx.waiting)
        ctx.waiting.clear()
        return of_x, None


class _ScaleAddPool(torch.autograd.Function):
    """``pool(x * slope + shortcut)``; the gradient of ``x`` is left to `_Moments`, for one pass over both."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, slope: Tensor, shortcut: Tensor, window: int, waiting: list[Tensor]
    ) -> Tensor:
        pooled, index = F.max_pool2d((x * slope).add_(shortcut), (1, window), return_indices=True)
        ctx.save_for_backward(x, slope, index)
        ctx.waiting = waiting
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, slope, index = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_sum = torch.zeros_like(x)
        steps, at, added = (each.squeeze(2).transpose(1, 2) for each in (of_sum, index, gradient))
        steps.scatter_(1, at, added)  # (batch, time, channels)
        ctx.waiting[:] = of_sum, slope.detach()  # with its history it would keep itself alive
        return None, (of_sum * x).sum(dim=(2, 3), keepdim=True), of_sum, None, None
