"""The identity shortcut of a residual block, as the input's half of its addition."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from samplecnn.model.backends.kernels.triton_common import groups, load_rows, place, pooled
from samplecnn.model.backends.kernels.triton_launch import (
    check_map,
    feature_map,
    launch,
    rows_first,
    split,
    sums,
)
from samplecnn.model.backends.kernels.triton_windows import Link


@triton.jit(do_not_specialize=["time", "chunks", "chunk"])
def _scatter(
    dx: tl.tensor,  # (batch, time, channels), or None
    dy: tl.tensor,  # (batch, time // 3, channels)
    winners: tl.tensor,  # (batch, time // 3, channels) uint8
    out: tl.tensor,  # out (batch, time, channels)
    time: tl.tensor,
    chunks: tl.tensor,
    chunk: tl.tensor,
    channels: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
    wide: tl.constexpr,
) -> None:
    """out = dx, plus dy at the winner of each window."""
    _, sample, first, column, exists = place(chunks, chunk, channels, tile_channels)
    window, offset, valid = groups(first, sample, time, column, exists, channels, tile_rows, 3)
    at, whole = pooled(window, sample, time, column, exists, channels)
    g = tl.load(dy + at, mask=whole, other=0.0).to(wide)
    winner = tl.load(winners + at, mask=whole, other=0).to(tl.int32) - 1
    if dx is not None:
        values = load_rows(dx + offset, valid, channels, wide)
    for i in tl.static_range(3):
        result = tl.where(winner == i, g, 0.0)
        if dx is not None:
            result += values[i]
        tl.store(out + offset + i * channels, result, mask=valid[i])


class Skip:
    """An identity shortcut: the map to add, and the way for its gradient back to ``fork``."""

    def __init__(self, x: Tensor, token: Tensor, link: Link) -> None:
        self.x = x
        self._ends: tuple[Tensor, Link] | None = token, link

    def use(self) -> tuple[Tensor, Link]:
        """Return token and link for the output's half.

        Raises ValueError the second time: there is room for the gradient of one addition.
        """
        if self._ends is None:
            raise ValueError("a Skip can be added once; fork the map again for another addition")
        ends, self._ends = self._ends, None
        return ends


class _Fork(torch.autograd.Function):
    """The input's half of an identity shortcut: no statistics, and the gradient of both ways in one pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, link: Link) -> tuple[Tensor, Tensor]:
        ctx.link, ctx.dtype, ctx.time = link, x.dtype, x.shape[3]
        ctx.set_materialize_grads(False)
        return x.view_as(x), sums(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dx: Tensor | None, token: Tensor | None) -> tuple[Tensor | None, None]:
        if token is None:
            return dx, None
        up = ctx.link.pop()
        out = feature_map(up.dy, ctx.time, ctx.dtype)
        batch, channels, _, time = out.shape
        work = split(batch, triton.cdiv(time, 3), channels, reduce=False)
        dx = None if dx is None else rows_first(dx)
        launch(_scatter, work, out, dx, up.dy, up.winners, out, time)
        return out, None


def fork(x: Tensor) -> tuple[Tensor, Skip]:
    """Return ``x`` (batch, channels, 1, time) for a block's convolution, and for its identity shortcut.

    Both are ``x``; but the gradients of the two ways are then added in the pass that spreads the
    shortcut's over the windows, instead of in a pass of autograd's own. Raises ValueError for other shapes.
    """
    check_map("x", x)
    link: Link = []
    x, token = _Fork.apply(rows_first(x), link)
    return x, Skip(x.detach(), token, link)
