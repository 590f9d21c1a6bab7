"""Pieces of kernels: where a program works, per-channel values, and groups of rows.

All offsets into maps are int64: at batch 1024 the stem's output has more than 2**31 elements.
"""

import triton
import triton.language as tl


@triton.jit
def columns(channels: tl.constexpr, tile_channels: tl.constexpr) -> tl.tensor:
    """Return the channels of this program (tile_channels,) and which of them exist."""
    column = tl.program_id(1) * tile_channels + tl.arange(0, tile_channels)
    return column, column < channels


@triton.jit
def place(
    chunks: tl.tensor, chunk: tl.tensor, channels: tl.constexpr, tile_channels: tl.constexpr
) -> tl.tensor:
    """Return this program's row of partial results, its sample (int64), first group of rows, and columns."""
    part = tl.program_id(0)
    column, exists = columns(channels, tile_channels)
    return part, (part // chunks).to(tl.int64), (part % chunks) * chunk, column, exists


@triton.jit
def per_channel(pointer: tl.tensor, column: tl.tensor, exists: tl.tensor, wide: tl.constexpr) -> tl.tensor:
    """Load one value per channel as (1, tile_channels), zero where there is no channel."""
    return tl.load(pointer + column, mask=exists, other=0.0).to(wide)[None, :]


@triton.jit
def per_sample(
    pointer: tl.tensor,
    sample: tl.tensor,
    column: tl.tensor,
    exists: tl.tensor,
    channels: tl.constexpr,
    wide: tl.constexpr,
) -> tl.tensor:
    """Load one value per channel of ``sample`` from (batch, channels) as (1, tile_channels)."""
    return tl.load(pointer + sample * channels + column, mask=exists, other=0.0).to(wide)[None, :]


@triton.jit
def affine(
    mean: tl.tensor,
    rstd: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    column: tl.tensor,
    exists: tl.tensor,
    wide: tl.constexpr,
) -> tl.tensor:
    """Return center, scale and shift of a batch norm, bn(x) = (x - center) * scale + shift."""
    center = per_channel(mean, column, exists, wide)
    scale = per_channel(rstd, column, exists, wide) * per_channel(weight, column, exists, wide)
    return center, scale, per_channel(bias, column, exists, wide)


@triton.jit
def groups(
    start: tl.tensor,
    sample: tl.tensor,
    rows: tl.tensor,
    column: tl.tensor,
    exists: tl.tensor,
    channels: tl.constexpr,
    tile_rows: tl.constexpr,
    count: tl.constexpr,
) -> tl.tensor:
    """Return a tile's groups of 3 or 4 (``count``) rows, from group ``start`` of a sample on.

    Their numbers (tile_rows,), the offsets of their first rows and, for each of the ``count`` rows, which
    values exist, all (tile_rows, tile_channels).
    """
    group = start + tl.arange(0, tile_rows)
    row = count * group
    offset = (sample * rows + row)[:, None] * channels + column[None, :]
    inside = exists[None, :]
    a = (row < rows)[:, None] & inside
    b = (row + 1 < rows)[:, None] & inside
    c = (row + 2 < rows)[:, None] & inside
    if count == 3:
        return group, offset, (a, b, c)
    else:
        return group, offset, (a, b, c, (row + 3 < rows)[:, None] & inside)


@triton.jit
def pooled(
    window: tl.tensor,
    sample: tl.tensor,
    time: tl.tensor,
    column: tl.tensor,
    exists: tl.tensor,
    channels: tl.constexpr,
) -> tl.tensor:
    """Return the offsets of windows' values in a pooled map, and which exist: a shorter one has none."""
    offset = (sample * (time // 3) + window)[:, None] * channels + column[None, :]
    return offset, (window < time // 3)[:, None] & exists[None, :]


@triton.jit
def partials(
    start: tl.tensor,
    count: tl.tensor,
    column: tl.tensor,
    exists: tl.tensor,
    channels: tl.constexpr,
    tile_parts: tl.constexpr,
) -> tl.tensor:
    """Return a tile's rows of ``count`` partial results, from ``start`` on: numbers, offsets, which exist."""
    part = start + tl.arange(0, tile_parts)
    offset = part.to(tl.int64)[:, None] * channels + column[None, :]
    return part, offset, (part < count)[:, None] & exists[None, :]


@triton.jit
def load_rows(at: tl.tensor, valid: tl.tensor, channels: tl.constexpr, wide: tl.constexpr) -> tl.tensor:
    """Load the rows of groups, as many as ``valid`` is of, zero where it says no."""
    a = tl.load(at, mask=valid[0], other=0.0).to(wide)
    b = tl.load(at + channels, mask=valid[1], other=0.0).to(wide)
    c = tl.load(at + 2 * channels, mask=valid[2], other=0.0).to(wide)
    if len(valid) == 3:
        return a, b, c
    else:
        return a, b, c, tl.load(at + 3 * channels, mask=valid[3], other=0.0).to(wide)


@triton.jit
def relu(x: tl.tensor) -> tl.tensor:
    """max(x, 0), with NaN kept, so that a diverged network shows."""
    return tl.where(x <= 0.0, 0.0, x)


@triton.jit
def first_largest(a: tl.tensor, b: tl.tensor, c: tl.tensor) -> tl.tensor:
    """Return the largest of three and its index; the first of equals, and NaN above all, as PyTorch pools."""
    b_wins = (b > a) | (b != b)
    best = tl.where(b_wins, b, a)
    c_wins = (c > best) | (c != c)
    index = tl.where(c_wins, 2, tl.where(b_wins, 1, 0))
    return tl.where(c_wins, c, best), index


@triton.jit
def keep4(
    seed: tl.tensor, quad: tl.tensor, column: tl.tensor, channels: tl.constexpr, threshold: tl.constexpr
) -> tl.tensor:
    """Return for the four rows of each ``quad`` (int64) which values dropout keeps.

    A function of seed, quad and channel alone, so that the backward draws the same again: Philox4x32-7, the
    fewest rounds that pass all statistical tests (Salmon et al., 2011). ``threshold`` is the probability of
    being dropped times 2**31.
    """
    draws = tl.randint4x(seed, quad[:, None] * channels + column[None, :], 7)
    a = (draws[0] >> 1).to(tl.int32) >= threshold
    b = (draws[1] >> 1).to(tl.int32) >= threshold
    c = (draws[2] >> 1).to(tl.int32) >= threshold
    d = (draws[3] >> 1).to(tl.int32) >= threshold
    return a, b, c, d
