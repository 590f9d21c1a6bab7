"""The half of a pooling operation that owns its input: statistics forward, the input's gradient backward.

Where a gate is computed from the squeezed map, the gradient of the map's values needs that of the squeezed
means, which only exists once autograd has been through the excitation. So an operation is two autograd
functions: the one here comes first, gives the squeezed means, and is the last in the backward, where it
writes the map's gradient in one pass; the other makes the output, and in the backward finds the sums that
the gate's gradient needs. What it learns it leaves in their ``Link``. A scalar token that is handed from
one to the other, and is never read, makes autograd keep the order.
"""

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from samplecnn.model.backends.kernels.triton_common import (
    affine,
    groups,
    load_rows,
    per_channel,
    per_sample,
    place,
    pooled,
)
from samplecnn.model.backends.kernels.triton_launch import Norm, Running, feature_map, launch, split, sums
from samplecnn.model.backends.kernels.triton_merge import merge_gradients
from samplecnn.model.backends.kernels.triton_moments import batch_moments, pick, sign_of
from samplecnn.model.backends.kernels.triton_rows import relu_means


@dataclass(frozen=True)
class Upstream:
    """What the output's half leaves for the input's.

    ``dy`` (batch, channels, 1, time // 3) is the output's gradient; ``winners`` the row of each window that
    it goes to (1 to 3, or 0 for none), or None if the largest value is to be found again. ``first`` and
    ``second`` are the sums over parts, or with a ``gate`` (batch, channels) over samples, of what passes
    and of this times xhat. ``exposure`` are the means over the pooled map of 1 and xhat where it passes.
    """

    dy: Tensor
    first: Tensor
    second: Tensor
    winners: Tensor | None = None
    gate: Tensor | None = None
    exposure: tuple[Tensor, Tensor] | None = None


Link = list[Upstream]  # between the halves of one operation; holds something only during a backward


@triton.jit(do_not_specialize=["count", "time", "chunks", "chunk"])
def _window_backward(
    x: tl.tensor,  # (batch, time, channels)
    dy: tl.tensor,  # (batch, time // 3, channels)
    dx: tl.tensor,  # out, like x
    mean: tl.tensor,  # (channels,)
    rstd: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    dweight: tl.tensor,
    dbias: tl.tensor,
    winners: tl.tensor,  # (batch, time // 3, channels) uint8, or None
    gate: tl.tensor,  # (batch, channels), or None
    dsqueeze: tl.tensor,  # (batch, channels), or None
    count: tl.tensor,  # values per channel in the batch
    time: tl.tensor,
    chunks: tl.tensor,
    chunk: tl.tensor,
    channels: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
    wide: tl.constexpr,
) -> None:
    """dx = weight * rstd * (dv - dbias / count - xhat * dweight / count), dv the gradient of bn(x).

    dv is gate * dy at the winner of each window. Without ``winners`` that is the largest bn(x) if positive,
    and the squeeze was over the pooled map; with them it was over bn(x), so dsqueeze reaches all rows.
    """
    _, sample, first, column, exists = place(chunks, chunk, channels, tile_channels)
    window, offset, valid = groups(first, sample, time, column, exists, channels, tile_rows, 3)
    values = load_rows(x + offset, valid, channels, wide)
    at, whole = pooled(window, sample, time, column, exists, channels)
    g = tl.load(dy + at, mask=whole, other=0.0).to(wide)
    center, scale, shift = affine(mean, rstd, weight, bias, column, exists, wide)
    unit = per_channel(rstd, column, exists, wide)
    level = per_channel(dbias, column, exists, wide) / count.to(wide)
    slope = per_channel(dweight, column, exists, wide) / count.to(wide) * unit
    if gate is not None:
        g *= per_sample(gate, sample, column, exists, channels, wide)
    if winners is not None:
        winner = tl.load(winners + at, mask=whole, other=0).to(tl.int32) - 1
        if dsqueeze is not None:
            level -= per_sample(dsqueeze, sample, column, exists, channels, wide) / time.to(wide)
    else:
        sign = sign_of(per_channel(weight, column, exists, wide)).to(wide)
        best, index = pick(sign, values[0], values[1], values[2])
        passes = (best - center) * scale + shift > 0.0
        winner = tl.where(passes & whole, index, -1)
        if dsqueeze is not None:
            g += per_sample(dsqueeze, sample, column, exists, channels, wide) / (time // 3).to(wide)
    for i in tl.static_range(3):
        at_winner = tl.where(winner == i, g, 0.0)
        result = scale * (at_winner - level - (values[i] - center) * slope)
        tl.store(dx + offset + i * channels, result, mask=valid[i])


class _InputHalf(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        offset: Tensor | None,
        running: Running | None,
        eps: float,
        link: Link,
        pooling: bool,
        squeeze: bool,
    ) -> tuple[Tensor | None, ...]:
        picked = feature_map(x, x.shape[3] // 3) if pooling else None
        moments = batch_moments(x, eps, running=running, weight=weight if pooling else None, picked=picked)
        norm = Norm(moments.mean, moments.rstd, weight, bias)
        squeezed = standard = None
        if squeeze and picked is not None:
            squeezed = relu_means(picked, norm)
        elif squeeze:
            standard, squeezed = moments.squeeze(weight, bias)
        ctx.save_for_backward(x, *norm, standard, offset)
        ctx.link = link
        constants = (moments.mean, moments.rstd, picked)
        ctx.mark_non_differentiable(*(tensor for tensor in constants if tensor is not None))
        ctx.set_materialize_grads(False)
        return sums(x), squeezed, *constants

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, token: Tensor | None, dsqueeze: Tensor | None, *unused: None
    ) -> tuple[Tensor | None, ...]:
        if token is None:
            return (None,) * 9
        x, mean, rstd, weight, bias, standard, offset = ctx.saved_tensors
        up = ctx.link.pop()
        exposure = None
        if up.exposure is not None:
            exposure, standard = up.exposure
        dsqueeze = None if dsqueeze is None else dsqueeze.contiguous()
        dweight, dbias, doffset = merge_gradients(
            up.first,
            up.second,
            gate=up.gate,
            dsqueeze=dsqueeze,
            exposure=exposure,
            standard=standard,
            offset=offset,
        )
        dx = None
        if ctx.needs_input_grad[0]:
            dx = torch.empty_like(x)
            batch, channels, _, time = x.shape
            work = split(batch, triton.cdiv(time, 3), channels, reduce=False)
            tensors = (x, up.dy, dx, mean, rstd, weight, bias, dweight, dbias, up.winners, up.gate, dsqueeze)
            launch(_window_backward, work, x, *tensors, batch * time, time)
        return dx, dweight.to(weight.dtype), dbias.to(bias.dtype), doffset, *(None,) * 5


@dataclass(frozen=True)
class InputHalf:
    """What the input's half gives to the output's.

    ``token`` and ``link`` join the two. ``norm`` are the statistics of the map and its batch norm's
    parameters, detached. ``squeezed`` (batch, channels) and ``picked`` as in ``input_half``.
    """

    token: Tensor
    link: Link
    norm: Norm
    squeezed: Tensor | None
    picked: Tensor | None


def input_half(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    running: Running | None,
    *,
    pooling: bool = False,
    squeeze: bool = False,
) -> InputHalf:
    """Find the statistics of ``x`` (batch, channels, 1, time) in ``channels_last`` memory.

    With ``pooling`` the same pass finds the values ``picked`` (batch, channels, 1, time // 3) by max pooling
    of bn(x). With ``squeeze`` the means over time of relu(bn(picked)) are returned, or without pooling
    those of bn(x): ``squeezed``, which is differentiable.
    """
    link: Link = []
    offset = None if running is None else running.offset
    token, squeezed, mean, rstd, picked = _InputHalf.apply(
        x, weight, bias, offset, running, eps, link, pooling, squeeze
    )
    return InputHalf(token, link, Norm(mean, rstd, weight.detach(), bias.detach()), squeezed, picked)
