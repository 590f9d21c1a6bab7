"""Published networks converted: real weights on a real clip, the others against their definition."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from inference.known import theirs
from inference.known.theirs import Weights
from samplecnn.inference.known.convert import convert, converted
from samplecnn.inference.known.layouts import LAYOUTS
from samplecnn.inference.known.tags import TAGS
from samplecnn.model.blocks import BLOCKS
from samplecnn.model.network import SampleCNN
from samplecnn.model.networks import NETWORKS
from samplecnn.runs.errors import RunError

SHARED = Path(__file__).parents[4] / "shared"
BASELINES = SHARED / "baselines"
CLIP = SHARED / "mtat/joram-moments_of_clarity-08-solipsism-59-88.mp3"
needs_weights = pytest.mark.skipif(
    not BASELINES.exists(), reason="published weights (shared/baselines) are not beside this checkout"
)
# The lowest of 128 bands are narrower than the distance of two bins; so torchaudio warns of its own default.
pytestmark = pytest.mark.filterwarnings("ignore:At least one mel filterbank has all zero values")
HERE = Path("made")  # of weights that are in no file

BASIC = {"block": {"name": "basic"}, "multi": False, "width": 128}
# folder of the collection: (network of ours, rate, samples)
EXPECTED: dict[str, tuple[dict[str, Any], int, int]] = {
    "sample": ({**BASIC, "model": {"name": "samplecnn", "pad_front": 1}}, 16_000, 59_049),
    "clmr": ({**BASIC, "model": {"name": "samplecnn"}}, 22_050, 59_049),
    "short": ({"model": {"name": "shortchunk"}}, 16_000, 59_049),
    "short_res": ({"model": {"name": "shortchunk", "res": True}}, 16_000, 59_049),
    "hcnn": ({"model": {"name": "harmonic"}}, 16_000, 80_000),
}


def chunk(samples: int) -> Tensor:
    """A sound that is neither silent nor noise all over."""
    time = torch.arange(samples, dtype=torch.float64) / 16_000
    hiss = torch.randn(samples, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return (0.3 * torch.sin(2000 * time * (1 + time)) + 0.05 * hiss)[None]


@needs_weights
@pytest.mark.parametrize("name", ["fcn", "crnn", "musicnn"])
def test_real_weights_on_the_real_clip(name: str) -> None:
    model = convert(BASELINES / f"mtat_{name}.pth")
    assert (model.architecture["model"]["name"], model.network.tags) == (name, 50)
    assert model.network.sample_rate == 16_000
    clip = torch.from_numpy(soundfile.read(CLIP, dtype="float32")[0])
    with torch.no_grad():
        got = model.network(clip[None, : model.network.segment_samples]).sigmoid()[0]
    golden = np.load(BASELINES / "golden_joram_first_chunk.npz")[name]
    np.testing.assert_allclose(got, golden, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", theirs.NETWORKS)
def test_the_same_function_at_full_width(name: str) -> None:
    torch.manual_seed(0)
    make, compute = theirs.NETWORKS[name]
    weights = make()
    model = converted(HERE, weights)
    architecture, rate, samples = EXPECTED[name]
    assert model.architecture.items() >= architecture.items()
    ours = model.network.double()
    assert (ours.sample_rate, ours.segment_samples, model.network.tags) == (rate, samples, 50)
    x = chunk(samples)
    with torch.no_grad():
        expected, got = compute(weights, x), ours(x)
    scale = expected.abs().max()
    assert expected.std() > 0.1 * scale
    # Their windows and filter banks are float32, as ours are: rounding differs, where there are any.
    tolerance = 1e-10 if name in ("sample", "clmr") else 1e-5
    torch.testing.assert_close(got / scale, expected / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("mid", "dense"), [(64, 200), (512, 500)])
def test_both_sizes_of_musicnn(mid: int, dense: int) -> None:
    options = {"mid": mid, "dense": dense}
    ours = NETWORKS["musicnn"](tags=50, **options).state_dict()
    [layout] = [layout for layout in LAYOUTS if layout.network == "musicnn"]
    file = {layout.theirs(name): weight for name, weight in ours.items()}
    flat = ("layers.2", "layers.3", "layers.4", "layer1", "layer2", "layer3")  # convolutions over time alone
    file = {n: w[:, :, 0] if w.ndim == 4 and n.startswith(flat) else w for n, w in file.items()}
    model = converted(HERE, file)
    assert model.architecture["model"] == {"name": "musicnn", **options}
    for name, weight in model.network.state_dict().items():
        assert torch.equal(weight, ours[name])


def test_files_of_both_formats(tmp_path: Path) -> None:
    weights = {
        name: weight.float() if weight.is_floating_point() else weight
        for name, weight in theirs.short_weights().items()
    }
    states: list[Mapping[str, Tensor]] = []
    for zipped in (True, False):
        path = tmp_path / f"{zipped}.pth"
        torch.save(weights, path, _use_new_zipfile_serialization=zipped)
        states.append(convert(path).network.state_dict())
    for name, weight in states[0].items():
        assert torch.equal(weight, states[1][name])
        assert weight.dtype in (torch.float32, torch.int64)


def test_checkpoints_of_clmr() -> None:
    """Supervised training holds the network twice; linear evaluation holds the encoder and a layer."""
    plain = theirs.clmr_weights()
    wanted = converted(HERE, plain).network.state_dict()
    supervised = {f"{prefix}{name}": w for prefix in ("encoder.", "model.") for name, w in plain.items()}
    last = {name.replace("fc", "model.0"): w for name, w in plain.items() if name.startswith("fc")}
    linear = {f"encoder.{name}": w for name, w in plain.items() if not name.startswith("fc")} | last
    for file in (supervised, linear):
        got = converted(HERE, file).network.state_dict()
        assert all(torch.equal(got[name], wanted[name]) for name in wanted)
    encoder = {name: w for name, w in plain.items() if not name.startswith("fc")}
    with pytest.raises(RunError, match=r"lacks fc.weight: it is SampleCNN of CLMR without its last layer"):
        converted(HERE, encoder)


def refused(
    words: str, change: Callable[[Weights], object], make: Callable[[], Weights] = theirs.short_weights
) -> None:
    weights = make()
    change(weights)
    with pytest.raises(RunError, match=words) as caught:
        converted(HERE, weights)
    assert str(caught.value).startswith("made ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", theirs.NETWORKS)
def test_any_weight_that_is_missing_is_named(name: str) -> None:
    make, _ = theirs.NETWORKS[name]
    weights = make()
    needed = [key for key in weights if not key.startswith(("spec.", "hstft.spec."))]
    for key in needed[:: max(1, len(needed) // 12)]:
        rest = {other: weight for other, weight in weights.items() if other != key}
        with pytest.raises(RunError) as caught:
            converted(HERE, rest)
        assert key in str(caught.value) or "is of no network that is known" in str(caught.value)


def test_weights_that_do_not_fit() -> None:
    def put(name: str, weight: Tensor) -> Callable[[Weights], object]:
        return lambda weights: weights.__setitem__(name, weight)

    refused(
        "has weights that the network does not have: 'layer8.conv.weight'",
        put("layer8.conv.weight", torch.ones(1)),
    )
    refused(
        r"'layer2.conv.weight' with shape \[128, 64, 3, 3\]",
        put("layer2.conv.weight", torch.ones(128, 64, 3, 3)),
    )
    refused(
        "'layer2.bn.bias' with shape .* and type torch.int64", put("layer2.bn.bias", torch.ones(128).long())
    )
    refused("NaN or infinite weights in 'dense1.bias'", put("dense1.bias", torch.full((512,), torch.nan)))
    refused("negative variance in 'layer3.bn.running_var'", put("layer3.bn.running_var", -torch.ones(256)))
    refused("has 0 outputs of 'dense2.weight'", put("dense2.weight", torch.ones(0, 512)))
    refused("has 0 outputs of 'dense2.weight'", put("dense2.weight", torch.tensor(1.0)))
    refused("has 99999 outputs of 'dense2.weight'", put("dense2.weight", torch.ones(99_999, 1)))
    refused(
        "was trained on another spectrogram: 'spec.mel_scale.fb'",
        put("spec.mel_scale.fb", torch.ones(257, 128)),
    )
    refused("was trained on another spectrogram", put("spec.mel_scale.fb", torch.ones(257, 64)))
    refused(r"\\x1b", put("\x1b[2J", torch.ones(1)))


def test_a_filter_bank_that_was_emptied_is_no_matter() -> None:
    """The authors' own evaluation saves it so."""
    weights = theirs.short_weights()
    weights["spec.mel_scale.fb"] = torch.empty(0)
    assert converted(HERE, weights).architecture["model"] == {"name": "shortchunk"}


def test_other_networks_are_not_taken_for_these() -> None:
    ours = SampleCNN(BLOCKS["basic"], tags=2, width=2).state_dict()
    with pytest.raises(
        RunError, match=r"of no network that is known .*stem_conv.weight.* Known are: FCN of Won"
    ):
        converted(HERE, ours)
    attention = theirs.short_res_weights()
    attention["encoder.layer.0.attention.self.query.weight"] = torch.ones(256, 256)
    with pytest.raises(RunError, match=r"does not have: 'encoder\.layer"):
        converted(HERE, attention)
    squeeze = {
        f"layer{i}.{part}.weight": torch.ones(1) for i in range(1, 12) for part in ("conv_1", "dense1")
    }
    with pytest.raises(RunError, match="of no network that is known"):
        converted(HERE, squeeze)


def test_orders_of_tags() -> None:
    assert {name: len(set(tags)) for name, tags in TAGS.items()} == dict.fromkeys(TAGS, 50)
    assert TAGS["msd"][:3] == ("rock", "pop", "alternative")
    assert TAGS["mtat"][:3] == ("guitar", "classical", "slow")
    assert list(TAGS["jamendo"]) == sorted(TAGS["jamendo"])


@needs_weights
def test_mtat_is_in_the_order_of_the_collection() -> None:
    assert list(TAGS["mtat"]) == np.load(BASELINES / "mtat_tags.npy").tolist()
