"""Pooling before normalising, against the plain layers in their order."""

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from samplecnn.model.architecture import build
from samplecnn.model.backends.pooled import norm_gate_add_pool_relu, pool_norm_relu, pools_first
from samplecnn.model.blocks import SqueezeExcitation
from samplecnn.model.network import PLAIN, PRODUCTS, STEM, SampleCNN
from samplecnn.model.norm import BatchNorm

Layer = Callable[[BatchNorm, Tensor], Tensor]


def plain(norm: BatchNorm, x: Tensor) -> Tensor:
    return F.relu(F.max_pool2d(norm(x), (1, 3)))


def pooled(norm: BatchNorm, x: Tensor) -> Tensor:
    return pool_norm_relu(norm, x, 3)


def trained(layer: Layer, x: Tensor, *, falling: bool) -> list[Tensor]:
    """Return output, gradients and running statistics of a layer whose slopes are partly negative, or not."""
    torch.manual_seed(1)
    norm = BatchNorm(x.shape[1]).double()
    with torch.no_grad():
        slopes = torch.randn(x.shape[1]).double()
        norm.weight.copy_(slopes if falling else slopes.abs())
        norm.bias.normal_()
    x = x.clone().requires_grad_()
    for _ in range(2):
        y = layer(norm, x)
        (y * torch.arange(y.numel()).view(y.shape).sin()).sum().backward()
    statistics = [norm.running_mean, norm.running_var, norm.num_batches_tracked]
    return [y.detach(), *(p.grad for p in (x, norm.weight, norm.bias)), *statistics]  # type: ignore[list-item]


@pytest.mark.parametrize("time", [27, 100])  # 100: its last step is in no window, and yet in the statistics
@pytest.mark.parametrize("falling", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_is_the_same_function(time: int, falling: bool, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    x = (3 * torch.randn(4, 8, 1, time) + 5).double().contiguous(memory_format=layout)
    for there, here in zip(
        trained(plain, x, falling=falling), trained(pooled, x, falling=falling), strict=True
    ):
        torch.testing.assert_close(here, there, rtol=1e-12, atol=1e-12)


def end_of_residual_block(*, pool_first: bool, time: int, layout: torch.memory_format) -> list[Tensor]:
    """Return output, gradients and running statistics of norm, gate, addition, pooling and ReLU."""
    torch.manual_seed(0)
    norm, gate = BatchNorm(8).double(), SqueezeExcitation(8, alpha=2).double()
    with torch.no_grad():
        norm.weight.normal_()  # some lines fall
        norm.bias.normal_()
    x, shortcut = (
        (3 * torch.randn(4, 8, 1, time).double() + level).contiguous(memory_format=layout).requires_grad_()
        for level in (5, 0)
    )
    for _ in range(2):
        if pool_first:
            y = norm_gate_add_pool_relu(norm, gate.excitation, x, shortcut, 3)
        else:
            y = F.relu(F.max_pool2d(gate(norm(x)) + shortcut, (1, 3)))
        (y * torch.arange(y.numel()).view(y.shape).sin()).sum().backward()
    gradients = [p.grad for p in (x, shortcut, *norm.parameters(), *gate.parameters())]
    return [y.detach(), *gradients, *norm.buffers()]  # type: ignore[list-item]


@pytest.mark.parametrize("time", [27, 100])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_end_of_a_residual_block_with_a_gate_is_the_same_function(
    time: int, layout: torch.memory_format
) -> None:
    there, here = (
        end_of_residual_block(pool_first=first, time=time, layout=layout) for first in (False, True)
    )
    assert all(tensor.abs().max() > 0 for tensor in here)
    for one, other in zip(there, here, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12)


def test_a_step_leaves_nothing_in_memory() -> None:
    """Without waiting for the garbage collector: a gradient of a map is as large as the map."""
    norm, gate = BatchNorm(2), SqueezeExcitation(2, alpha=2)
    x = torch.randn(2, 2, 1, 9, requires_grad=True)
    shortcut = torch.zeros_like(x, requires_grad=True) + 0
    gradients = []
    shortcut.register_hook(lambda gradient: gradients.append(weakref.ref(gradient)))
    gc.disable()
    try:
        norm_gate_add_pool_relu(norm, gate.excitation, x, shortcut, 3).sum().backward()
        assert [gradient() for gradient in gradients] == [None]
    finally:
        gc.enable()


def test_it_is_for_full_precision_of_one_process() -> None:
    """In bfloat16 gradients would be rounded twice; several processes have statistics in common."""
    norm, x = BatchNorm(8), torch.ones(2, 8, 1, 9)
    assert pools_first(norm, x)
    assert not pools_first(norm, x.bfloat16())
    norm.synchronised = True
    assert not pools_first(norm, x)


def test_one_value_per_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 values per channel"):
        pooled(BatchNorm(2), torch.ones(1, 2, 1, 1))


@pytest.mark.parametrize("block", ["basic", "se", "rese1", "rese2"])
def test_blocks_pool_first_on_the_backends_that_say_so(block: str) -> None:
    network = build({"block": {"name": block}, "multi": False, "width": 2, "dropout": 0.0}, 3)
    assert isinstance(network, SampleCNN)
    x = torch.randn(2, 2, 1, 9).contiguous(memory_format=torch.channels_last).requires_grad_()
    for backend in (STEM, PLAIN, PRODUCTS):
        network.use(backend)
        pooled = any(
            name.startswith(("_PoolNormRelu", "_ScaleAddPool")) for name in steps(network.blocks[0](x))
        )
        assert pooled == (backend != PLAIN)


def steps(y: Tensor) -> set[str]:
    """Return the names of what a tensor was computed by."""
    names, waiting = set(), [y.grad_fn]
    while waiting:
        if (node := waiting.pop()) is not None:
            names.add(node.name())
            waiting += [before for before, _ in node.next_functions]
    return names
