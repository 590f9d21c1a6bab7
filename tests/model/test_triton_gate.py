"""The fused gates of squeeze-and-excitation against plain PyTorch.

The functions ``check_*`` run as those of test_triton.py do: on a GPU, or in Triton's interpreter.
"""

import os
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

pytest.importorskip("triton")
from model.triton_cases import DEVICE, TOLERANCE, error
from model.triton_network import run_checks
from samplecnn.model.backends.kernels import triton_gate, triton_ops
from samplecnn.model.blocks import SqueezeExcitation

NAMES = ["squeezed", "weight1", "bias1", "weight2", "bias2"]
HALVES = [torch.float16, torch.bfloat16]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def bfloat16_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton 3.6's interpreter holds bfloat16 as integers, and multiplies these: have it multiply values."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        import triton.language as tl
        from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

        multiply = InterpreterBuilder.create_dot

        def values(x: Any) -> Any:
            if x.dtype.scalar != tl.bfloat16:
                return x
            return TensorHandle((x.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

        def create_dot(self: Any, a: Any, b: Any, *others: Any) -> Any:
            return multiply(self, values(a), values(b), *others)

        monkeypatch.setattr(InterpreterBuilder, "create_dot", create_dot)


def inputs(batch: int, channels: int, hidden: int, weights: torch.dtype = torch.float32) -> list[Tensor]:
    """Means over time, weights and biases that both half types can hold, so that only results are rounded."""
    shapes = [(batch, channels), (hidden, channels), (hidden,), (channels, hidden), (channels,)]
    made = [torch.randn(shape, device=DEVICE) for shape in shapes]
    made[1] /= channels**0.5
    made[3] /= hidden**0.5
    made = [x.to(torch.bfloat16).to(weights if i else torch.float32) for i, x in enumerate(made)]
    return [x.requires_grad_() for x in made]


def plain(squeezed: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    return F.linear(F.linear(squeezed, w1, b1).relu(), w2, b2).sigmoid()


def compare(arguments: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Compare gates and gradients with those in float64; returns them."""
    theirs = [x.detach().double().requires_grad_() for x in arguments]
    gates, wanted = triton_ops.gate(*arguments, dtype=dtype), plain(*theirs)
    assert gates.dtype == torch.float32
    assert error(gates, wanted) < TOLERANCE[dtype]
    slopes = torch.randn_like(gates)
    gradients = torch.autograd.grad(gates, arguments, slopes)
    expected = torch.autograd.grad(wanted, theirs, slopes.double())
    for name, x, ours, exact in zip(NAMES, arguments, gradients, expected, strict=True):
        assert ours.dtype == x.dtype, name
        assert error(ours, exact) < 2 * TOLERANCE[dtype], name
    return [gates, *gradients]


# Of one program and of many; with and without a rest of channels, hidden units and rows of the batch.
SHAPES = [(1, 1, 1), (1, 16, 40), (23, 12, 100), (40, 70, 16)]
MORE_SHAPES = [(40, 70, 300), (64, 130, 33), (33, 5, 2100), (5, 8, 4200), (23, 128, 2048)]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(
    "shape", [*SHAPES, *(pytest.param(s, marks=pytest.mark.slow) for s in MORE_SHAPES)], ids=str
)
def check_shapes(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    compare(inputs(*shape), dtype)


@pytest.mark.parametrize("dtype", HALVES)
def check_copies_of_weights(dtype: torch.dtype) -> None:
    """Weights in the lower precision have their gradients in it, rounded once."""
    compare(inputs(23, 12, 100, dtype), dtype)


def check_layouts() -> None:
    """Means, weights and gradients of any memory layout."""
    squeezed, w1, b1, w2, b2 = inputs(3, 20, 50)
    turned = [x.detach().T.contiguous().T.requires_grad_() for x in (squeezed, w1, w2)]
    straight = triton_ops.gate(squeezed, w1, b1, w2, b2, dtype=torch.float16)
    gates = triton_ops.gate(turned[0], turned[1], b1, turned[2], b2, dtype=torch.float16)
    assert torch.equal(gates, straight)
    slopes = torch.randn(20, 1, device=DEVICE).expand(20, 3).T
    wanted = torch.autograd.grad(straight, (squeezed, w1, w2), slopes)
    assert all(map(torch.equal, torch.autograd.grad(gates, turned, slopes), wanted))


def check_same_again() -> None:
    arguments = inputs(23, 70, 33)
    results = []
    for _ in range(2):
        torch.manual_seed(1)
        results.append(compare(arguments, torch.bfloat16))
    assert all(map(torch.equal, *results))


def check_loops_over_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_gate, "MERGE_PARTS", 4)
    compare(inputs(2, 8, 100), torch.float16)


def check_diverged_values_show() -> None:
    for i in range(5):
        arguments = [x.detach().clone() for x in inputs(2, 6, 40)]
        arguments[i].view(-1)[0] = float("nan")
        assert triton_ops.gate(*arguments, dtype=torch.bfloat16)[0, 0].isnan(), i
    arguments = inputs(2, 6, 40)
    slopes = torch.full((2, 6), float("nan"), device=DEVICE)
    for gradient in torch.autograd.grad(triton_ops.gate(*arguments, dtype=torch.bfloat16), arguments, slopes):
        assert gradient.isnan().any()


def check_refusals() -> None:
    squeezed, w1, b1, w2, b2 = inputs(2, 6, 40)
    with pytest.raises(ValueError, match=r"1 to 64 samples.*\(65, 6\)"):
        triton_ops.gate(squeezed[:1].expand(65, 6), w1, b1, w2, b2, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="not shapes"):
        triton_ops.gate(squeezed, w1, b1, w1, b2, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"not torch.float32 made of"):
        triton_ops.gate(squeezed, w1, b1, w2, b2, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"made of torch.float64"):
        triton_ops.gate(squeezed.double(), w1, b1, w2, b2, dtype=torch.float16)


def layer() -> SqueezeExcitation:
    torch.manual_seed(0)
    made = SqueezeExcitation(12, 4).to(DEVICE)
    made.fused = True
    return made


def check_layer() -> None:
    """In mixed precision while training the layer's gates are fused; near those of its own layers."""
    squeezed, fused = torch.rand(5, 12, device=DEVICE), layer()
    with torch.autocast(DEVICE, torch.bfloat16):
        gates = fused.excitation(squeezed)
        own = fused.eval().excitation(squeezed)
    assert (gates.dtype, own.dtype) == (torch.float32, torch.bfloat16)
    assert error(gates, own.double()) < TOLERANCE[torch.bfloat16]
    full = fused.train().excitation(squeezed)  # in full precision they are the layers' own
    assert torch.equal(full, fused.eval().excitation(squeezed))


@pytest.mark.parametrize("name", ["fc1", "fc2", "gate"])
@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward"])
def check_hooks_see_the_layers(name: str, kind: str) -> None:
    made, seen = layer(), []
    handle = getattr(made.get_submodule(name), f"register_{kind}_hook")(lambda *_: seen.append(name))
    with torch.autocast(DEVICE, torch.bfloat16):
        made.excitation(torch.rand(5, 12, device=DEVICE, requires_grad=True)).sum().backward()
        assert seen == [name]
        handle.remove()
        assert made.excitation(torch.rand(5, 12, device=DEVICE)).dtype == torch.float32
    assert seen == [name]


def check_other_layers_run() -> None:
    """Large batches, and layers that someone has put in the place of these."""
    made = layer()
    nn.init.constant_(made.fc2.bias, 9.0)
    with torch.autocast(DEVICE, torch.bfloat16):
        assert made.excitation(torch.rand(65, 12, device=DEVICE)).dtype == torch.bfloat16
        made.gate = nn.Hardsigmoid()  # type: ignore[assignment]
        assert (made.excitation(torch.rand(5, 12, device=DEVICE)) == 1).all()


def test_gates() -> None:
    run_checks("not slow", __file__)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_gates_of_more_shapes() -> None:
    run_checks("slow", __file__)
