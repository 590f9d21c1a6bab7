"""Passes over maps row by row: normalise and rectify, and the sums that a backward needs.

A map here is either a whole one or that of the values that pooling picks: the affine map of batch norm and
the ReLU commute with max pooling if the picks follow the sign of the weight.
"""

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from samplecnn.model.backends.kernels.triton_common import (
    affine,
    groups,
    keep4,
    load_rows,
    per_channel,
    per_sample,
    place,
    relu,
)
from samplecnn.model.backends.kernels.triton_launch import Norm, launch, split, sums
from samplecnn.model.backends.kernels.triton_merge import sample_sums


class Dropout(NamedTuple):
    """Dropout with probability ``p``, as a function of the int64 in ``seed`` (1,); no seed, no dropout."""

    seed: Tensor | None = None
    p: float = 0.0

    @property
    def options(self) -> dict[str, float]:
        """What kernels compare with and multiply by."""
        return {"threshold": round(self.p * 2**31), "gain": 1 / (1 - self.p)}


NO_DROPOUT = Dropout()


@triton.jit(do_not_specialize=["rows", "chunks", "chunk"])
def _activate(
    x: tl.tensor,  # (batch, rows, channels)
    y: tl.tensor,  # out, the same
    mean: tl.tensor,  # (channels,)
    rstd: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    gate: tl.tensor,  # (batch, channels) or None
    seed: tl.tensor,  # (1,) or None
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
    """y = dropout(relu(bn(x))) * gate; a tile of quads of rows per program."""
    _, sample, first, column, exists = place(chunks, chunk, channels, tile_channels)
    quad, offset, valid = groups(first, sample, rows, column, exists, channels, tile_rows, 4)
    values = load_rows(x + offset, valid, channels, wide)
    center, scale, shift = affine(mean, rstd, weight, bias, column, exists, wide)
    if gate is not None:
        factor = per_sample(gate, sample, column, exists, channels, wide)
    if seed is not None:
        kept = keep4(tl.load(seed), sample * tl.cdiv(rows, 4) + quad, column, channels, threshold)
    for i in tl.static_range(4):
        value = relu((values[i] - center) * scale + shift)
        if gate is not None:
            value *= factor
        if seed is not None:
            value = tl.where(kept[i], value * gain, 0.0)
        tl.store(y + offset + i * channels, value, mask=valid[i])


def activate(
    x: Tensor, y: Tensor, norm: Norm, *, gate: Tensor | None = None, dropout: Dropout = NO_DROPOUT
) -> None:
    """Write dropout(relu(bn(x))) * gate to ``y``; both (batch, channels, 1, rows), gate (batch, channels)."""
    batch, channels, _, rows = x.shape
    work = split(batch, triton.cdiv(rows, 4), channels, reduce=False)
    launch(_activate, work, x, x, y, *norm, gate, dropout.seed, rows, **dropout.options)


@triton.jit(do_not_specialize=["rows", "chunks", "chunk"])
def _relu_sums(
    x: tl.tensor,  # (batch, rows, channels)
    mean: tl.tensor,  # (channels,)
    rstd: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    out: tl.tensor,  # (parts, channels)
    rows: tl.tensor,
    chunks: tl.tensor,
    chunk: tl.tensor,
    channels: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
    wide: tl.constexpr,
) -> None:
    """Sums of relu(bn(x)) over the rows of each part."""
    part, sample, first, column, exists = place(chunks, chunk, channels, tile_channels)
    center, scale, shift = affine(mean, rstd, weight, bias, column, exists, wide)
    total = tl.zeros((tile_rows, tile_channels), wide)
    for start in range(first, tl.minimum(first + chunk, tl.cdiv(rows, 4)), tile_rows):
        _, offset, valid = groups(start, sample, rows, column, exists, channels, tile_rows, 4)
        values = load_rows(x + offset, valid, channels, wide)
        for i in tl.static_range(4):
            total += tl.where(valid[i], relu((values[i] - center) * scale + shift), 0.0)
    tl.store(out + part.to(tl.int64) * channels + column, tl.sum(total, axis=0), mask=exists)


def relu_means(x: Tensor, norm: Norm) -> Tensor:
    """Return the means over rows, (batch, channels), of relu(bn(x)) for ``x`` (batch, channels, 1, rows)."""
    batch, channels, _, rows = x.shape
    work = split(batch, triton.cdiv(rows, 4), channels, reduce=True)
    parts = sums(x, 1, work.parts, channels)
    launch(_relu_sums, work, x, x, *norm, parts, rows)
    means, _ = sample_sums(parts, batch, work.chunks, rows, means_from=0)
    return means[0]


@triton.jit
def _store_sum(
    out: tl.tensor,  # (count, parts, channels)
    number: tl.constexpr,
    part: tl.tensor,
    values: tl.tensor,  # (tile_rows, tile_channels)
    column: tl.tensor,
    exists: tl.tensor,
    channels: tl.constexpr,
) -> None:
    """Store the sum over a part's rows as its sum ``number``."""
    row = number * tl.num_programs(0).to(tl.int64) + part
    tl.store(out + row * channels + column, tl.sum(values, axis=0), mask=exists)


@triton.jit(do_not_specialize=["rows", "chunks", "chunk"])
def _gradient_sums(
    dy: tl.tensor,  # (batch, rows, channels)
    x: tl.tensor,  # the same
    mean: tl.tensor,  # (channels,)
    rstd: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    winners: tl.tensor,  # (batch, rows, channels) uint8, 0 where no gradient passes; None: bn(x) > 0 decides
    other: tl.tensor,  # a second map like x, or None
    other_mean: tl.tensor,
    other_rstd: tl.tensor,
    seed: tl.tensor,  # (1,) or None
    out: tl.tensor,  # (2 to 4, parts, channels)
    rows: tl.tensor,
    chunks: tl.tensor,
    chunk: tl.tensor,
    threshold: tl.constexpr,
    gain: tl.constexpr,
    exposure: tl.constexpr,
    channels: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
    wide: tl.constexpr,
) -> None:
    """Sums over the rows of each part: of g = dy where it passes, of g * xhat, and then either of
    g * (standardised other), or with ``exposure`` of 1 and of xhat where a gradient may pass.
    """
    part, sample, first, column, exists = place(chunks, chunk, channels, tile_channels)
    center, scale, shift = affine(mean, rstd, weight, bias, column, exists, wide)
    unit = per_channel(rstd, column, exists, wide)
    if other is not None:
        other_center = per_channel(other_mean, column, exists, wide)
        other_unit = per_channel(other_rstd, column, exists, wide)
    a = tl.zeros((tile_rows, tile_channels), wide)
    b, c, d = a, a, a
    for start in range(first, tl.minimum(first + chunk, tl.cdiv(rows, 4)), tile_rows):
        quad, offset, valid = groups(start, sample, rows, column, exists, channels, tile_rows, 4)
        gradients = load_rows(dy + offset, valid, channels, wide)
        values = load_rows(x + offset, valid, channels, wide)
        if winners is not None:
            codes = load_rows(winners + offset, valid, channels, wide)
        if other is not None:
            others = load_rows(other + offset, valid, channels, wide)
        if seed is not None:
            kept = keep4(tl.load(seed), sample * tl.cdiv(rows, 4) + quad, column, channels, threshold)
        for i in tl.static_range(4):
            off = values[i] - center
            passes = codes[i] > 0.0 if winners is not None else (off * scale + shift > 0.0) & valid[i]
            g = tl.where(passes, gradients[i], 0.0)
            if seed is not None:
                g = tl.where(kept[i], g * gain, 0.0)
            a += g
            b += g * (off * unit)
            if exposure:
                c += tl.where(passes, 1.0, 0.0)
                d += tl.where(passes, off * unit, 0.0)
            if other is not None:
                c += g * ((others[i] - other_center) * other_unit)
    _store_sum(out, 0, part, a, column, exists, channels)
    _store_sum(out, 1, part, b, column, exists, channels)
    if exposure or other is not None:
        _store_sum(out, 2, part, c, column, exists, channels)
    if exposure:
        _store_sum(out, 3, part, d, column, exists, channels)


def gradient_sums(
    dy: Tensor,
    x: Tensor,
    norm: Norm,
    *,
    winners: Tensor | None = None,
    other: tuple[Tensor, Norm] | None = None,
    exposure: bool = False,
    dropout: Dropout = NO_DROPOUT,
) -> tuple[Tensor, int]:
    """Return sums (2 to 4, batch * chunks, channels) over parts of each sample, and the number of chunks.

    With g = ``dy`` where relu(bn(x)) (or ``winners``) lets it pass and hats for standardised maps, the sums
    are those of g and g * xhat, then of g * hat of the ``other`` map, or of 1 and xhat where g may pass.
    """
    batch, channels, _, rows = x.shape
    work = split(batch, triton.cdiv(rows, 4), channels, reduce=True)
    out = sums(x, 4 if exposure else 3 if other else 2, work.parts, channels)
    second = (None, None, None) if other is None else (other[0], other[1].mean, other[1].rstd)
    arguments = (dy, x, *norm, winners, *second, dropout.seed, out, rows)
    launch(_gradient_sums, work, x, *arguments, exposure=exposure, **dropout.options)
    return out, work.chunks
