"""Mean excitations against a plain loop, and their file."""

import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from analysis.excitations_by_hand import assert_same, averages_by_hand
from samplecnn.analysis.excitation import Excitations, choose_blocks, excitations
from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.data.datasets import mtat
from samplecnn.data.prepare import prepare
from samplecnn.model.blocks import BLOCKS
from samplecnn.model.excitation import ExcitationError
from samplecnn.model.network import SampleCNN


def network(kind: str = "se", **options: float) -> SampleCNN:
    """A narrow network with weights of chance, in evaluation mode."""
    torch.manual_seed(0)
    return SampleCNN(partial(BLOCKS[kind], **options), tags=16, width=3).eval()


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


def test_damaged_and_untrusted_files(tmp_path: Path, uneven: Path) -> None:
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


@pytest.mark.slow
def test_a_file_that_unpacks_to_more_than_any_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "large.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("tags.npy", "w", force_zip64=True) as file,
    ):
        for _ in range(1025):
            file.write(bytes(1 << 20))
    with pytest.raises(ExcitationError, match="it unpacks to 1,074,790,400 bytes, more than"):
        Excitations.load(path)
