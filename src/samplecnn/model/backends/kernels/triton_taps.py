"""Statistics of the first layer's output, from the moments of the samples under its taps.

With x the three samples under the taps, m and S their mean and covariance over the batch, and w the taps of
a channel, the convolution's output w.x + b has mean w.m + b and variance w.S.w (S times w, times w): the
statistics follow from twelve numbers, and the convolution's output is never in memory.

The variance is good to the rounding of its largest term; for samples in [-1, 1] that is far below eps.
"""

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from samplecnn.model.backends.kernels.triton_common import place
from samplecnn.model.backends.kernels.triton_launch import Split, launch, launch_merge, sums

TAPS = 3
WINDOWS = 512  # of one program


@triton.jit(do_not_specialize=["samples", "time", "chunks", "chunk"])
def _tap_moments(
    waveforms: tl.tensor,  # (batch, samples)
    means: tl.tensor,  # out (parts, 4), the fourth without meaning, as below
    products: tl.tensor,  # out (parts, 4, 4): sums of products about the means
    samples: tl.tensor,
    time: tl.tensor,
    chunks: tl.tensor,
    chunk: tl.tensor,
    channels: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
    wide: tl.constexpr,
) -> None:
    """Moments of the samples under the taps over a part's windows, which registers hold all at once."""
    part, sample, first = place(chunks, chunk)
    tap = tl.arange(0, 4)
    window = first + tl.arange(0, tile_rows)
    valid = (window < time)[:, None] & (tap < 3)[None, :]
    at = waveforms + sample * samples + 3 * window[:, None] + tap[None, :]
    x = tl.load(at, mask=valid, other=0.0).to(wide)
    mean = tl.sum(x, axis=0) / tl.minimum(time - first, tile_rows).to(wide)
    x = tl.where(valid, x - mean[None, :], 0.0)
    product = tl.sum(x[:, :, None] * x[:, None, :], axis=0)
    tl.store(means + 4 * part + tap, mean)
    tl.store(products + 16 * part + 4 * tap[:, None] + tap[None, :], product)


@triton.jit(do_not_specialize=["time", "batch", "chunks", "chunk"])
def _merge_taps(
    means: tl.tensor,  # (batch * chunks, 4)
    products: tl.tensor,  # (batch * chunks, 4, 4)
    taps: tl.tensor,  # (channels, 3)
    conv_bias: tl.tensor,  # (channels,)
    center: tl.tensor,  # out (4,): m
    covariance: tl.tensor,  # out (4, 4): S
    mean: tl.tensor,  # out (channels,), of the convolution's output
    var: tl.tensor,
    rstd: tl.tensor,
    time: tl.tensor,
    batch: tl.tensor,
    chunks: tl.tensor,
    chunk: tl.tensor,
    eps: tl.constexpr,
    channels: tl.constexpr,
    tile_parts: tl.constexpr,
    tile_channels: tl.constexpr,
    wide: tl.constexpr,
) -> None:
    """Combine the parts, in every program alike, and find the statistics of the convolution's output."""
    column = tl.program_id(0) * tile_channels + tl.arange(0, tile_channels)
    exists = column < channels
    tap = tl.arange(0, 4)
    parts = batch * chunks
    total = (batch * time).to(wide)
    sums = tl.zeros((tile_parts, 4), wide)
    for start in range(0, parts, tile_parts):
        part = start + tl.arange(0, tile_parts)
        n = tl.where(part < parts, tl.minimum(time - part % chunks * chunk, chunk), 0).to(wide)
        at = means + 4 * part[:, None] + tap[None, :]
        sums += n[:, None] * tl.load(at, mask=(part < parts)[:, None], other=0.0)
    m = tl.sum(sums, axis=0) / total
    squares = tl.zeros((tile_parts, 4, 4), wide)
    for start in range(0, parts, tile_parts):
        part = start + tl.arange(0, tile_parts)
        n = tl.where(part < parts, tl.minimum(time - part % chunks * chunk, chunk), 0).to(wide)
        at = 4 * part[:, None] + tap[None, :]
        off = tl.load(means + at, mask=(part < parts)[:, None], other=0.0) - m[None, :]
        at = 4 * at[:, :, None] + tap[None, None, :]
        squares += tl.load(products + at, mask=(part < parts)[:, None, None], other=0.0)
        squares += n[:, None, None] * off[:, :, None] * off[:, None, :]
    s = tl.sum(squares, axis=0) / total
    valid = exists[:, None] & (tap < 3)[None, :]
    w = tl.load(taps + 3 * column[:, None] + tap[None, :], mask=valid, other=0.0).to(wide)
    wm = tl.sum(w * m[None, :], axis=1)
    ws = tl.sum(w[:, :, None] * s[None, :, :], axis=1)
    variance = tl.maximum(tl.sum(ws * w, axis=1), 0.0)
    tl.store(center + tap, m)
    tl.store(covariance + 4 * tap[:, None] + tap[None, :], s)
    tl.store(mean + column, wm + tl.load(conv_bias + column, mask=exists, other=0.0).to(wide), mask=exists)
    tl.store(var + column, variance, mask=exists)
    tl.store(rstd + column, 1.0 / tl.sqrt(variance + eps), mask=exists)


@dataclass(frozen=True)
class TapMoments:
    """Mean ``center`` (4,) and ``covariance`` (4, 4) of the samples under the taps, of which 3 count, and
    ``mean``, biased ``var`` and ``rstd`` (channels,) of the convolution's output.
    """

    center: Tensor
    covariance: Tensor
    mean: Tensor
    var: Tensor
    rstd: Tensor


def tap_moments(waveforms: Tensor, taps: Tensor, conv_bias: Tensor, eps: float) -> TapMoments:
    """Return the statistics for ``waveforms`` (batch, samples), ``taps`` (channels, 1, 1, 3) at stride 3."""
    batch, samples = waveforms.shape
    channels, time = len(taps), samples // TAPS
    work = Split(batch, time, channels, WINDOWS, WINDOWS, channels)
    means, products = sums(waveforms, work.parts, 4), sums(waveforms, work.parts, 4, 4)
    launch(_tap_moments, work, waveforms, waveforms, means, products, samples, time)
    center, covariance = sums(waveforms, 4), sums(waveforms, 4, 4)
    mean, var, rstd = (sums(waveforms, channels) for _ in range(3))
    tensors = (means, products, taps, conv_bias, center, covariance, mean, var, rstd)
    counts = (time, batch, work.chunks, work.chunk)
    launch_merge(_merge_taps, channels, waveforms, *tensors, *counts, eps=eps)
    return TapMoments(center, covariance, mean, var, rstd)
