"""Convolutions whose kernel's gradient is a few matrix products: for CPUs without AVX512.

oneDNN has no fast kernel for that gradient in ``channels_last`` memory there. Where it has one, this is at
times the faster way all the same, so that it is measured (``experiments/speed/``).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Convolution(nn.Conv2d):
    """A convolution over time, ``(batch, in_channels, 1, time)`` to as many steps: ``nn.Conv2d`` of height 1.

    ``taps`` is odd. With ``by_products``, a training step computes the gradient of the kernel as one matrix
    product per tap; it is the same function.
    """

    def __init__(self, in_channels: int, out_channels: int, taps: int) -> None:
        super().__init__(in_channels, out_channels, (1, taps), padding=(0, taps // 2))
        self.by_products = False

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolved map."""
        if not (self.by_products and self.training):
            return super().forward(x)
        assert self.bias is not None
        given: tuple[Tensor, ...] = (x, self.weight, self.bias)
        if torch.is_autocast_enabled(x.device.type):
            lower = torch.get_autocast_dtype(x.device.type)
            given = tuple(tensor.to(lower) for tensor in given)
        convolved: Tensor = _ByProducts.apply(*given)
        return convolved


class _ByProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=(0, weight.shape[3] // 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_input = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            turned = weight.flip(3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
            of_input = F.conv2d(gradient, turned, padding=(0, weight.shape[3] // 2))
        if ctx.needs_input_grad[1]:
            of_weight = _of_kernel(x, gradient, weight.shape[3] // 2)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum(dim=(0, 2, 3))
        return of_input, of_weight, of_bias


def _of_kernel(x: Tensor, gradient: Tensor, pad: int) -> Tensor:
    """Return the gradient of a kernel of ``2 * pad + 1`` taps, from a layer's input and its output's."""
    outer = gradient[:, :, 0]  # (batch, out_channels, time)
    inner = x.contiguous(memory_format=torch.channels_last)[:, :, 0].transpose(1, 2)
    time = inner.shape[1]
    taps = []
    for shift in range(-pad, pad + 1):  # output step t has seen input step t + shift through this tap
        first, last = max(0, -shift), min(time, time - shift)
        product = outer[:, :, first:last] @ inner[:, first + shift : last + shift]  # of each segment
        taps.append(product.sum(dim=0))
    return torch.stack(taps, dim=2)[:, :, None].contiguous(memory_format=torch.channels_last)
