"""The field's networks: sizes, shapes, gradients, and what a checkpoint of them holds."""

from typing import Any

import pytest
import torch
from torch import nn

from samplecnn.errors import UserError
from samplecnn.model.networks import NETWORKS
from samplecnn.model.networks.dieleman import Dieleman
from samplecnn.model.networks.layers import ConvNorm, start_he_normal
from samplecnn.model.networks.network import Network
from samplecnn.model.norm import BatchNorm

# (name, options, trained parameters at 50 tags as the authors' code has them, samples of a segment)
CASES: list[tuple[str, dict[str, Any], int, int]] = [
    ("fcn", {}, 447_732, 464_000),
    ("crnn", {}, 394_100, 464_000),
    ("musicnn", {}, 784_300, 48_000),
    ("musicnn", {"mid": 512, "dense": 500}, 7_972_000, 48_000),
    ("musicnn", {"original": True}, 787_159, 48_000),
    ("shortchunk", {}, 3_687_348, 59_049),
    ("shortchunk", {"res": True}, 12_104_244, 59_049),
    ("harmonic", {}, 3_631_551, 80_000),
    ("timbre", {}, 185_856, 48_000),
    ("dieleman", {}, 66_784, 48_000),
    ("dieleman", {"input": "raw"}, 58_622, 48_000),
]
NAMES = [
    " ".join([name, *(f"{key}={value}" for key, value in options.items())]) for name, options, *_ in CASES
]
every = pytest.mark.parametrize(("name", "options", "parameters", "samples"), CASES, ids=NAMES)


def noise(network: Network, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(batch, network.segment_samples, generator=generator)


@every
def test_parameter_counts(name: str, options: dict[str, Any], parameters: int, samples: int) -> None:
    with torch.device("meta"):
        network = NETWORKS[name](tags=50, **options)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert (network.sample_rate, network.segment_samples) == (16_000, samples)
    assert network.last.out_features == 50


def test_every_network_is_tested() -> None:
    assert {name for name, *_ in CASES} == set(NETWORKS)


@every
def test_training_moves_every_parameter(
    name: str, options: dict[str, Any], parameters: int, samples: int
) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name](tags=7, **options).train()
    logits = network(noise(network))
    assert logits.shape == (2, 7)
    nn.functional.binary_cross_entropy_with_logits(logits, torch.ones(2, 7)).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@every
def test_a_network_made_without_memory_takes_weights(
    name: str, options: dict[str, Any], parameters: int, samples: int
) -> None:
    """Windows and filter banks are no weights: no file brings them, whichever way a network is made."""
    network = NETWORKS[name](tags=3, **options).eval()
    weights = network.state_dict()
    assert not [key for key in weights if key.endswith(("window", "filters", "centres", "bins"))]
    with torch.device("meta"):
        other = NETWORKS[name](tags=3, **options).eval()
    other.load_state_dict(weights, assign=True)
    with torch.no_grad():
        assert torch.equal(other(noise(network, 1)), network(noise(network, 1)))


@every
def test_other_shapes_are_refused(name: str, options: dict[str, Any], parameters: int, samples: int) -> None:
    network = NETWORKS[name](tags=2, **options)
    for shape in [(samples,), (1, samples - 1), (1, samples + 1), (1, 1, samples)]:
        with pytest.raises(UserError, match=rf"\(batch, {samples}\) at 16000 Hz, not \({shape[0]}"):
            network(torch.zeros(shape))


def test_impossible_options() -> None:
    for build in NETWORKS.values():
        with pytest.raises(UserError, match="tags must be at least 1, not 0"):
            build(tags=0)
    with pytest.raises(UserError, match="input must be one of mel, raw, not 'mfcc'"):
        Dieleman(tags=2, input="mfcc")


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_say_what_they_are(name: str) -> None:
    assert NETWORKS[name].title
    assert NETWORKS[name].paper.endswith(")")
    assert NETWORKS[name].__doc__ != Network.__doc__


@pytest.mark.parametrize("name", ["musicnn", "shortchunk", "timbre"])
def test_dropout_acts_in_training_alone(name: str) -> None:
    options: Any = {"dropout": 0.9}
    network = NETWORKS[name](tags=3, **options)
    x = noise(network)
    network.eval()
    with torch.no_grad():
        assert torch.equal(network(x), network(x))
        network.dropout.train()
        assert not torch.equal(network(x), network(x))


@pytest.mark.parametrize(
    ("name", "options", "ours"),
    [("musicnn", {}, False), ("musicnn", {"original": True}, True), ("timbre", {}, True), ("fcn", {}, False)],
)
def test_each_family_has_its_batch_norm(name: str, options: dict[str, Any], ours: bool) -> None:
    norms = [m for m in NETWORKS[name](tags=2, **options).modules() if "BatchNorm" in type(m).__name__]
    assert norms
    assert all(isinstance(norm, BatchNorm) == ours for norm in norms)
    assert {norm.eps for norm in norms} == ({1e-3} if ours else {1e-5})


@pytest.mark.parametrize("frames", [1, 3, 7, 32, 33, 64, 128, 129])
def test_convolutions_keep_the_time(frames: int) -> None:
    """Against the definition: output t hears inputs t - (k - 1) // 2 to t + k // 2, zeros outside."""
    torch.manual_seed(0)
    conv = ConvNorm(2, 3, (4, frames), keras=True).double().eval()
    x = torch.randn(1, 2, 6, 20, dtype=torch.float64)
    y = conv(x)
    assert y.shape == (1, 3, 3, 20)
    for time in (0, 9, 19):
        total = conv.conv.bias.clone() if conv.conv.bias is not None else torch.zeros(3)
        for tap in range(frames):
            source = time - (frames - 1) // 2 + tap
            if 0 <= source < 20:
                total += torch.einsum("oif,if->o", conv.conv.weight[:, :, :, tap], x[0, :, 1:5, source])
        torch.testing.assert_close(y[0, :, 1, time], total.relu() / (1 + 1e-3) ** 0.5)


def test_he_normal_start() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(50, 4000)
    start_he_normal(layer)
    assert layer.weight.var().item() == pytest.approx(2 / 50, rel=0.02)
    assert layer.weight.abs().max().item() <= 2 * (2.6 / 50) ** 0.5
    assert not layer.bias.any()
