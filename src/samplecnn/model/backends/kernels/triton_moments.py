"""Batch statistics of a feature map in one pass, and what else that pass can bring along.

Every thread sums its own values, and their squares, less the first of them: so the sums are as large as the
spread of the values, whatever their mean, and three operations per value do (Welford's update takes twice as
many, which a GPU cannot do as fast as it reads bfloat16). Threads, programs and the batch are then combined
by means and M2, sums of squared deviations from the mean, as in Chan, Golub and LeVeque (1983). The order of
all sums is fixed by the shape: results are reproducible.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from samplecnn.model.backends.kernels.triton_common import (
    columns,
    first_largest,
    groups,
    load_rows,
    partials,
    per_channel,
    place,
    pooled,
)
from samplecnn.model.backends.kernels.triton_launch import (
    Running,
    Split,
    launch,
    launch_merge,
    launch_samples,
    split,
    sums,
)


@triton.jit
def sign_of(weight: tl.tensor) -> tl.tensor:
    """-1, 0 or 1: with it, the largest of x * sign is where weight * x is largest."""
    return tl.where(weight > 0.0, 1.0, tl.where(weight < 0.0, -1.0, 0.0))


@triton.jit
def pick(sign: tl.tensor, a: tl.tensor, b: tl.tensor, c: tl.tensor) -> tl.tensor:
    """Return the value of three whose multiple by ``sign`` is the first largest, and its index."""
    _, index = first_largest(a * sign, b * sign, c * sign)
    return tl.where(index == 0, a, tl.where(index == 1, b, c)), index


@triton.jit
def _picked(sign: tl.tensor, a: tl.tensor, b: tl.tensor, c: tl.tensor) -> tl.tensor:
    """Return the value that ``pick`` does, in fewer operations: which of equals it is does not matter."""
    most = tl.maximum(a * sign, b * sign, propagate_nan=tl.PropagateNan.ALL)
    most = tl.maximum(most, c * sign, propagate_nan=tl.PropagateNan.ALL)
    return most * sign + a * (1.0 - sign * sign)


@triton.jit(do_not_specialize=["time", "chunks", "chunk"])
def _moments(
    x: tl.tensor,  # (batch, time, channels)
    weight: tl.tensor,  # (channels,) or None
    picked: tl.tensor,  # out (batch, time // 3, channels), or None
    means: tl.tensor,  # out (parts, channels)
    m2s: tl.tensor,  # out (parts, channels)
    time: tl.tensor,
    chunks: tl.tensor,
    chunk: tl.tensor,
    channels: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
    wide: tl.constexpr,
) -> None:
    """Mean and M2 of each part; with ``weight`` also the value that pooling will pick of each window."""
    part, sample, first, column, exists = place(chunks, chunk, channels, tile_channels)
    row = 3 * (first + tl.arange(0, tile_rows))
    at = x + (sample * time + row)[:, None] * channels + column[None, :]
    origin = tl.load(at, mask=(row < time)[:, None] & exists[None, :], other=0.0).to(wide)
    plain = tl.zeros((tile_rows, tile_channels), wide)  # sums of x - origin
    squares = tl.zeros((tile_rows, tile_channels), wide)
    count = tl.zeros((tile_rows,), tl.int32)
    if weight is not None:
        sign = sign_of(per_channel(weight, column, exists, wide)).to(wide)
    for start in range(first, tl.minimum(first + chunk, tl.cdiv(time, 3)), tile_rows):
        window, offset, valid = groups(start, sample, time, column, exists, channels, tile_rows, 3)
        values = load_rows(x + offset, valid, channels, wide)
        for i in tl.static_range(3):
            off = tl.where(valid[i], values[i] - origin, 0.0)
            plain += off
            squares += off * off
        count += tl.minimum(tl.maximum(time - 3 * window, 0), 3)
        if weight is not None:
            best = _picked(sign, values[0], values[1], values[2])
            to, whole = pooled(window, sample, time, column, exists, channels)
            tl.store(picked + to, best, mask=whole)
    n = count.to(wide)[:, None]
    off = plain / tl.maximum(n, 1.0)
    m2 = tl.maximum(squares - plain * off, 0.0)
    mean = origin + off
    center = tl.sum(n * mean, axis=0) / tl.sum(n, axis=0)
    off = mean - center[None, :]
    out = part.to(tl.int64) * channels + column
    tl.store(means + out, center, mask=exists)
    tl.store(m2s + out, tl.sum(m2 + n * off * off, axis=0), mask=exists)


@triton.jit
def _rows_of(
    part: tl.tensor,
    parts: tl.tensor,
    time: tl.tensor,
    chunks: tl.tensor,
    chunk: tl.tensor,
    wide: tl.constexpr,
) -> tl.tensor:
    """How many rows (of three per group) each ``part`` covers; 0 beyond the last part."""
    start = 3 * (part % chunks) * chunk
    return tl.where(part < parts, tl.minimum(time - start, 3 * chunk), 0).to(wide)


@triton.jit(do_not_specialize=["time", "batch", "chunks", "chunk"])
def _merge_moments(
    means: tl.tensor,  # (batch * chunks, channels)
    m2s: tl.tensor,
    mean: tl.tensor,  # out (channels,)
    rstd: tl.tensor,  # out (channels,), 1 / sqrt(var + eps)
    running_mean: tl.tensor,  # in and out (channels,), or None, as the next two
    running_var: tl.tensor,
    offset: tl.tensor,  # (channels,), to be added to the mean that counts
    batches: tl.tensor,  # () how many were seen, or None: each weighs ``momentum``
    time: tl.tensor,
    batch: tl.tensor,
    chunks: tl.tensor,
    chunk: tl.tensor,
    eps: tl.constexpr,
    momentum: tl.constexpr,
    channels: tl.constexpr,
    tile_parts: tl.constexpr,
    tile_channels: tl.constexpr,
    wide: tl.constexpr,
) -> None:
    """Combine the parts: first their mean, then their M2 about it. Move the running statistics with them."""
    column, exists = columns(channels, tile_channels)
    parts = batch * chunks
    total = (batch * time).to(wide)
    sums = tl.zeros((tile_parts, tile_channels), wide)
    for start in range(0, parts, tile_parts):
        part, at, valid = partials(start, parts, column, exists, channels, tile_parts)
        n = _rows_of(part, parts, time, chunks, chunk, wide)[:, None]
        sums += n * tl.load(means + at, mask=valid, other=0.0)
    center = tl.sum(sums, axis=0) / total
    squares = tl.zeros((tile_parts, tile_channels), wide)
    for start in range(0, parts, tile_parts):
        part, at, valid = partials(start, parts, column, exists, channels, tile_parts)
        n = _rows_of(part, parts, time, chunks, chunk, wide)[:, None]
        off = tl.load(means + at, mask=valid, other=0.0) - center[None, :]
        squares += tl.load(m2s + at, mask=valid, other=0.0) + n * off * off
    variance = tl.sum(squares, axis=0) / total
    tl.store(mean + column, center, mask=exists)
    tl.store(rstd + column, 1.0 / tl.sqrt(variance + eps), mask=exists)
    if running_mean is not None:
        rate = momentum
        if batches is not None:
            rate = tl.maximum(1.0 / tl.load(batches).to(wide), momentum)
        batch_mean = center + tl.load(offset + column, mask=exists, other=0.0).to(wide)
        old = tl.load(running_mean + column, mask=exists, other=0.0).to(wide)
        tl.store(running_mean + column, old + rate * (batch_mean - old), mask=exists)
        old = tl.load(running_var + column, mask=exists, other=0.0).to(wide)
        tl.store(running_var + column, old + rate * (variance - old), mask=exists)


@triton.jit(do_not_specialize=["time", "chunks", "chunk"])
def _sample_means(
    means: tl.tensor,  # (batch * chunks, channels)
    mean: tl.tensor,  # (channels,)
    rstd: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    standard: tl.tensor,  # out (batch, channels)
    squeezed: tl.tensor,  # out (batch, channels)
    time: tl.tensor,
    chunks: tl.tensor,
    chunk: tl.tensor,
    channels: tl.constexpr,
    tile_parts: tl.constexpr,
    tile_channels: tl.constexpr,
    wide: tl.constexpr,
) -> None:
    """Means over time of the standardised map and of the normalised one, weight * standardised + bias."""
    sample = tl.program_id(0)
    column, exists = columns(channels, tile_channels)
    own = means + sample.to(tl.int64) * chunks * channels
    sums = tl.zeros((tile_parts, tile_channels), wide)
    for start in range(0, chunks, tile_parts):
        part, at, valid = partials(start, chunks, column, exists, channels, tile_parts)
        n = _rows_of(part, chunks, time, chunks, chunk, wide)[:, None]
        sums += n * tl.load(own + at, mask=valid, other=0.0)
    center = (tl.sum(sums, axis=0) / time.to(wide))[None, :]
    xhat = (center - per_channel(mean, column, exists, wide)) * per_channel(rstd, column, exists, wide)
    value = xhat * per_channel(weight, column, exists, wide) + per_channel(bias, column, exists, wide)
    out = sample.to(tl.int64) * channels + column[None, :]
    tl.store(standard + out, xhat, mask=exists[None, :])
    tl.store(squeezed + out, value, mask=exists[None, :])


@dataclass(frozen=True)
class Moments:
    """Statistics of a map: ``mean`` and ``rstd`` (channels,), and the means of its parts."""

    mean: Tensor
    rstd: Tensor
    part_means: Tensor
    work: Split
    time: int

    def squeeze(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return the means over time, (batch, channels), of (x - mean) * rstd and of bn(x)."""
        work = self.work
        standard = sums(self.mean, work.batch, work.channels)
        squeezed = torch.empty_like(standard)
        parameters = (self.mean, self.rstd, weight, bias)
        counts = (self.time, work.chunks, work.chunk)
        arguments = (self.part_means, *parameters, standard, squeezed, *counts)
        launch_samples(_sample_means, work.batch, work.channels, standard, *arguments)
        return standard, squeezed


def batch_moments(
    x: Tensor,
    eps: float,
    *,
    running: Running | None = None,
    weight: Tensor | None = None,
    picked: Tensor | None = None,
) -> Moments:
    """Return the statistics of ``x`` (batch, channels, 1, time), read once; move those in ``running``.

    With ``weight`` (channels,) the same pass writes to ``picked`` (batch, channels, 1, time // 3) the value
    of each window of three that max pooling picks once it is multiplied by the weight.
    """
    batch, channels, _, time = x.shape
    work = split(batch, triton.cdiv(time, 3), channels, reduce=True)
    means = sums(x, work.parts, channels)
    m2s = torch.empty_like(means)
    launch(_moments, work, x, x, weight, picked, means, m2s, time)
    mean, rstd = sums(x, channels), sums(x, channels)
    moved: tuple[Tensor | None, ...] = (None,) * 4
    if running is not None:
        moved = (running.mean, running.var, running.offset, running.batches)
    arguments = (means, m2s, mean, rstd, *moved, time, batch, work.chunks, work.chunk)
    momentum = 0.0 if running is None else running.momentum
    launch_merge(_merge_moments, channels, x, *arguments, eps=eps, momentum=momentum)
    return Moments(mean, rstd, means, work, time)
