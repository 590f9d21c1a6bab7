"""Batch norm and ReLU without pooling, and dropout if wanted: what is between the convolutions of Res-2."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from samplecnn.model.backends.kernels.triton_common import (
    affine,
    groups,
    keep4,
    load_rows,
    per_channel,
    place,
)
from samplecnn.model.backends.kernels.triton_launch import (
    Norm,
    Running,
    check_map,
    check_norm,
    feature_map,
    launch,
    rows_first,
    split,
)
from samplecnn.model.backends.kernels.triton_merge import merge_gradients
from samplecnn.model.backends.kernels.triton_moments import batch_moments
from samplecnn.model.backends.kernels.triton_rows import Dropout, activate, gradient_sums


@triton.jit(do_not_specialize=["count", "rows", "chunks", "chunk"])
def _norm_relu_backward(
    x: tl.tensor,  # (batch, rows, channels)
    dy: tl.tensor,  # the same
    dx: tl.tensor,  # out, the same
    mean: tl.tensor,  # (channels,)
    rstd: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    dweight: tl.tensor,
    dbias: tl.tensor,
    seed: tl.tensor,  # (1,) or None
    count: tl.tensor,  # values per channel in the batch
    rows: tl.tensor,
    chunks: tl.tensor,
    chunk: tl.tensor,
    threshold: tl.constexpr,
    gain: tl.constexpr,
    channels: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
    wide: tl.constexpr,
) -> None:
    """dx = weight * rstd * (g - dbias / count - xhat * dweight / count); a tile of quads per program."""
    _, sample, first, column, exists = place(chunks, chunk, channels, tile_channels)
    quad, offset, valid = groups(first, sample, rows, column, exists, channels, tile_rows, 4)
    values = load_rows(x + offset, valid, channels, wide)
    gradients = load_rows(dy + offset, valid, channels, wide)
    center, scale, shift = affine(mean, rstd, weight, bias, column, exists, wide)
    unit = per_channel(rstd, column, exists, wide)
    level = per_channel(dbias, column, exists, wide) / count.to(wide)
    slope = per_channel(dweight, column, exists, wide) / count.to(wide) * unit
    if seed is not None:
        kept = keep4(tl.load(seed), sample * tl.cdiv(rows, 4) + quad, column, channels, threshold)
    for i in tl.static_range(4):
        off = values[i] - center
        passes = off * scale + shift > 0.0
        if seed is not None:
            g = tl.where(passes & kept[i], gradients[i] * gain, 0.0)
        else:
            g = tl.where(passes, gradients[i], 0.0)
        tl.store(dx + offset + i * channels, scale * (g - level - off * slope), mask=valid[i])


class _NormReLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        offset: Tensor | None,
        running: Running | None,
        eps: float,
        dropout: Dropout,
    ) -> Tensor:
        moments = batch_moments(x, eps, running=running)
        y = feature_map(x, x.shape[3])
        activate(x, y, Norm(moments.mean, moments.rstd, weight, bias), dropout=dropout)
        ctx.save_for_backward(x, moments.mean, moments.rstd, weight, bias, offset)
        ctx.dropout = dropout
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, *tensors, offset = ctx.saved_tensors
        norm, dy = Norm(*tensors), rows_first(dy)
        parts, _chunks = gradient_sums(dy, x, norm, dropout=ctx.dropout)
        dweight, dbias, doffset = merge_gradients(parts[0], parts[1], offset=offset)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = torch.empty_like(x)
            batch, channels, _, rows = x.shape
            work = split(batch, triton.cdiv(rows, 4), channels, reduce=False)
            arguments = (x, dy, dx, *norm, dweight, dbias, ctx.dropout.seed, batch * rows, rows)
            launch(_norm_relu_backward, work, x, *arguments, **ctx.dropout.options)
        return dx, dweight.to(norm.weight.dtype), dbias.to(norm.bias.dtype), doffset, *(None,) * 3


def norm_relu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    *,
    dropout: float = 0.0,
    running: Running | None = None,
) -> Tensor:
    """Return relu(bn(x)) like ``x`` (batch, channels, 1, time); ``running`` moves towards its statistics.

    ``dropout`` is the probability with which values of the result are set to zero, the others divided by
    one minus it; the draws follow PyTorch's generator of the device.

    Raises ValueError for maps and parameters of the wrong shape and impossible probabilities.
    """
    check_map("x", x)
    check_norm("x", x.shape, weight, bias, running)
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and less than 1, not {dropout!r}")
    seed = torch.randint(2**62, (1,), device=x.device) if dropout else None
    offset = None if running is None else running.offset
    return _NormReLU.apply(rows_first(x), weight, bias, offset, running, eps, Dropout(seed, dropout))
