"""Excitations of single segments against the golden arrays and computed by hand."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analysis.excitations_by_hand import gates_by_hand
from golden.reference import load, set_weights
from inference.models import model, noise
from samplecnn.data.audio import SEGMENT_SAMPLES
from samplecnn.inference.tagger import Tagger
from samplecnn.model.blocks import BLOCKS, SE, Basic, SqueezeExcitation
from samplecnn.model.excitation import ExcitationError, recorded_excitations, segment_excitations
from samplecnn.model.network import SampleCNN

SE_KINDS = ["se", "rese1", "rese2"]


def network(block: str | type[nn.Module] = "se", **options: Any) -> SampleCNN:
    """A narrow network with weights of chance, in evaluation mode."""
    torch.manual_seed(0)
    factory: Callable[..., nn.Module] = BLOCKS[block] if isinstance(block, str) else block
    return SampleCNN(partial(factory, **options), tags=16, width=3).eval()


@pytest.mark.parametrize(
    ("dtype", "suffix", "tolerance"),
    [(torch.float64, "_f64", 1e-10), (torch.float32, "", 1e-5)],
    ids=["float64", "float32"],
)
@pytest.mark.parametrize("levels", ["multi", "nomulti"])
@pytest.mark.parametrize("kind", SE_KINDS)
def test_golden_excitations(
    kind: str, levels: str, dtype: torch.dtype, suffix: str, tolerance: float
) -> None:
    arrays = load(f"net_{kind}_{levels}")
    golden = SampleCNN(partial(BLOCKS[kind], alpha=2), tags=50, width=8, multi=levels == "multi")
    set_weights(golden, arrays)
    golden.to(dtype).eval()
    seen = segment_excitations(golden, torch.from_numpy(load("waveform")["x"]).to(dtype))
    assert list(seen) == list(range(1, 10))
    for block, gates in seen.items():
        wanted = torch.from_numpy(arrays[f"block{block}.excitation{suffix}"])
        torch.testing.assert_close(gates, wanted, atol=tolerance, rtol=0)


@pytest.mark.parametrize("kind", sorted(BLOCKS.keys() - set(SE_KINDS)))
def test_networks_without_squeeze_and_excitation(kind: str) -> None:
    with pytest.raises(
        ExcitationError, match=rf"{BLOCKS[kind].__name__} has no .*: se, rese1 and rese2 have"
    ):
        segment_excitations(network(kind), torch.zeros(1, SEGMENT_SAMPLES))


class SometimesSE(Basic):
    """Has squeeze-and-excitation where the channels change only."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        if in_channels != out_channels:
            self.bn1 = nn.Sequential(self.bn1, SqueezeExcitation(out_channels, 2))  # type: ignore[assignment]


class TwiceSE(SE):
    """Has two of them, defined in the other order than the one in which they run."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, alpha=2)
        self.first = SqueezeExcitation(in_channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.first(x))


class UngatedSE(SE):
    """Does not run its squeeze-and-excitation."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.pool(self.bn1(self.conv1(x))))


def test_blocks_of_one_s_own() -> None:
    waveforms = torch.randn(2, SEGMENT_SAMPLES, generator=torch.Generator().manual_seed(1))
    some = segment_excitations(network(SometimesSE), waveforms)
    assert {block: tuple(gates.shape) for block, gates in some.items()} == {3: (2, 6), 9: (2, 12)}
    twice = network(TwiceSE)
    both = segment_excitations(twice, waveforms)
    assert [gates.shape[1] for gates in both.values()] == [6, 6, 9, 12, 12, 12, 12, 12, 18]
    with torch.no_grad():
        x = F.relu(twice.stem_bn(twice.stem_conv(waveforms[:, None, None, :])))
        first = gates_by_hand(twice.blocks[0].first, x)  # type: ignore[arg-type]
    torch.testing.assert_close(both[1][:, :3], first)
    with pytest.raises(ExcitationError, match="gates of block 1 did not run"):
        segment_excitations(network(UngatedSE), waveforms)


def test_the_network_is_left_as_it_was() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    segment_excitations(model, torch.ones(1, SEGMENT_SAMPLES))
    with pytest.raises(ValueError, match=r"\(batch, 59049\)"):
        segment_excitations(model, torch.ones(1, 5))
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(ExcitationError, match=r"network.eval\(\)"):
        segment_excitations(model.train(), torch.ones(2, SEGMENT_SAMPLES))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("kind", SE_KINDS)
def test_recorded_while_tagging(tmp_path: Path, kind: str, dtype: torch.dtype, tolerance: float) -> None:
    """With probabilities, in one forward pass of a network that is folded, also in bfloat16."""
    made = model(tmp_path, kind)
    tagger = Tagger(made, torch.device("cpu"), dtype)
    passes: list[int] = []
    tagger.network.register_forward_hook(lambda *_: passes.append(1))
    with recorded_excitations(tagger.network) as seen:
        probabilities = tagger.predict_segments(noise())
    assert passes == [1]
    assert (probabilities == tagger.predict_segments(noise())).all()
    expected = segment_excitations(made.network, noise())
    assert seen.keys() == expected.keys() == set(range(1, 10))
    for block, gates in expected.items():
        assert seen[block].dtype == dtype
        assert gates.std() > 0.01
        torch.testing.assert_close(seen[block].float(), gates, atol=tolerance, rtol=0)


def test_nothing_is_recorded_where_nothing_ran() -> None:
    watched = network()
    with pytest.raises(ExcitationError, match="gates of block 1 did not run"), recorded_excitations(watched):
        pass
    with pytest.raises(KeyError, match="own"), recorded_excitations(watched):  # whose reason stays
        raise KeyError("own")
    assert not any(module._forward_hooks for module in watched.modules())
