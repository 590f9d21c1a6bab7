"""Batch norm, gate, addition of a shortcut, ReLU and max pooling."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from samplecnn.model.backends.kernels.triton_common import (
    affine,
    first_largest,
    groups,
    load_rows,
    per_sample,
    place,
    pooled,
    relu,
)
from samplecnn.model.backends.kernels.triton_fork import Skip
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
from samplecnn.model.backends.kernels.triton_merge import sample_sums
from samplecnn.model.backends.kernels.triton_pool import Gate, gate_values
from samplecnn.model.backends.kernels.triton_rows import gradient_sums
from samplecnn.model.backends.kernels.triton_windows import Link, Upstream, input_half


@triton.jit
def normalise3(values: tl.tensor, center: tl.tensor, scale: tl.tensor, shift: tl.tensor) -> tl.tensor:
    """Return (x - center) * scale + shift for each of three values."""
    a = (values[0] - center) * scale + shift
    b = (values[1] - center) * scale + shift
    c = (values[2] - center) * scale + shift
    return a, b, c


@triton.jit(do_not_specialize=["time", "chunks", "chunk"])
def _add_relu_pool(
    x: tl.tensor,  # (batch, time, channels)
    mean: tl.tensor,  # (channels,)
    rstd: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    other: tl.tensor,  # like x: the shortcut
    other_mean: tl.tensor,  # (channels,), or None where the shortcut has no batch norm, as the next three
    other_rstd: tl.tensor,
    other_weight: tl.tensor,
    other_bias: tl.tensor,
    gate: tl.tensor,  # (batch, channels), or None
    y: tl.tensor,  # out (batch, time // 3, channels)
    winners: tl.tensor,  # out (batch, time // 3, channels) uint8
    picked: tl.tensor,  # out, like y: x at the winner
    other_picked: tl.tensor,  # out, like y: the shortcut at the winner; None without batch norm
    time: tl.tensor,
    chunks: tl.tensor,
    chunk: tl.tensor,
    channels: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
    wide: tl.constexpr,
) -> None:
    """y = max_pool(relu(bn(x) * gate + shortcut)), a tile of windows per program.

    The winner is the row (1 to 3) of each window that gets the gradient, or 0 where the ReLU lets none by.
    """
    _, sample, first, column, exists = place(chunks, chunk, channels, tile_channels)
    window, offset, valid = groups(first, sample, time, column, exists, channels, tile_rows, 3)
    values = load_rows(x + offset, valid, channels, wide)
    others = load_rows(other + offset, valid, channels, wide)
    center, scale, shift = affine(mean, rstd, weight, bias, column, exists, wide)
    if gate is not None:
        factor = per_sample(gate, sample, column, exists, channels, wide)
        scale *= factor
        shift *= factor
    a, b, c = normalise3(values, center, scale, shift)
    if other_mean is not None:
        center, scale, shift = affine(other_mean, other_rstd, other_weight, other_bias, column, exists, wide)
        d, e, f = normalise3(others, center, scale, shift)
    else:
        d, e, f = others
    best, index = first_largest(a + d, b + e, c + f)
    to, whole = pooled(window, sample, time, column, exists, channels)
    tl.store(y + to, relu(best), mask=whole)
    tl.store(winners + to, tl.where(best <= 0.0, 0, index + 1).to(tl.uint8), mask=whole)
    chosen = tl.where(index == 0, values[0], tl.where(index == 1, values[1], values[2]))
    tl.store(picked + to, chosen, mask=whole)
    if other_picked is not None:
        chosen = tl.where(index == 0, others[0], tl.where(index == 1, others[1], others[2]))
        tl.store(other_picked + to, chosen, mask=whole)


class _Added(torch.autograd.Function):
    """The output's half: max_pool(relu(bn(x) * gate + shortcut))."""

    @staticmethod
    def forward(
        ctx: Any,
        token: Tensor,
        other_token: Tensor,
        gate: Tensor | None,
        x: Tensor,
        norm: Norm,
        other: Tensor,
        other_norm: Norm | None,
        links: tuple[Link, Link],
    ) -> Tensor:
        batch, channels, _, time = x.shape
        y, picked = feature_map(x, time // 3), feature_map(x, time // 3)
        winners = feature_map(x, time // 3, torch.uint8)
        other_picked = None if other_norm is None else feature_map(other, time // 3)
        second: tuple[Tensor | None, ...] = other_norm or (None,) * 4
        work = split(batch, triton.cdiv(time, 3), channels, reduce=False)
        tensors = (x, *norm, other, *second, gate, y, winners, picked, other_picked)
        launch(_add_relu_pool, work, x, *tensors, time)
        ctx.save_for_backward(gate, winners, picked, *norm, other_picked, *second)
        ctx.links = links
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        gate, winners, picked, *tensors = ctx.saved_tensors
        norm, dy = Norm(*tensors[:4]), rows_first(dy)
        other = None if tensors[4] is None else (tensors[4], Norm(*tensors[5:]))
        found, chunks = gradient_sums(dy, picked, norm, winners=winners, other=other)
        dgate = None
        if gate is not None:
            batch, rows = picked.shape[0], picked.shape[3]
            found, dgate = sample_sums(
                found, batch, chunks, rows, means_from=len(found), gate=gate, norm=norm
            )
        if ctx.needs_input_grad[0]:
            ctx.links[0].append(Upstream(dy, found[0], found[1], winners, gate))
        if ctx.needs_input_grad[1]:
            ctx.links[1].append(Upstream(dy, found[0], found[-1], winners))
        order = found[0, 0, 0]  # some number: the gradients of tokens are never read
        return order, order, dgate, None, None, None, None, None


def norm_add_relu_pool(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    shortcut: Tensor | Skip,
    shortcut_weight: Tensor | None = None,
    shortcut_bias: Tensor | None = None,
    *,
    gate: Gate | None = None,
    running: Running | None = None,
    shortcut_running: Running | None = None,
) -> Tensor:
    """Return y = max_pool(relu(bn(x) * gate + s), 3).

    ``x`` and ``shortcut`` are (batch, channels, 1, time), y like them with time // 3 steps. s is the shortcut
    itself where it is a ``Skip`` from ``fork``, else its batch norm by ``shortcut_weight`` and
    ``shortcut_bias``. ``gate`` computes the gates from the means over time of bn(x), (batch, channels) in
    float32. Steps beyond the last whole window count in the statistics only; ``running`` and
    ``shortcut_running`` move towards these.

    Raises ValueError for maps, parameters and gates of the wrong shape, and for a Skip used before.
    """
    check_map("x", x, at_least=3)
    check_norm("x", x.shape, weight, bias, running)
    other = shortcut.x if isinstance(shortcut, Skip) else shortcut
    if other.shape != x.shape:
        raise ValueError(f"shortcut must have the shape of x, {tuple(x.shape)}, not {tuple(other.shape)}")
    x, other, second = rows_first(x), rows_first(other), None
    if isinstance(shortcut, Skip):
        if shortcut_weight is not None or shortcut_bias is not None:
            raise ValueError("a Skip is an identity shortcut: it takes no shortcut_weight and shortcut_bias")
        other_token, other_link = shortcut.use()
    else:
        if shortcut_weight is None or shortcut_bias is None:
            raise ValueError("a shortcut that is no Skip needs both shortcut_weight and shortcut_bias")
        check_norm("shortcut", other.shape, shortcut_weight, shortcut_bias, shortcut_running)
        second = input_half(other, shortcut_weight, shortcut_bias, eps, shortcut_running)
        other_token, other_link = second.token, second.link
    half = input_half(x, weight, bias, eps, running, squeeze=gate is not None)
    values = gate_values(gate, half)
    other_norm = None if second is None else second.norm
    links = (half.link, other_link)
    return _Added.apply(
        half.token, other_token, values, x.detach(), half.norm, other.detach(), other_norm, links
    )
