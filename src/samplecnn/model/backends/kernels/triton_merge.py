"""Partial sums to sums: of each sample, and of the whole batch. All tensors here are small."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from samplecnn.model.backends.kernels.triton_common import columns, partials, per_channel
from samplecnn.model.backends.kernels.triton_launch import Norm, launch_merge, launch_samples, sums


@triton.jit(do_not_specialize=["rows", "chunks"])
def _sample_sums(
    parts: tl.tensor,  # (count, batch * chunks, channels)
    out: tl.tensor,  # (count, batch, channels)
    weight: tl.tensor,  # (channels,), or None without dgate
    bias: tl.tensor,
    dgate: tl.tensor,  # out (batch, channels), or None
    rows: tl.tensor,
    chunks: tl.tensor,
    count: tl.constexpr,
    means_from: tl.constexpr,
    channels: tl.constexpr,
    tile_parts: tl.constexpr,
    tile_channels: tl.constexpr,
    wide: tl.constexpr,
) -> None:
    """Sums of each sample; from number ``means_from`` on divided by ``rows``.

    With g and g * xhat as the first two, dgate = sum g * bn(x) = bias * (sum g) + weight * (sum g * xhat).
    """
    sample = tl.program_id(0)
    batch = tl.num_programs(0)
    column, exists = columns(channels, tile_channels)
    to = sample.to(tl.int64) * channels + column[None, :]
    for k in tl.static_range(count):
        own = parts + (k * batch + sample).to(tl.int64) * chunks * channels
        total = tl.zeros((tile_parts, tile_channels), wide)
        for start in range(0, chunks, tile_parts):
            _, at, valid = partials(start, chunks, column, exists, channels, tile_parts)
            total += tl.load(own + at, mask=valid, other=0.0)
        value = tl.sum(total, axis=0)[None, :]
        if k >= means_from:
            value = value / rows.to(wide)
        tl.store(out + (k * batch).to(tl.int64) * channels + to, value, mask=exists[None, :])
        if dgate is not None:
            if k == 0:
                slope = value * per_channel(bias, column, exists, wide)
            if k == 1:
                slope += value * per_channel(weight, column, exists, wide)
    if dgate is not None:
        tl.store(dgate + to, slope, mask=exists[None, :])


def sample_sums(
    parts: Tensor,
    batch: int,
    chunks: int,
    rows: int,
    *,
    means_from: int,
    gate: Tensor | None = None,
    norm: Norm | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Return the sums (count, batch, channels) of ``parts`` (count, batch * chunks, channels), and dgate.

    From number ``means_from`` on they are divided by ``rows``. The gradient of ``gate`` (batch, channels),
    if given, follows from the first two sums and the weight and bias of ``norm``.
    """
    count, _, channels = parts.shape
    out = sums(parts, count, batch, channels)
    dgate = None if gate is None else torch.empty_like(gate)
    weight, bias = (None, None) if norm is None else (norm.weight, norm.bias)
    options = {"count": count, "means_from": means_from}
    arguments = (parts, out, weight, bias, dgate, rows, chunks)
    launch_samples(_sample_sums, batch, channels, parts, *arguments, **options)
    return out, dgate


@triton.jit(do_not_specialize=["parts"])
def _merge_gradients(
    first: tl.tensor,  # (parts, channels): sums of g
    second: tl.tensor,  # (parts, channels): sums of g * xhat
    gate: tl.tensor,  # (parts, channels), or None
    dsqueeze: tl.tensor,  # (parts, channels), or None
    exposure: tl.tensor,  # (parts, channels), or None for 1
    standard: tl.tensor,  # (parts, channels), or None without dsqueeze
    dweight: tl.tensor,  # out (channels,)
    dbias: tl.tensor,  # out (channels,)
    doffset: tl.tensor,  # out (channels,): zero; or None
    parts: tl.tensor,
    channels: tl.constexpr,
    tile_parts: tl.constexpr,
    tile_channels: tl.constexpr,
    wide: tl.constexpr,
) -> None:
    """Sums over parts: dbias of gate * first + dsqueeze * exposure, dweight of gate * second
    + dsqueeze * standard.
    """
    column, exists = columns(channels, tile_channels)
    a = tl.zeros((tile_parts, tile_channels), wide)
    b = tl.zeros((tile_parts, tile_channels), wide)
    for start in range(0, parts, tile_parts):
        _, at, valid = partials(start, parts, column, exists, channels, tile_parts)
        x = tl.load(first + at, mask=valid, other=0.0)
        y = tl.load(second + at, mask=valid, other=0.0)
        if gate is not None:
            factor = tl.load(gate + at, mask=valid, other=0.0).to(wide)
            x *= factor
            y *= factor
        if dsqueeze is not None:
            slope = tl.load(dsqueeze + at, mask=valid, other=0.0).to(wide)
            y += slope * tl.load(standard + at, mask=valid, other=0.0)
            if exposure is not None:
                slope *= tl.load(exposure + at, mask=valid, other=0.0)
            x += slope
        a += x
        b += y
    tl.store(dbias + column, tl.sum(a, axis=0), mask=exists)
    tl.store(dweight + column, tl.sum(b, axis=0), mask=exists)
    if doffset is not None:
        tl.store(doffset + column, tl.zeros((tile_channels,), wide), mask=exists)


def merge_gradients(
    first: Tensor,
    second: Tensor,
    *,
    gate: Tensor | None = None,
    dsqueeze: Tensor | None = None,
    exposure: Tensor | None = None,
    standard: Tensor | None = None,
    offset: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return dweight and dbias (channels,) of a batch norm from sums (parts, channels) of g and g * xhat.

    The third is the gradient of ``offset``, if given: zero (see ``Running``), written in the same launch.
    With a ``gate`` or ``dsqueeze`` (both (batch, channels)) the parts are the samples; ``exposure`` and
    ``standard`` are what dsqueeze reaches dbias and dweight through.
    """
    parts, channels = first.shape
    dweight, dbias = sums(first, channels), sums(first, channels)
    doffset = None if offset is None else torch.empty_like(offset)
    arguments = (first, second, gate, dsqueeze, exposure, standard, dweight, dbias, doffset, parts)
    launch_merge(_merge_gradients, channels, first, *arguments)
    return dweight, dbias, doffset
