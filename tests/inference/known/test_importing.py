"""Files of published weights as bundles: the same probabilities, and what the card says; others refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import samplecnn
from inference.keras_files import KERAS
from inference.known import theirs
from inference.known.files import BASELINES, CLIP, file_of, weights
from samplecnn.errors import UserError
from samplecnn.inference.bundle import write_bundle
from samplecnn.inference.known.convert import convert
from samplecnn.inference.known.importing import import_file
from samplecnn.inference.known.tags import AUTHORS_TAGS, TAGS
from samplecnn.runs.bundle import CARD, CONFIG
from samplecnn.runs.errors import RunError

pytestmark = pytest.mark.filterwarnings("ignore:At least one mel filterbank has all zero values")
needs_weights = pytest.mark.skipif(
    not BASELINES.exists(), reason="published weights (shared/baselines) are not beside this checkout"
)


def bundle(path: Path, tags: str | None = None) -> Path:
    imported = import_file(path, tags)
    folder = path.with_suffix("")
    write_bundle(imported.model, folder, source=imported.source, license_id=imported.license_id)
    return folder


@needs_weights
@pytest.mark.parametrize("name", ["fcn", "crnn", "musicnn"])
def test_real_weights_tag_the_real_clip(name: str, tmp_path: Path) -> None:
    """By their checksum their tags, licence and source are known; a bundle computes what they do."""
    file = tmp_path / f"{name}.pth"
    file.write_bytes((BASELINES / f"mtat_{name}.pth").read_bytes())
    folder = bundle(file)
    tagger = samplecnn.load(folder, precision="32")
    assert list(tagger.tags) == np.load(BASELINES / "mtat_tags.npy").tolist()

    clip = torch.from_numpy(soundfile.read(CLIP, dtype="float32")[0])
    network = convert(file).network
    samples = network.segment_samples
    segments = clip[: len(clip) // samples * samples].reshape(-1, samples)
    with torch.no_grad():
        expected = network(segments).sigmoid().mean(dim=0)
    np.testing.assert_allclose(tagger.predict_file(CLIP), expected, rtol=0, atol=1e-5)
    timeline = tagger.timeline(CLIP)
    assert len(timeline.probabilities) == len(segments)
    golden = np.load(BASELINES / "golden_joram_first_chunk.npz")[name]
    np.testing.assert_allclose(timeline.probabilities[0], golden, rtol=0, atol=1e-5)

    description = tagger.description
    assert (description.model["name"], description.sample_rate) == (name, 16_000)
    assert (description.data, description.split) == ("mtat", "clean")
    card = (folder / CARD).read_text()
    assert "license: mit" in card
    assert "published by Won et al." in card
    assert "they report ROC-AUC 0." in card
    assert "Not tested by this project." in card
    assert json.loads((folder / CONFIG).read_text())["results"] is None


@needs_weights
def test_real_weights_of_tensorflow(tmp_path: Path) -> None:
    """In segments of 3 s, where the authors cut one spectrogram: the same tags as they print are the best."""
    file = tmp_path / "MTT_musicnn.npz"
    file.write_bytes((BASELINES / file.name).read_bytes())
    tagger = samplecnn.load(bundle(file, "mtat"), precision="32")
    assert tagger.description.words == ["musicnn", "original True", "mid 64", "dense 200"]
    probabilities = tagger.predict_file(CLIP)
    best = [tagger.tags[i] for i in np.argsort(-probabilities)[:5]]
    assert best == ["techno", "electronic", "synth", "fast", "beat"]
    assert probabilities.max() == pytest.approx(0.585, abs=0.02)


def test_a_stem_that_is_padded_stays_so_in_a_bundle(tmp_path: Path) -> None:
    file = tmp_path / "sample.pth"
    torch.manual_seed(0)
    values = theirs.sample_weights()  # of doubles
    file.write_bytes(file_of(values))
    folder = bundle(file, "mtat")
    assert json.loads((folder / CONFIG).read_text())["model"]["model"] == {
        "name": "samplecnn",
        "pad_front": 1,
    }
    tagger = samplecnn.load(folder, precision="32")
    assert tagger.sample_rate == 16_000
    waveforms = 0.1 * torch.randn(2, 59_049, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs.sample(values, waveforms).sigmoid()
    np.testing.assert_allclose(tagger.predict_segments(waveforms.float()), expected, rtol=0, atol=1e-4)


def test_tags_that_no_file_says(tmp_path: Path) -> None:
    file = tmp_path / "best_model.pth"
    file.write_bytes(file_of(weights("fcn")))
    with pytest.raises(RunError, match=r"is FCN of Won et al\., but does not say what its 50 outputs are"):
        import_file(file)
    with pytest.raises(
        RunError, match="tags of 'gtzan' are not known; known are those of mtat, msd, jamendo"
    ):
        import_file(file, "gtzan")
    with pytest.raises(RunError, match="has 50 outputs, but 2 tags were named"):
        import_file(file, ["a", "b"])
    for named, data in (("jamendo", "jamendo"), ([f"tag {i}" for i in range(50)], "unknown")):
        imported = import_file(file, named)
        description = imported.model.description
        assert (description.data, description.split) == (data, "unknown")
        assert description.tags == (TAGS[named] if isinstance(named, str) else tuple(named))
        assert imported.license_id is None
        assert imported.source == "imported from best_model.pth, recognised as FCN of Won et al."


def test_the_authors_order_of_tags_is_theirs() -> None:
    file = KERAS / "rese-multi-narrow.hdf5"
    for named in (None, "mtat"):
        imported = import_file(file, named)
        assert imported.title == "ReSE-2, multi-level, of Kim et al."
        assert imported.model.tags == AUTHORS_TAGS
        assert imported.model.description.split == "clean"
    assert import_file(file, "msd").model.tags == TAGS["msd"]


@pytest.mark.parametrize(
    "content", [b"", b"RIFF", b"\x89HDF", b"PK", b"PK\x03\x04" * 9, b"\x80\x02", b"<html>"]
)
def test_other_files(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "it.pth"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"it\.pth (is not an HDF5 file of Keras, nor|cannot be read as)"):
        import_file(file)
    with pytest.raises(FileNotFoundError):
        import_file(tmp_path / "gone.pth")
