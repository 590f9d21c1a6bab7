"""Excitations against the golden arrays and a plain loop, and their file."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analysis.excitations_by_hand import assert_same, averages_by_hand, gates_by_hand
from golden.reference import load, set_weights
from samplecnn.analysis.excitation import (
    ExcitationError,
    Excitations,
    choose_blocks,
    excitations,
    segment_excitations,
)
from samplecnn.data.audio import SEGMENT_SAMPLES
from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.data.datasets import mtat
from samplecnn.data.prepare import prepare
from samplecnn.model.blocks import BLOCKS, SE, Basic, SqueezeExcitation
from samplecnn.model.network import SampleCNN

SE_KINDS = ["se", "rese1", "rese2"]


def network(block: str | type[nn.Module] = "se", *, tags: int = 16, **options: Any) -> SampleCNN:
    """A narrow network with weights of chance, in evaluation mode."""
    torch.manual_seed(0)
    factory: Callable[..., nn.Module] = BLOCKS[block] if isinstance(block, str) else block
    return SampleCNN(partial(factory, **options), tags=tags, width=3).eval()


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


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of several lengths: five test clips of 1 (zero-padded), 1, 2, 3 and 1 segments."""
    raw, root = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("stores")
    rows = ["clip_id\tloud\tslow\tnever\tmp3_path"]
    rng = np.random.default_rng(0)
    seconds = {"0/a": 3.0, "c/b": 3.0, "d/c": 1.0, "d/d": 3.0, "d/e": 5.5, "e/f": 8.2, "f/g": 2.8}
    for number, (name, length) in enumerate(seconds.items()):
        path = raw / "mp3" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.02 * (number + 1) * rng.standard_normal(round(length * 22050)), 22050)
        rows.append(f"{number}\t{number % 2}\t{int(number != 5)}\t{int(number == 0)}\t{name}.wav")
    (raw / "annotations_final.csv").write_text("\n".join(rows) + "\n")
    return prepare(mtat.catalog(raw, "uneven"), root, workers=1, progress=False)


@pytest.mark.parametrize("kind", ["se", "rese1"])
def test_averages_are_those_of_a_plain_loop(kind: str, uneven: Path) -> None:
    data = SegmentDataModule(uneven, top=None, eval_batch_size=3)
    model = network(kind, alpha=2).double()
    got = excitations(model, data)
    assert got.counts.unused == ("never",)
    assert got.segments.tolist() == [5, 4]  # clips of 1 + 1 + 2 + 1 segments are slow, of 1 + 3 loud
    assert_same(got, averages_by_hand(model, data), 1e-12)
    assert (got.data, got.split, got.split_hash) == ("uneven", "clean", data.selection.split_hash)
    # In single precision, and in one batch.
    data.eval_batch_size = 40
    single = excitations(model.float(), data)
    for block in got.blocks:
        np.testing.assert_allclose(single.per_tag[block], got.per_tag[block], rtol=0, atol=1e-5)


def test_deviation_is_numpy_s(uneven: Path) -> None:
    got = excitations(network(), SegmentDataModule(uneven, top=None))
    assert set(got.deviation) == set(range(1, 10))
    for block, value in got.deviation.items():
        loud, slow = got.per_tag[block]
        assert value == np.std([loud, slow], axis=0).mean()
        # Of two values, the population's standard deviation is half their distance.
        assert value == pytest.approx((np.abs(loud - slow) / 2).mean(), abs=1e-15)
        assert value > 1e-6


def test_weights_that_are_not_finite(uneven: Path) -> None:
    broken = network()
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(ExcitationError, match="not finite: its training diverged"):
        excitations(broken, SegmentDataModule(uneven, top=None))


def test_blocks() -> None:
    assert choose_blocks(range(1, 10)) == (1, 5, 9)
    assert choose_blocks(range(1, 10), [7, 2, 7]) == (7, 2)
    assert choose_blocks((3, 9)) == (3, 9)
    assert choose_blocks((4,)) == (4,)
    for wrong in (0, 10, -1):
        with pytest.raises(
            ExcitationError, match=f"no excitations of block {wrong}: allowed are 1, 2, .*, 9"
        ):
            choose_blocks(range(1, 10), [1, wrong])
    with pytest.raises(ExcitationError, match="no excitations of block 1: allowed are 3, 9"):
        choose_blocks((3, 9), [1])


def test_a_saved_file_is_read_again(tmp_path: Path, uneven: Path) -> None:
    got = excitations(network(), SegmentDataModule(uneven, top=None))
    got.save(tmp_path / "a.npz")
    again = Excitations.load(tmp_path / "a.npz")
    again.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert again.counts.tags == got.counts.tags
    assert again.counts.unused == got.counts.unused == ("never",)
    np.testing.assert_array_equal(again.counts.together, got.counts.together)
    for block in got.blocks:
        np.testing.assert_array_equal(again.per_tag[block], got.per_tag[block])
        np.testing.assert_array_equal(again.overall[block], got.overall[block])


def test_damaged_and_hostile_files(tmp_path: Path, uneven: Path) -> None:
    whole = tmp_path / "whole.npz"
    excitations(network(), SegmentDataModule(uneven, top=None)).save(whole)
    with np.load(whole, allow_pickle=False) as file:
        arrays = dict(file)
    trap = np.array([{"an": "object"}], dtype=object)

    def refused(path: Path) -> None:
        with pytest.raises(ExcitationError, match=f"{path.name} is not a file of excitations, or is damaged"):
            Excitations.load(path)

    for number, change in enumerate(
        [
            {"block3": arrays["block3"][:1]},
            {"block3": arrays["block3"][:, :2]},
            {"block9_overall": np.full_like(arrays["block9_overall"], np.nan)},
            {"together": arrays["together"][0]},
            {"segments": arrays["segments"][:1]},
            {"tags": arrays["tags"][:0]},
            {"blocks": np.array([1, 12])},
            {"blocks": np.array([], dtype=int)},
            {"tags": trap},
        ]
    ):
        path = tmp_path / f"{number}.npz"
        np.savez(path, **(arrays | change))
        refused(path)
    content = whole.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    for name, wrong in {
        "empty": b"",
        "text": b"no numbers",
        "half": content[: len(content) // 2],
        "flip": flipped,
    }.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(wrong)
        refused(path)
    refused(tmp_path / "missing.npz")
