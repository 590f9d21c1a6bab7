"""The dagger: weight decay on convolution kernels only, in Keras' unit."""

from typing import Any

import pytest
import torch
from torch import nn

from samplecnn.model.blocks import BLOCKS
from samplecnn.model.network import SampleCNN
from samplecnn.training.optimiser import KerasSGD, decay_groups


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


def test_reset_forgets_momentum() -> None:
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimiser = KerasSGD([weight], lr=0.1)
    for _ in range(2):
        weight.grad = torch.ones(1, dtype=torch.float64)
        before = weight.item()
        optimiser.step()
        optimiser.reset_momentum()
        assert weight.item() - before == pytest.approx(-0.1 * 1.9)


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
