"""Batch norm, ReLU and max pooling of a training step on a CPU, in fewer passes over the feature map.

A batch norm is a line of one slope per channel, so that the largest of three normalised values is the
normalised largest of them, or smallest where the line falls. What is normalised and rectified then is the
pooled map, a third of the size, and the gradient of the whole map takes half as many passes over it.
"""

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
    count = values_per_channel(x)
    mean, variance = torch.zeros_like(norm.bias), torch.zeros_like(norm.bias)
    # With a momentum of 1 it leaves the batch's own statistics there, its variance the unbiased one.
    torch.batch_norm_update_stats(x.detach(), mean, variance, 1.0)
    variance *= (count - 1) / count
    norm.update(mean, variance)
    pooled: Tensor = _PoolNormRelu.apply(x, norm.weight, norm.bias, mean, variance, norm.eps, window)
    return pooled


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
        gradient = torch.where(y > 0, gradient, 0).contiguous(memory_format=torch.channels_last)
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
