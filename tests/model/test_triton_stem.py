"""The first layer by Triton's kernels against plain PyTorch in float64.

The functions ``check_*`` run as those of test_triton.py do: on a GPU, or in Triton's interpreter.
"""

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")
from model.triton_cases import CHANNELS_LAST, DEVICE, TOLERANCE, error
from model.triton_network import run_checks
from samplecnn.model.backends.kernels import triton_launch, triton_ops
from samplecnn.model.backends.stem import PART, stem_by_taps
from samplecnn.model.blocks import conv3
from samplecnn.model.norm import BatchNorm


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def compare_stem(
    batch: int, time: int, channels: int, dtype: torch.dtype, dy: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compare map and gradient with PyTorch's in float64; returns both. Autocast asks for the half types."""
    wide = torch.promote_types(dtype, torch.float32)
    x = torch.rand(batch, 3 * time, device=DEVICE, dtype=wide) - 0.4
    matrix = torch.randn(4, channels, device=DEVICE, dtype=wide)
    matrix[:, 0] = 0.0  # the ReLU's own edge, where no gradient passes
    matrix, twin = matrix.requires_grad_(), matrix.double().detach().requires_grad_()
    with torch.autocast(DEVICE, dtype, enabled=dtype != wide):
        y = triton_ops.stem(x, matrix)
    wanted = (x.double().view(batch, 1, time, 3) @ twin[:3] + twin[3]).relu().permute(0, 3, 1, 2)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=CHANNELS_LAST)
    assert error(y, wanted) < TOLERANCE[dtype]
    dy = torch.randn_like(y) if dy is None else dy.to(y)
    y.backward(dy)
    wanted.backward(dy.double())
    assert error(matrix.grad, twin.grad) < 2 * TOLERANCE[wide]
    assert matrix.grad is not None
    assert matrix.grad.dtype == wide
    return y.detach(), matrix.grad


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(3, 31, 12), (1, 1, 1), (2, 10, 70), (2, 81, 128)], ids=str)
def check_stem(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    compare_stem(*shape, dtype)


def check_stem_loops_over_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """With few programs each goes through several tiles and the last through fewer."""
    monkeypatch.setattr(triton_launch, "PROGRAMS", 4)
    monkeypatch.setattr(triton_launch, "TILE", 32)
    assert triton_launch.split(1, 75, 16, reduce=True).chunk == 18  # of tiles of two
    compare_stem(3, 99, 16, torch.float32)


def check_stem_again() -> None:
    """Bit by bit the same map and gradient; gradients of any memory layout."""
    results = []
    for layout in ("channels last", "contiguous", "transposed"):
        torch.manual_seed(0)
        dy = torch.randn(2, 6, 1, 10)
        if layout == "channels last":
            dy = dy.contiguous(memory_format=CHANNELS_LAST)
        elif layout == "transposed":
            dy = dy.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
        results.append(compare_stem(2, 10, 6, torch.bfloat16, dy))
    for again in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], again, strict=True))
    compare_stem(2, 10, 6, torch.float32, torch.randn(2, 6, 1, 1).expand(2, 6, 1, 10))


def check_diverged_waveforms_show() -> None:
    x, matrix = torch.randn(2, 12, device=DEVICE), torch.randn(4, 5, device=DEVICE)
    x[1, 7] = float("nan")
    y = triton_ops.stem(x, matrix)
    assert not y.requires_grad
    assert y[1, :, 0, 2].isnan().all()
    assert y.isnan().sum() == 5


@pytest.mark.parametrize("training", [True, False])
def check_stem_with_its_norm(training: bool) -> None:
    """The layer is convolution, batch norm and ReLU; waveforms that want a gradient get theirs."""
    conv, bn = conv3(1, 5, stride=3).to(DEVICE, torch.float64), BatchNorm(5).to(DEVICE, torch.float64)
    torch.nn.init.normal_(bn.weight)
    bn.train(training)
    waveforms = torch.rand(2, 3 * PART, device=DEVICE, dtype=torch.float64) - 0.4
    wanted = bn(conv(waveforms[:, None, None])).relu()
    dy = torch.randn_like(wanted)
    parameters = [*conv.parameters(), *bn.parameters()]
    theirs = torch.autograd.grad(wanted, parameters, dy)
    y = stem_by_taps(conv, bn, waveforms, fused=True)
    assert error(y, wanted) < 1e-12
    for a, b in zip(torch.autograd.grad(y, parameters, dy), theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
    waveforms.requires_grad_()
    stem_by_taps(conv, bn.eval(), waveforms, fused=True).sum().backward()
    assert waveforms.grad is not None
    assert waveforms.grad.any()


def test_the_first_layer() -> None:
    run_checks("not slow", __file__)
