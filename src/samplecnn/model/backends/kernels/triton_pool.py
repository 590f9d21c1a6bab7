"""Batch norm, ReLU and max pooling, with squeeze-and-excitation of the pooled map if wanted."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from samplecnn.model.backends.kernels.triton_launch import Norm, Running, check_map, check_norm, rows_first
from samplecnn.model.backends.kernels.triton_merge import sample_sums
from samplecnn.model.backends.kernels.triton_rows import activate, gradient_sums
from samplecnn.model.backends.kernels.triton_windows import InputHalf, Link, Upstream, input_half

Gate = Callable[[Tensor], Tensor]  # squeezed means (batch, channels) -> excitations (batch, channels)


def gate_values(gate: Gate | None, half: InputHalf) -> Tensor | None:
    """Return what ``gate`` makes of the squeezed means; ValueError if its shape is not theirs."""
    if gate is None:
        return None
    assert half.squeezed is not None
    values = gate(half.squeezed)
    if values.shape != half.squeezed.shape:
        raise ValueError(
            f"the gate must have the shape (batch, channels) {tuple(half.squeezed.shape)}, "
            f"not {tuple(values.shape)}"
        )
    return values.contiguous()


class _Pooled(torch.autograd.Function):
    """The output's half: relu(bn(picked)) * gate."""

    @staticmethod
    def forward(
        ctx: Any, token: Tensor, gate: Tensor | None, picked: Tensor, norm: Norm, link: Link
    ) -> Tensor:
        y = torch.empty_like(picked)
        activate(picked, y, norm, gate=gate)
        ctx.save_for_backward(gate, picked, *norm)
        ctx.link = link
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        gate, picked, *tensors = ctx.saved_tensors
        norm, dy = Norm(*tensors), rows_first(dy)
        found, chunks = gradient_sums(dy, picked, norm, exposure=gate is not None)
        dgate = exposure = None
        if gate is not None:
            batch, rows = picked.shape[0], picked.shape[3]
            found, dgate = sample_sums(found, batch, chunks, rows, means_from=2, gate=gate, norm=norm)
            exposure = found[2], found[3]
        if ctx.needs_input_grad[0]:
            ctx.link.append(Upstream(dy, found[0], found[1], gate=gate, exposure=exposure))
        order = found[0, 0, 0]  # some number: the gradient of the token is never read
        return order, dgate, None, None, None


def norm_relu_pool(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    *,
    gate: Gate | None = None,
    running: Running | None = None,
) -> Tensor:
    """Return y = max_pool(relu(bn(x)), 3) * gate; ``running`` moves towards the statistics of ``x``.

    ``x`` is (batch, channels, 1, time), y like it with time // 3 steps. ``gate`` computes the gates from the
    means over time of the pooled map, (batch, channels) in float32. Steps beyond the last whole window count
    in the statistics only.

    Raises ValueError for maps, parameters and gates of the wrong shape.
    """
    check_map("x", x, at_least=3)
    check_norm("x", x.shape, weight, bias, running)
    half = input_half(rows_first(x), weight, bias, eps, running, pooling=True, squeeze=gate is not None)
    return _Pooled.apply(half.token, gate_values(gate, half), half.picked, half.norm, half.link)
