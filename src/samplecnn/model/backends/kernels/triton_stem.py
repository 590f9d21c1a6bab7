"""The first layer: a convolution of 3 taps and stride 3 over the waveform, batch norm and ReLU, in one pass.

Its statistics come from the waveform (see ``triton_taps``), and all of its gradients from the sums, per
channel, of g and g (x - m): g the output's gradient where the ReLU lets it pass, x the three samples under
the taps and m their mean.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from samplecnn.model.backends.kernels.triton_common import columns, load4, masks, per_channel, place, relu
from samplecnn.model.backends.kernels.triton_launch import (
    check_norm,
    launch,
    launch_merge,
    rows_first,
    split,
    sums,
)
from samplecnn.model.backends.kernels.triton_taps import TAPS, tap_moments


@triton.jit
def _tap(
    taps: tl.tensor, k: tl.constexpr, column: tl.tensor, exists: tl.tensor, wide: tl.constexpr
) -> tl.tensor:
    """Load tap ``k`` of each channel as (1, tile_channels)."""
    return tl.load(taps + 3 * column + k, mask=exists, other=0.0).to(wide)[None, :]


@triton.jit
def _under_tap(
    at: tl.tensor, center: tl.tensor, k: tl.constexpr, valid: tl.tensor, wide: tl.constexpr
) -> tl.tensor:
    """Load the sample under tap ``k`` less its mean, as (tile_rows, 1)."""
    x = tl.load(at + k, mask=valid, other=0.0).to(wide)
    return (x - tl.load(center + k))[:, None]


@triton.jit(do_not_specialize=["samples", "time", "chunks", "chunk"])
def _stem(
    waveforms: tl.tensor,  # (batch, samples)
    center: tl.tensor,  # (4,)
    taps: tl.tensor,  # (channels, 3)
    rstd: tl.tensor,  # (channels,)
    weight: tl.tensor,
    bias: tl.tensor,
    y: tl.tensor,  # out (batch, time, channels)
    samples: tl.tensor,
    time: tl.tensor,
    chunks: tl.tensor,
    chunk: tl.tensor,
    channels: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
    wide: tl.constexpr,
) -> None:
    """y = relu(bn(conv(waveforms))), a tile of rows per program."""
    _, sample, first = place(chunks, chunk)
    column, exists = columns(channels, tile_channels)
    row = first + tl.arange(0, tile_rows)
    at = waveforms + sample * samples + 3 * row
    x0 = _under_tap(at, center, 0, row < time, wide)
    x1 = _under_tap(at, center, 1, row < time, wide)
    x2 = _under_tap(at, center, 2, row < time, wide)
    scale = per_channel(rstd, column, exists, wide) * per_channel(weight, column, exists, wide)
    a = _tap(taps, 0, column, exists, wide) * scale
    b = _tap(taps, 1, column, exists, wide) * scale
    c = _tap(taps, 2, column, exists, wide) * scale
    value = relu(per_channel(bias, column, exists, wide) + a * x0 + b * x1 + c * x2)
    to = (sample * time + row)[:, None] * channels + column[None, :]
    tl.store(y + to, value, mask=(row < time)[:, None] & exists[None, :])


@triton.jit(do_not_specialize=["samples", "time", "chunks", "chunk"])
def _stem_sums(
    dy: tl.tensor,  # (batch, time, channels)
    waveforms: tl.tensor,  # (batch, samples)
    center: tl.tensor,  # (4,)
    taps: tl.tensor,  # (channels, 3)
    rstd: tl.tensor,  # (channels,)
    weight: tl.tensor,
    bias: tl.tensor,
    out: tl.tensor,  # (4, parts, channels)
    samples: tl.tensor,
    time: tl.tensor,
    chunks: tl.tensor,
    chunk: tl.tensor,
    channels: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
    wide: tl.constexpr,
) -> None:
    """Sums over the rows of each part of g (x - m) for each tap, and of g."""
    part, sample, first = place(chunks, chunk)
    column, exists = columns(channels, tile_channels)
    scale = per_channel(rstd, column, exists, wide) * per_channel(weight, column, exists, wide)
    shift = per_channel(bias, column, exists, wide)
    a = _tap(taps, 0, column, exists, wide) * scale
    b = _tap(taps, 1, column, exists, wide) * scale
    c = _tap(taps, 2, column, exists, wide) * scale
    first_sums = tl.zeros((tile_rows, tile_channels), wide)
    second_sums = tl.zeros((tile_rows, tile_channels), wide)
    third_sums = tl.zeros((tile_rows, tile_channels), wide)
    plain_sums = tl.zeros((tile_rows, tile_channels), wide)
    for start in range(first, tl.minimum(first + chunk, tl.cdiv(time, 4)), tile_rows):
        row = 4 * (start + tl.arange(0, tile_rows))
        valid = masks(row, time, exists, 4)
        offset = (sample * time + row)[:, None] * channels + column[None, :]
        gradients = load4(dy + offset, valid, channels, wide)
        at = waveforms + sample * samples + 3 * row
        for i in tl.static_range(4):
            x0 = _under_tap(at + 3 * i, center, 0, row + i < time, wide)
            x1 = _under_tap(at + 3 * i, center, 1, row + i < time, wide)
            x2 = _under_tap(at + 3 * i, center, 2, row + i < time, wide)
            g = tl.where(shift + a * x0 + b * x1 + c * x2 > 0.0, gradients[i], 0.0)
            first_sums += g * x0
            second_sums += g * x1
            third_sums += g * x2
            plain_sums += g
    stride = tl.num_programs(0).to(tl.int64) * channels
    to = out + part.to(tl.int64) * channels + column
    tl.store(to, tl.sum(first_sums, axis=0), mask=exists)
    tl.store(to + stride, tl.sum(second_sums, axis=0), mask=exists)
    tl.store(to + 2 * stride, tl.sum(third_sums, axis=0), mask=exists)
    tl.store(to + 3 * stride, tl.sum(plain_sums, axis=0), mask=exists)


@triton.jit(do_not_specialize=["parts"])
def _merge_stem(
    found: tl.tensor,  # (4, parts, channels)
    taps: tl.tensor,  # (channels, 3)
    covariance: tl.tensor,  # (4, 4)
    rstd: tl.tensor,  # (channels,)
    weight: tl.tensor,
    dtaps: tl.tensor,  # out (channels, 3)
    dweight: tl.tensor,  # out (channels,)
    dbias: tl.tensor,
    parts: tl.tensor,
    channels: tl.constexpr,
    tile_parts: tl.constexpr,
    tile_channels: tl.constexpr,
    wide: tl.constexpr,
) -> None:
    """With G_k the sums of g (x_k - m_k): dweight = rstd w.G, dw = weight rstd (G - rstd dweight S w)."""
    column = tl.program_id(0) * tile_channels + tl.arange(0, tile_channels)
    exists = column < channels
    tap = tl.arange(0, 4)
    totals = tl.zeros((tile_channels, 4), wide)
    for k in tl.static_range(4):
        partial = tl.zeros((tile_parts, tile_channels), wide)
        for start in range(0, parts, tile_parts):
            part = start + tl.arange(0, tile_parts)
            at = (k * parts + part).to(tl.int64)[:, None] * channels + column[None, :]
            partial += tl.load(found + at, mask=(part < parts)[:, None] & exists[None, :], other=0.0)
        totals += tl.where(tap[None, :] == k, tl.sum(partial, axis=0)[:, None], 0.0)
    valid = exists[:, None] & (tap < 3)[None, :]
    w = tl.load(taps + 3 * column[:, None] + tap[None, :], mask=valid, other=0.0).to(wide)
    s = tl.load(covariance + 4 * tap[:, None] + tap[None, :])
    ws = tl.sum(w[:, :, None] * s[None, :, :], axis=1)
    unit = tl.load(rstd + column, mask=exists, other=0.0)
    slope = unit * tl.sum(w * totals, axis=1)
    scale = unit * tl.load(weight + column, mask=exists, other=0.0).to(wide)
    gradient = scale[:, None] * (totals - (unit * slope)[:, None] * ws)
    tl.store(dtaps + 3 * column[:, None] + tap[None, :], gradient, mask=valid)
    tl.store(dweight + column, slope, mask=exists)
    tl.store(dbias + column, tl.sum(tl.where(tap[None, :] == 3, totals, 0.0), axis=1), mask=exists)


class _Stem(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        waveforms: Tensor,
        taps: Tensor,
        conv_bias: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, samples = waveforms.shape
        channels, time = len(taps), samples // TAPS
        moments = tap_moments(waveforms, taps, conv_bias, eps)
        y = torch.empty(
            (batch, channels, 1, time),
            dtype=dtype,
            device=waveforms.device,
            memory_format=torch.channels_last,
        )
        work = split(batch, time, channels, reduce=False, size=4)
        tensors = (moments.center, taps, moments.rstd, weight, bias)
        launch(_stem, work, waveforms, waveforms, *tensors, y, samples, time)
        ctx.save_for_backward(waveforms, *tensors, moments.covariance)
        ctx.mark_non_differentiable(moments.mean, moments.var)
        ctx.set_materialize_grads(False)
        return y, moments.mean, moments.var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor | None, *unused: None) -> tuple[Tensor | None, ...]:
        if dy is None:
            return (None,) * 7
        waveforms, center, taps, rstd, weight, bias, covariance = ctx.saved_tensors
        dy = rows_first(dy)
        batch, channels, _, time = dy.shape
        work = split(batch, triton.cdiv(time, 4), channels, reduce=True)
        found = sums(waveforms, 4, work.parts, channels)
        inputs = (dy, waveforms, center, taps, rstd, weight, bias)
        launch(_stem_sums, work, waveforms, *inputs, found, waveforms.shape[1], time)
        dtaps, dweight, dbias = torch.empty_like(taps), torch.empty_like(weight), torch.empty_like(bias)
        outputs = (dtaps, dweight, dbias)
        launch_merge(
            _merge_stem, channels, waveforms, found, taps, covariance, rstd, weight, *outputs, work.parts
        )
        return None, dtaps, taps.new_zeros(channels), dweight, dbias, None, None


def stem(
    waveforms: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    *,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return relu(bn(conv(waveforms))), and mean and biased variance of the convolution's output.

    ``waveforms`` is (batch, samples) or (batch, 1, 1, samples); ``conv_weight`` (channels, 1, 1, 3), applied
    at stride 3 without padding; ``conv_bias``, ``weight`` and ``bias`` (channels,). The result is
    (batch, channels, 1, samples // 3) in ``dtype``, that of the waveforms if None; mean and variance
    (channels,) are float32, or float64 for such waveforms, and not differentiable. The bias of a convolution
    before a batch norm has no effect: its gradient is zero.

    Raises ValueError for other shapes, and for waveforms that require a gradient: there is none for them.
    """
    if waveforms.ndim == 4 and waveforms.shape[1:3] == (1, 1):
        waveforms = waveforms[:, 0, 0]
    if waveforms.ndim != 2 or not waveforms.is_floating_point() or waveforms.shape[1] < TAPS:
        raise ValueError(
            "waveforms must be floating-point and of shape (batch, samples) or (batch, 1, 1, samples), "
            f"with 3 or more samples, not {waveforms.dtype} of shape {tuple(waveforms.shape)}"
        )
    if waveforms.requires_grad:
        raise ValueError(
            "the fused first layer has no gradient for the waveforms: use the plain one, or detach them"
        )
    channels = conv_weight.shape[0]
    if conv_weight.shape != (channels, 1, 1, TAPS) or conv_bias.shape != (channels,):
        raise ValueError(
            f"conv_weight must be (channels, 1, 1, {TAPS}) and conv_bias (channels,), "
            f"not {tuple(conv_weight.shape)} and {tuple(conv_bias.shape)}"
        )
    shape = (waveforms.shape[0], channels, 1, waveforms.shape[1] // TAPS)
    check_norm("the convolution's output", shape, weight, bias)
    return _Stem.apply(
        waveforms.contiguous(),
        conv_weight.contiguous(),
        conv_bias,
        weight,
        bias,
        eps,
        dtype or waveforms.dtype,
    )
