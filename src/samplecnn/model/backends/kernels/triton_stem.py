"""The strided first layer with its ReLU: three samples to a value of each channel, and the way back.

One pass over the map in either direction. Multiplied in float32 (float64 for such waveforms), also where
autocast, which chooses the type of the map, would round samples and weights first.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from samplecnn.model.backends.kernels.triton_common import groups, load_rows, per_channel, place, relu
from samplecnn.model.backends.kernels.triton_launch import MAX_ROWS, launch, rows_first, split, sums

TAPS = 3


@triton.jit
def _rows_of(
    matrix: tl.tensor, column: tl.tensor, exists: tl.tensor, channels: tl.constexpr, wide: tl.constexpr
) -> tl.tensor:
    """Load the rows of the matrix, each (1, tile_channels): three of weights, and one of biases."""
    a = per_channel(matrix, column, exists, wide)
    b = per_channel(matrix + channels, column, exists, wide)
    c = per_channel(matrix + 2 * channels, column, exists, wide)
    return a, b, c, per_channel(matrix + 3 * channels, column, exists, wide)


@triton.jit
def _samples(x: tl.tensor, row: tl.tensor, rows: tl.tensor, wide: tl.constexpr) -> tl.tensor:
    """Load the samples under the taps at each row, three of (tile_rows, 1)."""
    valid = (row < rows)[:, None]
    return load_rows(x + row.to(tl.int64)[:, None] * 3, (valid, valid, valid), 1, wide)


@triton.jit
def _product(samples: tl.tensor, weights: tl.tensor) -> tl.tensor:
    """Return (tile_rows, tile_channels) before the ReLU; `fma` rounds alike on both ways."""
    value = tl.fma(samples[2], weights[2], weights[3])
    return tl.fma(samples[0], weights[0], tl.fma(samples[1], weights[1], value))


@triton.jit(do_not_specialize=["rows", "chunks", "chunk"])
def _stem(
    x: tl.tensor,  # (rows, 3)
    matrix: tl.tensor,  # (4, channels)
    y: tl.tensor,  # out (rows, channels)
    rows: tl.tensor,
    chunks: tl.tensor,
    chunk: tl.tensor,
    channels: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
    wide: tl.constexpr,
) -> None:
    """y = relu(weights x + bias); a tile of rows per program."""
    _, _, first, column, exists = place(chunks, chunk, channels, tile_channels)
    row = first + tl.arange(0, tile_rows)
    value = _product(_samples(x, row, rows, wide), _rows_of(matrix, column, exists, channels, wide))
    to = y + row.to(tl.int64)[:, None] * channels + column[None, :]
    tl.store(to, relu(value), mask=(row < rows)[:, None] & exists[None, :])


@triton.jit(do_not_specialize=["rows", "chunks", "chunk"])
def _stem_gradient(
    x: tl.tensor,  # (rows, 3)
    matrix: tl.tensor,  # (4, channels)
    dy: tl.tensor,  # (rows, channels)
    out: tl.tensor,  # (parts, 4, channels)
    rows: tl.tensor,
    chunks: tl.tensor,
    chunk: tl.tensor,
    channels: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
    wide: tl.constexpr,
) -> None:
    """Sums over the rows of each part, of g * each sample and of g = dy where the ReLU lets it pass."""
    part, _, first, column, exists = place(chunks, chunk, channels, tile_channels)
    only = tl.full((), 0, tl.int64)  # the batch is one run of rows
    weights = _rows_of(matrix, column, exists, channels, wide)
    a = tl.zeros((tile_rows, tile_channels), wide)
    b, c, d = a, a, a
    for start in range(first, tl.minimum(first + chunk, tl.cdiv(rows, 4)), tile_rows):
        quad, offset, valid = groups(start, only, rows, column, exists, channels, tile_rows, 4)
        gradients = load_rows(dy + offset, valid, channels, wide)
        for i in tl.static_range(4):
            samples = _samples(x, 4 * quad + i, rows, wide)
            g = tl.where(_product(samples, weights) <= 0.0, 0.0, gradients[i])
            a += g * samples[0]
            b += g * samples[1]
            c += g * samples[2]
            d += g
    to = out + part.to(tl.int64) * (4 * channels) + column
    tl.store(to, tl.sum(a, axis=0), mask=exists)
    tl.store(to + channels, tl.sum(b, axis=0), mask=exists)
    tl.store(to + 2 * channels, tl.sum(c, axis=0), mask=exists)
    tl.store(to + 3 * channels, tl.sum(d, axis=0), mask=exists)


class _Stem(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, dtype: torch.dtype) -> Tensor:
        shape = (len(x), matrix.shape[1], 1, x.shape[1] // TAPS)
        y = torch.empty(shape, dtype=dtype, device=x.device, memory_format=torch.channels_last)
        rows = x.numel() // TAPS
        work = split(1, rows, matrix.shape[1], reduce=False, size=8)
        launch(_stem, work, y, x, matrix, y, rows)
        ctx.save_for_backward(x, matrix)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[None, Tensor, None]:
        x, matrix = ctx.saved_tensors
        dy, rows = rows_first(dy), x.numel() // TAPS
        work = split(1, triton.cdiv(rows, 4), matrix.shape[1], reduce=True)
        parts = sums(dy, work.parts, *matrix.shape)
        launch(_stem_gradient, work, dy, x, matrix, dy, parts, rows)
        return None, parts.sum(dim=0).to(matrix.dtype), None


def stem(waveforms: Tensor, matrix: Tensor) -> Tensor:
    """Return relu(a weighted sum of three samples each, plus a bias), (batch, channels, 1, samples // 3).

    ``matrix`` (4, channels) has the weights of each tap, and the biases; it alone gets a gradient. The map is
    in ``channels_last`` memory and of the type of ``waveforms`` (batch, samples), or what autocast asks for.

    Raises ValueError for waveforms and matrices of the wrong shape.
    """
    if waveforms.ndim != 2 or waveforms.shape[1] % TAPS or not 0 < waveforms.numel() // TAPS <= MAX_ROWS:
        raise ValueError(
            f"waveforms must be of shape (batch, samples) with a multiple of {TAPS} samples, "
            f"{MAX_ROWS * TAPS} at most in all, not {tuple(waveforms.shape)}"
        )
    if matrix.ndim != 2 or len(matrix) != TAPS + 1:
        raise ValueError(f"matrix must have the shape ({TAPS + 1}, channels), not {tuple(matrix.shape)}")
    kind, dtype = waveforms.device.type, waveforms.dtype
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    return _Stem.apply(waveforms.contiguous(), matrix.contiguous(), dtype)
