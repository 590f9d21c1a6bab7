"""Dropout: how much it drops, that it scales what it keeps, and that gradients go the same way."""

import pytest
import torch

from samplecnn.model.dropout import Dropout


def ones(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    x = torch.ones(3, 5, 1, 7001, dtype=dtype)  # not a multiple of four values
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_keeps_the_mean(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = ones(dtype)
    y = Dropout(rate)(x)
    assert y.dtype == dtype
    assert y.stride() == x.stride()
    kept = y != 0
    assert kept.double().mean().item() == pytest.approx(
        1 - rate, abs=5 * (rate * (1 - rate) / x.numel()) ** 0.5
    )
    scale = torch.tensor(1 / (1 - rate), dtype=dtype).item()
    assert y[kept].unique().tolist() == pytest.approx([scale], rel=1e-2 if dtype == torch.bfloat16 else 1e-4)
    y.double().sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, y.detach())


def test_values_are_dropped_independently() -> None:
    """Also those that share a draw: neighbours, and all lanes at the same rate."""
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(400_000)) != 0).double()
    lanes = kept.view(-1, 4)
    assert (lanes.mean(dim=0) - 0.5).abs().max() < 0.01
    correlation = torch.corrcoef(lanes.T) - torch.eye(4)
    assert correlation.abs().max() < 0.015


def test_is_a_function_of_the_seed() -> None:
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(Dropout(0.2)(ones()))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_does_nothing_in_evaluation_mode_or_at_rate_0() -> None:
    x = ones()
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


@pytest.mark.parametrize("rate", [1 - 1e-7, 1.0])
def test_a_rate_that_would_be_rounded_to_1(rate: float) -> None:
    torch.manual_seed(0)
    x = ones()
    y = Dropout(rate)(x)
    y.sum().backward()
    assert (y == 0).double().mean() > 0.9999
    assert torch.equal(x.grad, y.detach())  # type: ignore[arg-type]
