"""The Triton operations in the network's own terms: batch norms fused with what follows, and fused gates.

For training on a GPU alone. What each does and costs: `kernels/triton_ops.py`.

The convolutions leave out their biases, which have no effect under a batch norm in training mode but on its
running mean (`Running` adds it there): PyTorch would add them in a pass over the output of its own.
"""

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samplecnn.model.norm import MOMENTUM, BatchNorm

if TYPE_CHECKING:
    from samplecnn.model.backends.kernels.triton_ops import Gate, Running, Skip


@cache
def operations() -> Any:
    """Return ``triton_ops``, which loads Triton: a second, and on some machines an error."""
    return import_module("samplecnn.model.backends.kernels.triton_ops")


def fork(x: Tensor) -> tuple[Tensor, "Skip"]:
    """Return a map for a block's convolution and, with its gradient added in one pass, for its shortcut."""
    return operations().fork(x)


def conv_norm_relu(conv: nn.Conv2d, norm: BatchNorm, x: Tensor, *, dropout: float) -> Tensor:
    """Return ``dropout(relu(norm(conv(x))))``."""
    y: Tensor = operations().norm_relu(
        _convolve(conv, x), norm.weight, norm.bias, norm.eps, dropout=dropout, running=_running(conv, norm)
    )
    return y


def conv_norm_relu_pool(conv: nn.Conv2d, norm: BatchNorm, x: Tensor, *, gate: "Gate | None" = None) -> Tensor:
    """Return ``relu(pool(norm(conv(x))))``, times what ``gate`` makes of its means over time."""
    y: Tensor = operations().norm_relu_pool(
        _convolve(conv, x), norm.weight, norm.bias, norm.eps, gate=gate, running=_running(conv, norm)
    )
    return y


def conv_norm_add_relu_pool(
    conv: nn.Conv2d,
    norm: BatchNorm,
    x: Tensor,
    shortcut: "Tensor | Skip",
    shortcut_conv: nn.Conv2d | None = None,
    shortcut_norm: BatchNorm | None = None,
    *,
    gate: "Gate | None" = None,
) -> Tensor:
    """Return ``relu(pool(norm(conv(x)) * gate + shortcut))``.

    The shortcut goes through its own convolution and batch norm if it has them.
    """
    weight = bias = running = None
    if shortcut_conv is not None and shortcut_norm is not None:
        assert isinstance(shortcut, Tensor)
        shortcut = _convolve(shortcut_conv, shortcut)
        weight, bias = shortcut_norm.weight, shortcut_norm.bias
        running = _running(shortcut_conv, shortcut_norm)
    y: Tensor = operations().norm_add_relu_pool(
        _convolve(conv, x),
        norm.weight,
        norm.bias,
        norm.eps,
        shortcut,
        weight,
        bias,
        gate=gate,
        running=_running(conv, norm),
        shortcut_running=running,
    )
    return y


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def takes_gate(squeezed: Tensor, fc1: nn.Module, fc2: nn.Module, sigmoid: nn.Module) -> bool:
    """Say whether `gate` computes what these layers do, in mixed precision, and no hook looks at them.

    In full precision, and for batches larger than a tile of the kernels, PyTorch computes gates itself.
    """
    layers = fc1, fc2, sigmoid
    plain = [type(layer) for layer in layers] == [nn.Linear, nn.Linear, nn.Sigmoid]
    watched = any(getattr(layer, kind) for layer in layers for kind in HOOKS)
    mixed = squeezed.dtype != torch.float64 and torch.is_autocast_enabled(squeezed.device.type)
    return plain and not watched and mixed and 0 < len(squeezed) <= operations().MAX_BATCH


def gate(fc1: nn.Linear, fc2: nn.Linear, squeezed: Tensor) -> Tensor:
    """Return ``sigmoid(fc2(relu(fc1(squeezed))))`` in float32."""
    dtype = torch.get_autocast_dtype(squeezed.device.type)
    return operations().gate(squeezed, fc1.weight, fc1.bias, fc2.weight, fc2.bias, dtype=dtype)


def _convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return what ``conv`` makes of ``x``, less its bias."""
    assert isinstance(conv.padding, tuple)
    return F.conv2d(x, conv.weight, None, conv.stride, conv.padding)


def _running(conv: nn.Conv2d, norm: BatchNorm) -> "Running":
    assert conv.bias is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return operations().Running(norm.running_mean, norm.running_var, conv.bias, MOMENTUM, norm.count_batch())
