"""The gates of squeeze-and-excitation in mixed precision: two launches forward, and two backward.

All matrices are small: launches cost more than memory. So a program does everything that concerns its hidden
units, whose rows of the first weight and columns of the second it reads once on either way. What it adds to
sums over all hidden units is a part of its own; the second launch adds the parts up, in a fixed order.

Operands of products are rounded to the type that autocast asks for, and nothing else is; sums are float32.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from samplecnn.model.backends.kernels import triton_launch
from samplecnn.model.backends.kernels.triton_common import columns, relu

MAX_BATCH = 64  # samples, all in one tile: with more of them PyTorch's own products keep a GPU busy
PROGRAMS = 128  # one per multiprocessor of an H200, as far as tiles of 16 to 64 hidden units allow
WARPS = 8
STAGES = 4, 3  # tiles of a loop on their way at once, forward and backward; one less of large tiles
MERGE_PARTS, MERGE_CHANNELS = 128, 32  # tile of the kernel that adds up the parts


@triton.jit
def _load(x: tl.tensor, row: tl.tensor, column: tl.tensor, rows: tl.tensor, width: tl.constexpr) -> tl.tensor:
    """Load the tile between ``row`` and ``column`` of a (rows, width) matrix, zero beyond it."""
    return tl.load(x + row * width + column, mask=(row < rows) & (column < width), other=0.0)


@triton.jit
def _store(
    x: tl.tensor, value: tl.tensor, row: tl.tensor, column: tl.tensor, rows: tl.tensor, width: tl.constexpr
) -> None:
    """Store what ``_load`` would load."""
    tl.store(x + row * width + column, value, mask=(row < rows) & (column < width))


@triton.jit(do_not_specialize=["batch"])
def _gate_parts(
    squeezed: tl.tensor,  # (batch, channels)
    weight1: tl.tensor,  # (hidden, channels)
    bias1: tl.tensor,  # (1, hidden)
    weight2: tl.tensor,  # (channels, hidden)
    active: tl.tensor,  # out (batch, hidden): the hidden units after their ReLU
    parts: tl.tensor,  # out (batch * programs, channels)
    batch: tl.tensor,
    hidden: tl.constexpr,
    channels: tl.constexpr,
    tile_batch: tl.constexpr,
    tile_hidden: tl.constexpr,
    tile_channels: tl.constexpr,
    wide: tl.constexpr,
) -> None:
    """The hidden units of each program, and what they add to the second layer's outputs."""
    low: tl.constexpr = active.dtype.element_ty
    row = tl.arange(0, tile_batch).to(tl.int64)[:, None]
    unit = tl.program_id(0).to(tl.int64) * tile_hidden + tl.arange(0, tile_hidden)
    column = tl.arange(0, tile_channels).to(tl.int64)
    total = tl.zeros((tile_batch, tile_hidden), wide)
    for first in range(0, channels, tile_channels):
        s = _load(squeezed, row, (first + column)[None, :], batch, channels).to(low)
        w = _load(weight1, unit[None, :], (first + column)[:, None], hidden, channels).to(low)
        total = tl.dot(s, w, total)
    total += _load(bias1, 0, unit[None, :], 1, hidden).to(wide)
    h = relu(total).to(low)
    _store(active, h, row, unit[None, :], batch, hidden)
    part, count = row * tl.num_programs(0) + tl.program_id(0), batch * tl.num_programs(0)
    for first in range(0, channels, tile_channels):
        w = _load(weight2, (first + column)[None, :], unit[:, None], channels, hidden).to(low)
        _store(parts, tl.dot(h, w), part, (first + column)[None, :], count, channels)


@triton.jit
def _before_sigmoid(
    dgate: tl.tensor, gate: tl.tensor, row: tl.tensor, column: tl.tensor, rows: tl.tensor, width: tl.constexpr
) -> tl.tensor:
    """Return a tile of the gradient of what entered the sigmoid."""
    e = _load(gate, row, column, rows, width)
    return _load(dgate, row, column, rows, width) * e * (1.0 - e)


@triton.jit(do_not_specialize=["batch"])
def _gate_backward(
    dgate: tl.tensor,  # (batch, channels)
    gate: tl.tensor,  # (batch, channels)
    squeezed: tl.tensor,  # (batch, channels)
    active: tl.tensor,  # (batch, hidden)
    weight1: tl.tensor,  # (hidden, channels)
    weight2: tl.tensor,  # (channels, hidden)
    dweight1: tl.tensor,  # out, like the weights and biases
    dbias1: tl.tensor,
    dweight2: tl.tensor,
    dbias2: tl.tensor,
    parts: tl.tensor,  # out (batch * programs, channels): of the gradient of squeezed
    batch: tl.tensor,
    hidden: tl.constexpr,
    channels: tl.constexpr,
    tile_batch: tl.constexpr,
    tile_hidden: tl.constexpr,
    tile_channels: tl.constexpr,
    wide: tl.constexpr,
) -> None:
    """All gradients; that of ``squeezed`` in parts."""
    low: tl.constexpr = active.dtype.element_ty
    row = tl.arange(0, tile_batch).to(tl.int64)[:, None]
    unit = tl.program_id(0).to(tl.int64) * tile_hidden + tl.arange(0, tile_hidden)
    column = tl.arange(0, tile_channels).to(tl.int64)
    total = tl.zeros((tile_batch, tile_hidden), wide)
    for first in range(0, channels, tile_channels):
        g = _before_sigmoid(dgate, gate, row, (first + column)[None, :], batch, channels)
        w = _load(weight2, (first + column)[:, None], unit[None, :], channels, hidden).to(low)
        total = tl.dot(g.to(low), w, total)
    h = _load(active, row, unit[None, :], batch, hidden)
    total = tl.where(h <= 0.0, 0.0, total)
    _store(dbias1, tl.sum(total, axis=0)[None, :], 0, unit[None, :], 1, hidden)
    dh = total.to(low)
    part, count = row * tl.num_programs(0) + tl.program_id(0), batch * tl.num_programs(0)
    for first in range(0, channels, tile_channels):
        across, down = (first + column)[None, :], (first + column)[:, None]
        g = _before_sigmoid(dgate, gate, row, across, batch, channels)
        if first // tile_channels % tl.num_programs(0) == tl.program_id(0):
            _store(dbias2, tl.sum(g, axis=0)[None, :], 0, across, 1, channels)
        _store(dweight2, tl.dot(tl.trans(g.to(low)), h), down, unit[None, :], channels, hidden)
        s = _load(squeezed, row, across, batch, channels).to(low)
        _store(dweight1, tl.dot(tl.trans(dh), s), unit[:, None], across, hidden, channels)
        w = _load(weight1, unit[:, None], across, hidden, channels).to(low)
        _store(parts, tl.dot(dh, w), part, across, count, channels)


@triton.jit(do_not_specialize=["count"])
def _gate_merge(
    parts: tl.tensor,  # (batch * count, channels)
    bias: tl.tensor,  # (1, channels), or None
    out: tl.tensor,  # out (batch, channels)
    count: tl.tensor,
    channels: tl.constexpr,
    tile_parts: tl.constexpr,
    tile_channels: tl.constexpr,
    wide: tl.constexpr,
) -> None:
    """Sums of each sample's parts; with ``bias`` the sigmoid of sum and bias."""
    sample = tl.program_id(0).to(tl.int64)
    column = columns(channels, tile_channels)[0][None, :]
    total = tl.zeros((tile_parts, tile_channels), wide)
    for start in range(0, count, tile_parts):
        part = (start + tl.arange(0, tile_parts))[:, None]
        total += _load(parts + sample * count * channels, part.to(tl.int64), column, count, channels)
    value = tl.sum(total, axis=0)[None, :]
    if bias is not None:
        value = tl.sigmoid(value + _load(bias, 0, column, 1, channels).to(wide))
    _store(out, value, sample, column, sample + 1, channels)


def _parts(kernel: Any, stages: int, squeezed: Tensor, weight1: Tensor, *arguments: Tensor) -> Tensor:
    """Run ``kernel`` over the hidden units; return its parts (batch, programs, channels)."""
    (batch, channels), hidden = squeezed.shape, len(weight1)
    tile_batch = max(16, triton.next_power_of_2(batch))  # products take at least 16 of each
    share = max(16, triton.next_power_of_2(triton.cdiv(hidden, PROGRAMS)))
    tile_hidden = min(share, 64, 2048 // tile_batch)
    stage = 12 * tile_batch + weight1.element_size() * tile_hidden  # bytes of a channel in the backward
    tile = {
        "hidden": hidden,
        "tile_batch": tile_batch,
        "tile_hidden": tile_hidden,
        "tile_channels": min(max(16, triton.next_power_of_2(channels)), 64),
        "num_warps": WARPS,
        "num_stages": stages - (stage > 512),  # to fit the 99 KB of shared memory that smaller GPUs have
    }
    programs = triton.cdiv(hidden, tile_hidden)
    parts = triton_launch.sums(squeezed, batch, programs, channels)
    triton_launch.run(kernel, (programs,), squeezed, channels, *arguments, parts, batch, **tile)
    return parts


def _merge(parts: Tensor, bias: Tensor | None, out: Tensor) -> Tensor:
    batch, count, channels = parts.shape
    grid = batch, triton.cdiv(channels, MERGE_CHANNELS)
    tile = {"tile_parts": MERGE_PARTS, "tile_channels": MERGE_CHANNELS}
    triton_launch.run(_gate_merge, grid, parts, channels, parts, bias, out, count, **tile)
    return out


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, squeezed: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, dtype: torch.dtype
    ) -> Tensor:
        active = squeezed.new_empty(len(squeezed), len(w1), dtype=dtype)
        parts = _parts(_gate_parts, STAGES[0], squeezed, w1, squeezed, w1, b1, w2, active)
        gate = _merge(parts, b2, torch.empty_like(squeezed, dtype=parts.dtype))
        ctx.save_for_backward(gate, squeezed, active, w1, b1, w2, b2)
        return gate

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dgate: Tensor) -> tuple[Tensor | None, ...]:
        gate, squeezed, active, w1, b1, w2, b2 = ctx.saved_tensors
        found = [torch.empty_like(parameter) for parameter in (w1, b1, w2, b2)]
        tensors = (dgate.contiguous(), gate, squeezed, active, w1, w2, *found)
        parts = _parts(_gate_backward, STAGES[1], squeezed, w1, *tensors)
        return _merge(parts, None, torch.empty_like(squeezed)), *found, None


def gate(
    squeezed: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, *, dtype: torch.dtype
) -> Tensor:
    """Return sigmoid(weight2 relu(weight1 squeezed + bias1) + bias2), (batch, channels) in float32.

    ``squeezed`` is (batch, channels), ``weight1`` (hidden, channels), ``weight2`` (channels, hidden), of any
    types but float64; products have operands in ``dtype``, float16 or bfloat16.

    Raises ValueError for other shapes and types, and for more than ``MAX_BATCH`` samples.
    """
    hidden, channels = weight1.shape
    shapes = [tuple(t.shape) for t in (squeezed, weight1, bias1, weight2, bias2)]
    wanted = [(len(squeezed), channels), (hidden, channels), (hidden,), (channels, hidden), (channels,)]
    if shapes != wanted or not 0 < len(squeezed) <= MAX_BATCH:
        raise ValueError(
            f"a gate takes means (batch, channels) of 1 to {MAX_BATCH} samples, weights (hidden, channels) "
            f"and (channels, hidden) and their biases, not shapes {shapes}"
        )
    if dtype not in (torch.float16, torch.bfloat16) or squeezed.dtype == torch.float64:
        raise ValueError(f"a gate multiplies float16 or bfloat16, not {dtype} made of {squeezed.dtype}")
    tensors = (t.contiguous() for t in (squeezed, weight1, bias1, weight2, bias2))
    return _Gate.apply(*tensors, dtype)
