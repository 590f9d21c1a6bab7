"""SGD as Keras has it, of many tensors in one launch: each value is read once and written once.

PyTorch's fused SGD wants gradients of the weights' type, and the momentum of another rate multiplied before.
This takes gradients as the backward pass leaves them in mixed precision, and multiplies on its way. All that
it needs of a tensor are addresses, in a table in the device's memory: 10 bytes of each weight are read and 8
written, with a gradient of 2 bytes.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

CHUNK = 2048  # values of a program
WARPS = 8
ALIGNED = 16  # bytes, as PyTorch's memory is: threads read as many at a time
COLUMNS = tl.constexpr(5)
_LOW = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@triton.jit
def _move(
    weight: tl.tensor,
    buffer: tl.tensor,
    gradient: tl.tensor,
    mask: tl.tensor,
    rate: tl.tensor,
    factor: tl.tensor,
    decay: tl.tensor,
    momentum: tl.tensor,
) -> None:
    """Move the weights at given places: PyTorch's SGD with Nesterov's momentum, times ``factor`` before."""
    w = tl.load(weight, mask=mask)
    g = tl.load(gradient, mask=mask).to(tl.float32) + decay * w
    v = momentum * (factor * tl.load(buffer, mask=mask)) + g
    tl.store(buffer, v, mask=mask)
    tl.store(weight, w - rate * (g + momentum * v), mask=mask)


@triton.jit
def _update(
    table: tl.tensor,  # (programs, COLUMNS), int64: see `rows`
    rate: tl.tensor,  # of this step, float32 of shape ()
    before: tl.tensor,  # of the step before
    decay: tl.tensor,
    momentum: tl.tensor,
    low: tl.constexpr,
    chunk: tl.constexpr,
    aligned: tl.constexpr,
) -> None:
    row = table + tl.program_id(0) * COLUMNS
    values = tl.load(row + 3)
    at = tl.arange(0, chunk)
    weight = tl.multiple_of(tl.load(row).to(tl.pointer_type(tl.float32)), aligned) + at
    buffer = tl.multiple_of(tl.load(row + 1).to(tl.pointer_type(tl.float32)), aligned) + at
    whole = tl.multiple_of(tl.load(row + 2).to(tl.pointer_type(tl.float32)), aligned) + at
    half = tl.multiple_of(tl.load(row + 2).to(tl.pointer_type(low)), aligned) + at
    this = tl.load(rate)
    factor = tl.load(before) / this
    # Without a mask threads read 16 bytes at a time: all but the last chunk of a tensor.
    if tl.load(row + 4) == 4:
        if values == chunk:
            _move(weight, buffer, whole, None, this, factor, decay, momentum)
        else:
            _move(weight, buffer, whole, at < values, this, factor, decay, momentum)
    elif values == chunk:
        _move(weight, buffer, half, None, this, factor, decay, momentum)
    else:
        _move(weight, buffer, half, at < values, this, factor, decay, momentum)


def fits(weight: Tensor, buffer: Tensor, gradient: Tensor, low: torch.dtype) -> bool:
    """Say whether the kernel takes these, whose values it meets in the order that they have in memory."""
    types = weight.dtype == buffer.dtype == torch.float32 and gradient.dtype in (torch.float32, low)
    tensors = (weight, buffer, gradient)
    # Of a dimension of size 1 the stride may be any.
    strides = {tuple(s for n, s in zip(t.shape, t.stride(), strict=True) if n > 1) for t in tensors}
    dense = 1 + sum((n - 1) * s for n, s in zip(weight.shape, weight.stride(), strict=True)) == weight.numel()
    return types and len(strides) == 1 and dense and all(t.data_ptr() % ALIGNED == 0 for t in tensors)


def rows(weight: Tensor, buffer: Tensor, gradient: Tensor) -> Tensor:
    """Return a tensor's rows of the table: three addresses, the number of values, bytes of a gradient's."""
    starts = torch.arange(0, weight.numel(), CHUNK)
    addresses = [t.data_ptr() + t.element_size() * starts for t in (weight, buffer, gradient)]
    size = torch.full_like(starts, gradient.element_size())
    return torch.stack([*addresses, (weight.numel() - starts).clamp(max=CHUNK), size], dim=1)


def update(
    table: Tensor, rate: Tensor, before: Tensor, decay: float, momentum: float, low: torch.dtype
) -> None:
    """Take a step with all that is in a table; ``low`` is the type of gradients of 2 bytes."""
    options = {"low": _LOW[low], "chunk": CHUNK, "aligned": ALIGNED, "num_warps": WARPS}
    with torch.cuda.device_of(table):
        _update[(len(table),)](table, rate, before, float(decay), float(momentum), **options)
