"""Initial weights, sizes and the options of blocks."""

import math

import pytest
import torch
from torch import Tensor, nn

from samplecnn.model.blocks import BLOCKS, SE, Shortcut, SqueezeExcitation
from samplecnn.model.norm import BatchNorm


def assert_uniform(weights: Tensor, limit: float) -> None:
    """Checks the distribution of many draws: range, mean, and variance limit**2 / 3."""
    weights = weights.detach().flatten()
    assert weights.abs().max() <= limit
    assert weights.abs().max() > 0.99 * limit
    assert abs(weights.mean()) < 5 * limit / math.sqrt(3 * len(weights))
    assert weights.var().item() == pytest.approx(limit**2 / 3, rel=0.05)


def assert_constant(values: Tensor | None, value: float) -> None:
    assert values is not None
    assert (values == value).all()


@pytest.mark.parametrize("kind", BLOCKS)
def test_initial_weights(kind: str) -> None:
    torch.manual_seed(0)
    block = BLOCKS[kind](128, 256)
    seen = set()
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            out_channels, in_channels, _, taps = module.weight.shape
            he, glorot = math.sqrt(6 / (in_channels * 3)), math.sqrt(6 / (in_channels + out_channels))
            assert_uniform(module.weight, he if taps == 3 else glorot)
            seen.add(f"conv{taps}")
        elif isinstance(module, nn.Linear):
            assert_uniform(module.weight, math.sqrt(6 / (module.in_features + module.out_features)))
            seen.add("dense")
        elif isinstance(module, BatchNorm):
            assert (module.weight == 1).all()
            assert_constant(module.running_mean, 0)
            assert_constant(module.running_var, 1)
            assert (module.eps, module.momentum) == (1e-3, 0.01)
    assert all((p == 0).all() for name, p in block.named_parameters() if name.endswith("bias"))
    parts = {type(module) for module in block.modules()}
    expected = {"conv3", *(["conv1"] * (Shortcut in parts)), *(["dense"] * (SqueezeExcitation in parts))}
    assert seen == expected


@pytest.mark.parametrize(("alpha", "hidden"), [(16, 2048), (1, 128), (0.5, 64), (2**-3, 16), (0.001, 1)])
def test_width_of_the_excitation(alpha: float, hidden: int) -> None:
    assert SqueezeExcitation(128, alpha).fc1.out_features == hidden


@pytest.mark.parametrize("alpha", [0, -1, float("nan")])
def test_impossible_alpha(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha must be greater than 0"):
        SE(8, 8, alpha=alpha)


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("time", [81, 80, 3])
def test_time_is_divided_by_three(kind: str, time: int) -> None:
    block = BLOCKS[kind](4, 8).eval()
    x = torch.randn(2, 4, 1, time).contiguous(memory_format=torch.channels_last)
    assert block(x).shape == (2, 8, 1, time // 3)


@pytest.mark.parametrize("kind", ["res2", "rese2"])
def test_dropout_between_the_convolutions(kind: str) -> None:
    """In training, the input of the second convolution has a share of zeros that ReLU alone does not give."""
    torch.manual_seed(0)
    block = BLOCKS[kind](16, 16, dropout=0.75).train()
    seen: list[Tensor] = []
    block.get_submodule("conv2").register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    block(torch.randn(4, 16, 1, 81))
    block.eval()(torch.randn(4, 16, 1, 81))
    training, inference = ((x == 0).float().mean().item() for x in seen)
    assert training == pytest.approx(1 - 0.25 * 0.5, abs=0.03)
    assert inference == pytest.approx(0.5, abs=0.15)
