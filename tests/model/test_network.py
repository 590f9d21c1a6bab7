"""Parameter counts, shapes and aggregation of the whole network."""

from typing import Any

import pytest
import torch
from torch import nn

from samplecnn.model.architecture import build
from samplecnn.model.blocks import BLOCKS, Basic
from samplecnn.model.network import SEGMENT_SAMPLES, STEM, SampleCNN
from samplecnn.model.networks.network import NetworkError
from samplecnn.training.network import count_parameters

# (total, of these not trained) at width 128, alpha 16, 50 tags, as the authors' network has them
COUNTS = {
    ("basic", True): (2_690_354, 6_912),
    ("basic", False): (1_875_762, 5_888),
    ("se", True): (24_749_618, 6_912),
    ("se", False): (23_935_026, 5_888),
    ("res1", True): (2_858_034, 8_448),
    ("res1", False): (2_043_442, 7_424),
    ("res2", True): (4_933_938, 13_056),
    ("res2", False): (4_119_346, 12_032),
    ("rese1", True): (24_917_298, 8_448),
    ("rese1", False): (24_102_706, 7_424),
    ("rese2", True): (26_993_202, 13_056),
    ("rese2", False): (26_178_610, 12_032),
}


@pytest.mark.parametrize(("kind", "multi"), COUNTS)
def test_parameter_counts(kind: str, multi: bool) -> None:
    with torch.device("meta"):
        network = SampleCNN(BLOCKS[kind], tags=50, multi=multi)
    trained = sum(p.numel() for p in network.parameters())
    total = count_parameters(network)
    assert (total, total - trained) == COUNTS[kind, multi]


@pytest.mark.parametrize("multi", [True, False])
@pytest.mark.parametrize(("width", "tags"), [(1, 1), (3, 7), (16, 188)])
def test_any_width_and_number_of_tags(width: int, tags: int, multi: bool) -> None:
    network = SampleCNN(BLOCKS["rese2"], tags=tags, width=width, multi=multi)
    assert network(torch.randn(2, SEGMENT_SAMPLES)).shape == (2, tags)
    assert network.head_fc1.in_features == width * (8 if multi else 4)


@pytest.mark.parametrize("shape", [(59049,), (2, 59048), (2, 1, 59049), (2, 59050)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    network = SampleCNN(Basic, tags=2, width=2)
    with pytest.raises(ValueError, match=r"waveforms of shape \(batch, 59049\) at 22050 Hz, not"):
        network(torch.zeros(shape))


def test_options_of_the_network_itself() -> None:
    network = build({**description(name="basic"), "model": {"name": "samplecnn", "pad_front": 1}}, 3)
    assert isinstance(network, SampleCNN)
    assert network.pad_front == 1
    with pytest.raises(ValueError, match=r"cannot be built with the options .*'pad_front': 3"):
        build({**description(name="basic"), "model": {"name": "samplecnn", "pad_front": 3}}, 3)


@pytest.mark.parametrize(
    ("model", "rate", "message"),
    [
        ({"name": "unet"}, None, "unknown network 'unet'; known are samplecnn, fcn, crnn"),
        ({"name": "fcn", "width": 3}, None, "cannot be built with .*It takes dropout"),
        ({"name": "musicnn"}, 22_050, "network 'musicnn' hears 16000 Hz, not 22050"),
    ],
)
def test_other_networks_that_cannot_be_built(model: dict[str, Any], rate: int | None, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        build({"model": model, "dropout": 0.5, "sample_rate": rate}, 3)


def test_a_raw_network_hears_any_rate() -> None:
    for model in ({"name": "dieleman", "input": "raw"}, {"name": "samplecnn"}):
        network = build({**description(name="basic"), "model": model, "sample_rate": 8_000}, 3)
        assert network.sample_rate == 8_000
    assert SampleCNN.sample_rate == 22_050


def test_padding_on_every_backend() -> None:
    torch.manual_seed(0)
    network = SampleCNN(Basic, tags=3, width=4, multi=False, pad_front=1).eval()
    plain = SampleCNN(Basic, tags=3, width=4, multi=False).eval()
    plain.load_state_dict(network.state_dict())
    x = torch.randn(2, SEGMENT_SAMPLES)
    moved = torch.cat([torch.zeros(2, 1), x[:, :-1]], dim=1)
    with torch.no_grad():
        assert torch.equal(network(x), plain(moved))
        network.use(STEM)
        torch.testing.assert_close(network(x), plain(moved), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="pad_front must be 0 to 2, not 3"):
        SampleCNN(Basic, tags=3, width=4, pad_front=3)


@pytest.mark.parametrize(("name", "value"), [("tags", 0), ("width", 0), ("width", -3)])
def test_impossible_sizes(name: str, value: int) -> None:
    sizes: Any = {"tags": 3, "width": 2} | {name: value}
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not {value}"):
        SampleCNN(Basic, **sizes)


def description(**block: object) -> dict[str, object]:
    return {"block": block, "multi": True, "width": 2, "dropout": 0.5}


class Average(nn.Module):
    """A block that is not in the paper."""

    def __init__(self, in_channels: int, out_channels: int, *, size: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1)
        self.pool = nn.AvgPool2d((1, size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(self.conv(x))


def test_a_block_of_one_s_own_is_passed_in() -> None:
    network = build(description(name="average", size=3), 4, {"average": Average})
    assert isinstance(network, SampleCNN)
    assert isinstance(network.blocks[8], Average)
    assert network(torch.randn(2, SEGMENT_SAMPLES)).shape == (2, 4)


def test_what_cannot_be_built() -> None:
    with pytest.raises(ValueError, match=r"unknown block 'average'; known are basic, se, .*passed in"):
        build(description(name="average"), 4)
    with pytest.raises(ValueError, match="'se' is one of samplecnn's own blocks"):
        build(description(name="se"), 4, {"se": Average})
    with pytest.raises(ValueError, match=r"'basic' cannot be built with the options \{'alpha': 8\}"):
        build(description(name="basic", alpha=8), 4)
