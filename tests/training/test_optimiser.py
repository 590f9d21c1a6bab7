"""The dagger: weight decay on convolution kernels only, in Keras' unit."""

from typing import Any

import pytest
import torch
from torch import nn

from samplecnn.model.blocks import BLOCKS
from samplecnn.model.network import SampleCNN
from samplecnn.training.optimiser import KerasSGD, can_be_captured, decay_groups, make_optimizer


@pytest.mark.parametrize("kind", BLOCKS)
def test_only_convolution_kernels_decay(kind: str) -> None:
    """With zero gradients one step takes ``rate * 2 c w (1 + momentum)`` off a kernel, and nothing else."""
    torch.manual_seed(0)
    network = SampleCNN(BLOCKS[kind], tags=5, width=4)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    decay, rate = 1e-2, 0.1
    for p in network.parameters():
        p.grad = torch.zeros_like(p)
    KerasSGD(decay_groups(network, decay), lr=rate).step()
    kernels = {name for name, p in network.named_parameters() if p.ndim == 4}
    convolutions = {f"{name}.weight" for name, m in network.named_modules() if isinstance(m, nn.Conv2d)}
    assert kernels == convolutions
    if kind == "rese2":  # blocks 3 and 9 change the number of channels
        assert len(kernels) == 1 + 9 * 2 + 2
    for name, p in network.named_parameters():
        shrink = rate * 2 * decay * 1.9 if name in kernels else 0.0
        torch.testing.assert_close(p.detach(), before[name] * (1 - shrink), rtol=1e-6, atol=0, msg=name)


def test_every_parameter_is_in_one_group() -> None:
    network = SampleCNN(BLOCKS["rese2"], tags=5, width=4)
    groups = decay_groups(network, 1e-4)
    assert [group["weight_decay"] for group in groups] == [2e-4, 0]
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in network.parameters())


def test_without_its_state_it_begins_anew() -> None:
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimiser = KerasSGD([weight], lr=0.1)
    for _ in range(2):
        weight.grad = torch.ones(1, dtype=torch.float64)
        before = weight.item()
        optimiser.step()
        optimiser.state.clear()
        assert weight.item() - before == pytest.approx(-0.1 * 1.9)


ADAMW = {"name": "adamw", "weight_decay": 0.1, "betas": [0.8, 0.99]}


@pytest.mark.parametrize("kind", ["se", "rese2"])
def test_adamw_is_pytorch_s_with_decay_of_kernels_and_matrices(kind: str) -> None:
    """Written out, a few steps at changing rates."""
    torch.manual_seed(0)
    network = SampleCNN(BLOCKS[kind], tags=5, width=4).double()
    optimiser = make_optimizer(network, ADAMW, weight_decay=0.0)
    weights = {name: p.detach().clone() for name, p in network.named_parameters()}
    means = {name: torch.zeros_like(p) for name, p in weights.items()}
    squares = {name: torch.zeros_like(p) for name, p in weights.items()}
    for step, rate in enumerate((0.01, 0.02, 0.005), start=1):
        for group in optimiser.param_groups:
            group["lr"] = rate
        for name, p in network.named_parameters():
            p.grad = torch.randn_like(p)
            if name.endswith("weight") and "bn" not in name:
                weights[name] *= 1 - rate * 0.1
            means[name].mul_(0.8).add_(0.2 * p.grad)
            squares[name].mul_(0.99).add_(0.01 * p.grad**2)
            size = (squares[name] / (1 - 0.99**step)).sqrt() + 1e-8
            weights[name] -= rate * means[name] / (1 - 0.8**step) / size
        optimiser.step()
    for name, p in network.named_parameters():
        torch.testing.assert_close(p.detach(), weights[name], rtol=1e-10, atol=1e-12, msg=name)


def test_the_default_is_the_authors_optimiser() -> None:
    network = SampleCNN(BLOCKS["se"], tags=5, width=4)
    optimiser = make_optimizer(network, {"name": "keras_sgd"}, weight_decay=1e-4)
    assert type(optimiser) is KerasSGD
    expected = KerasSGD(decay_groups(network, 1e-4), lr=0.0)
    for group, other in zip(optimiser.param_groups, expected.param_groups, strict=True):
        assert [id(p) for p in group.pop("params")] == [id(p) for p in other.pop("params")]
        assert group == other


def test_what_a_graph_may_hold() -> None:
    """Ours; not one that asks the host in each step, nor one whose steps nobody here has read."""

    class Own(KerasSGD):
        """As a schedule may bring it."""

    network = SampleCNN(BLOCKS["basic"], tags=5, width=2)
    assert can_be_captured(make_optimizer(network, {"name": "keras_sgd"}, weight_decay=1e-4))
    assert can_be_captured(make_optimizer(network, ADAMW, weight_decay=0.0))
    assert can_be_captured(torch.optim.Adam(network.parameters(), fused=True))
    assert not can_be_captured(torch.optim.Adam(network.parameters()))
    partly = [{"params": [p], "fused": p.ndim > 1} for p in network.parameters()]
    assert not can_be_captured(torch.optim.Adam(partly))
    assert not can_be_captured(torch.optim.Adagrad(network.parameters(), fused=True))
    assert not can_be_captured(Own(network.parameters(), lr=0.1))


def test_a_first_step_that_is_skipped_leaves_nothing_behind() -> None:
    """As the scaler of float16 skips one whose gradients are not finite."""
    torch.use_deterministic_algorithms(True)  # what is not initialised is NaN
    try:
        weights = [torch.nn.Parameter(torch.ones(1000)) for _ in range(2)]
        skipping, other = (KerasSGD([weight], lr=0.1) for weight in weights)
        weights[0].grad = torch.full((1000,), torch.inf)
        scaled: Any = skipping
        scaled.grad_scale, scaled.found_inf = None, torch.ones(())  # as the scaler leaves them
        skipping.step()
        assert torch.equal(weights[0], torch.ones(1000))
        scaled.found_inf = None
        for weight in weights:
            weight.grad = torch.linspace(-1, 1, 1000)
        for _ in range(2):
            skipping.step()
            other.step()
        assert torch.equal(weights[0], weights[1])
        assert not torch.equal(weights[0], torch.ones(1000))
    finally:
        torch.use_deterministic_algorithms(False)
