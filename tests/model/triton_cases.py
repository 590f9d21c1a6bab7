"""What the Triton kernels compute, each beside its twin of plain PyTorch, and inputs for both."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from samplecnn.model.backends.kernels import triton_ops

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CHANNELS_LAST = torch.channels_last
EPS = 1e-3
# In float32 of sums over 1,024 channels, in any order.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 6e-3}


def error(got: Tensor | None, wanted: Tensor | None) -> float:
    """Relative error in the 2-norm; absolute where nothing is wanted."""
    assert got is not None
    assert wanted is not None
    assert got.shape == wanted.shape
    off = (got.double() - wanted).norm() / (wanted.norm() if wanted.any() else 1)
    return off.item()


def norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, weight, bias, training=True, eps=EPS)


def pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, (1, 3))


def excite(squeezed: Tensor, taps: Tensor) -> Tensor:
    return torch.sigmoid(squeezed @ taps.to(squeezed.dtype))


def gated(x: Tensor, gate: Tensor) -> Tensor:
    return x * gate[:, :, None, None]


def plain_se(x: Tensor, weight: Tensor, bias: Tensor, taps: Tensor) -> Tensor:
    y = pool(norm(x, weight, bias).relu())
    return gated(y, excite(y.mean((2, 3)), taps))


def plain_rese(
    x: Tensor, weight: Tensor, bias: Tensor, other: Tensor, weight2: Tensor, bias2: Tensor, taps: Tensor
) -> Tensor:
    v = norm(x, weight, bias)
    return pool((gated(v, excite(v.mean((2, 3)), taps)) + norm(other, weight2, bias2)).relu())


def fused_forked(x: Tensor, weight: Tensor, bias: Tensor, other: Tensor, taps: Tensor) -> Tensor:
    """An addition and a second way for the shortcut's map, as in a block."""
    way, skip = triton_ops.fork(other)
    y = triton_ops.norm_add_relu_pool(x, weight, bias, EPS, skip, gate=lambda m: excite(m, taps))
    return torch.cat([y, way.flip(3) ** 2], dim=3)


def plain_forked(x: Tensor, weight: Tensor, bias: Tensor, other: Tensor, taps: Tensor) -> Tensor:
    v = norm(x, weight, bias)
    y = pool((gated(v, excite(v.mean((2, 3)), taps)) + other).relu())
    return torch.cat([y, other.flip(3) ** 2], dim=3)


# name: fused, plain, and what they take: maps x and other, weights, biases, taps of an excitation, a gate
CASES: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], str]] = {
    "relu": (
        lambda x, w, b: triton_ops.norm_relu(x, w, b, EPS),
        lambda x, w, b: norm(x, w, b).relu(),
        "xwb",
    ),
    "pool": (
        lambda x, w, b: triton_ops.norm_relu_pool(x, w, b, EPS),
        lambda x, w, b: pool(norm(x, w, b).relu()),
        "xwb",
    ),
    "pool gated": (
        lambda x, w, b, g: triton_ops.norm_relu_pool(x, w, b, EPS, gate=lambda _: g),
        lambda x, w, b, g: gated(pool(norm(x, w, b).relu()), g),
        "xwbg",
    ),
    "pool excited": (
        lambda x, w, b, t: triton_ops.norm_relu_pool(x, w, b, EPS, gate=lambda m: excite(m, t)),
        plain_se,
        "xwbt",
    ),
    "add": (
        lambda x, w, b, o: triton_ops.norm_add_relu_pool(x, w, b, EPS, triton_ops.fork(o)[1]),
        lambda x, w, b, o: pool((norm(x, w, b) + o).relu()),
        "xwbo",
    ),
    "add gated": (
        lambda x, w, b, o, g: triton_ops.norm_add_relu_pool(
            x, w, b, EPS, triton_ops.fork(o)[1], gate=lambda _: g
        ),
        lambda x, w, b, o, g: pool((gated(norm(x, w, b), g) + o).relu()),
        "xwbog",
    ),
    "add normalised": (
        lambda x, w, b, o, v, c: triton_ops.norm_add_relu_pool(x, w, b, EPS, o, v, c),
        lambda x, w, b, o, v, c: pool((norm(x, w, b) + norm(o, v, c)).relu()),
        "xwbovc",
    ),
    "add excited": (
        lambda x, w, b, o, v, c, t: triton_ops.norm_add_relu_pool(
            x, w, b, EPS, o, v, c, gate=lambda m: excite(m, t)
        ),
        plain_rese,
        "xwbovct",
    ),
    "add forked": (fused_forked, plain_forked, "xwbot"),
}


def inputs(names: str, batch: int, channels: int, time: int, dtype: torch.dtype) -> list[Tensor]:
    """Random inputs in float64 whose values ``dtype`` (maps) or float32 (the others) can hold."""
    wide = torch.promote_types(dtype, torch.float32)
    made = []
    for name in names:
        if name in "xo":
            value = torch.randn(batch, channels, 1, time, device=DEVICE).to(dtype)
            value = value.contiguous(memory_format=CHANNELS_LAST)
        elif name == "t":
            value = torch.randn(channels, channels, device=DEVICE, dtype=wide) / 4
        elif name == "g":
            value = torch.rand(batch, channels, device=DEVICE, dtype=wide) + 0.1
        else:
            value = torch.randn(channels, device=DEVICE, dtype=wide)
            value[0] = 0.0 if name in "wv" else 0.5  # a channel that the weight wipes out
        made.append(value)
    return made
