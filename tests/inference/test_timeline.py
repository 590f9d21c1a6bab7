"""Tags over time: the same network on the same segments, however the file is read."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from inference.models import model
from samplecnn.data import audio, decoding
from samplecnn.errors import UserError
from samplecnn.inference.picture import picture_files, write_picture
from samplecnn.inference.tagger import Tagger
from samplecnn.inference.timeline import AVERAGES, ENVELOPE_SECONDS, Envelope, Timeline

SEGMENT = 59_049


@pytest.fixture
def tagger(tmp_path: Path) -> Tagger:
    return Tagger(model(tmp_path), torch.device("cpu"))


def song(path: Path, seconds: float, rate: int = 22_050, channels: int = 1) -> Path:
    """Noise that grows louder, so that every segment is another."""
    rng = np.random.default_rng(5)
    samples = rng.uniform(-1, 1, (round(seconds * rate), channels))
    soundfile.write(path, samples * np.linspace(0.05, 0.9, len(samples))[:, None], rate)
    return path


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.9])
def test_segments_of_a_file(
    tmp_path: Path, tagger: Tagger, overlap: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "BLOCK", 30_000)  # many to a segment
    path = song(tmp_path / "song.flac", 31.0, 44_100, 2)
    timeline = tagger.timeline(path, overlap=overlap)
    samples = audio.load(path)
    hop = round(SEGMENT * (1 - overlap))
    starts = np.arange(0, len(samples) - SEGMENT + 1, hop)
    assert len(starts) > 10
    one_by_one = [tagger.predict_segments(samples[None, start : start + SEGMENT])[0] for start in starts]
    np.testing.assert_allclose(timeline.probabilities, one_by_one, atol=1e-5)
    np.testing.assert_allclose(timeline.starts, starts / 22_050)
    assert timeline.tags == tuple(tagger.tags)
    assert timeline.seconds == pytest.approx(31.0, abs=1e-3)
    assert timeline.segment_seconds == pytest.approx(2.678, abs=1e-3)
    assert np.ptp(timeline.probabilities, axis=0).max() > 0.01  # segments do differ


@pytest.mark.parametrize("how", sorted(AVERAGES))
def test_a_file_is_its_waveform(tmp_path: Path, tagger: Tagger, how: str) -> None:
    path = song(tmp_path / "song.wav", 12.0, 16_000)
    samples, rate = audio.decode(path)
    of_file = tagger.predict_file(path, overlap=0.25, average=how)
    np.testing.assert_allclose(of_file, tagger.predict(samples, rate, overlap=0.25, average=how), atol=1e-5)
    segments = tagger.timeline(path, overlap=0.25).probabilities
    expected = getattr(np, how)(segments, axis=0)
    np.testing.assert_allclose(of_file, expected, atol=1e-6)


def test_a_short_file_is_one_segment(tmp_path: Path, tagger: Tagger) -> None:
    path = song(tmp_path / "short.wav", 0.1)
    timeline = tagger.timeline(path, overlap=0.5)
    padded = np.pad(audio.load(path), (0, SEGMENT - 2205))
    np.testing.assert_allclose(timeline.probabilities, tagger.predict_segments(padded[None]), atol=1e-6)
    assert timeline.seconds == pytest.approx(0.1)


def test_what_is_not_allowed(tmp_path: Path, tagger: Tagger) -> None:
    path = song(tmp_path / "song.wav", 1)
    for overlap in (-0.1, 0.96, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"allowed is a share of a segment from 0 to 0\.95"):
            tagger.timeline(path, overlap=overlap)
    with pytest.raises(ValueError, match="average is 'sum'; allowed are mean, median, max"):
        tagger.predict_file(path, average="sum")
    with pytest.raises(audio.AudioError, match="no such file"):
        tagger.timeline(tmp_path / "none.wav")


def test_a_file_that_was_cut(tmp_path: Path, tagger: Tagger) -> None:
    path = song(tmp_path / "song.wav", 10)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(audio.AudioError, match=r"incomplete: 5\.00 s decoded, its header promises 10\.00 s"):
        tagger.predict_file(path)
    with pytest.warns(UserWarning, match=r"song\.wav: incomplete"):
        timeline = tagger.timeline(path, strict=False)
    assert timeline.seconds == pytest.approx(5, abs=0.01)
    assert len(timeline.starts) == 1


def test_waveforms_that_cannot_be_right(tmp_path: Path, tagger: Tagger) -> None:
    path = song(tmp_path / "stereo.wav", 3, channels=2)
    samples, rate = soundfile.read(path)
    with pytest.raises(UserError, match=r"not \(66150, 2\): turn it round with \.T"):
        tagger.predict(samples, rate)
    assert tagger.predict(samples.T, rate).shape == (3,)
    with pytest.raises(UserError, match=r"samples up to .* lies in \[-1, 1\].*divide them by 32768"):
        tagger.predict(samples.T * 32768, rate)
    for wrong, words in (
        ((samples.T * 32767).astype(np.int16), "must hold floats in .*, not int16: divide 16-bit samples by"),
        (np.zeros(0), "the waveform has no samples"),
        (np.array([0, np.nan]), "must hold finite numbers only"),
    ):
        with pytest.raises(UserError, match=words):
            tagger.predict(wrong, rate)
    wild = samples[:, 0].copy()
    wild[100] = 3e38
    with pytest.raises(UserError, match=r"samples up to 3e\+38"):
        tagger.predict(wild, rate)
    assert np.isfinite(tagger.predict(samples.T * 3, rate)).all()  # loud, but a mix may be


def test_a_model_that_diverged(tmp_path: Path, tagger: Tagger) -> None:
    next(tagger.network.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match="its training diverged"):
        tagger.predict_file(song(tmp_path / "song.wav", 3))


def test_progress_is_told(tmp_path: Path, tagger: Tagger) -> None:
    told: list[tuple[float, float | None]] = []
    path = song(tmp_path / "song.wav", 60)
    tagger.timeline(path, overlap=0.5, progress=lambda done, whole: told.append((done, whole)))
    assert [whole for _, whole in told] == [60.0] * 5
    done = [done for done, _ in told]
    assert done == sorted(done)
    assert done[-1] == pytest.approx(60, abs=2.7)


@pytest.mark.parametrize("samples", [0, 1, 2_204, 2_205, 10_000])
def test_the_envelope_is_smallest_and_largest(samples: int) -> None:
    waveform = np.random.default_rng(0).uniform(-1, 1, samples).astype(np.float32)
    envelope = Envelope(22_050)
    for block in np.array_split(waveform, 7):
        envelope.push(block)
    low, high = envelope.finish()
    pieces = [
        waveform[start : start + 2_205] for start in range(0, samples, round(ENVELOPE_SECONDS * 22_050))
    ]
    np.testing.assert_array_equal(low, [piece.min() for piece in pieces])
    np.testing.assert_array_equal(high, [piece.max() for piece in pieces])
    assert envelope.samples == samples


def test_a_picture(tmp_path: Path) -> None:
    probabilities = np.random.default_rng(0).uniform(0, 1, (40, 3)).astype(np.float32)
    starts = np.linspace(0.0, 97.5, 40)
    wave = np.linspace(0, 1, 10_000, dtype=np.float32)
    song = Timeline(("a $b", "c", "d"), starts, probabilities, 102.0, 2.678, np.stack([-wave, wave]))
    blip = Timeline(("c",), starts[:1], probabilities[:1, :1], 0.5, 2.678, np.zeros((2, 5), np.float32))
    for name, timeline in (("over/time.png", song), ("one.png", blip)):
        write_picture(timeline, "song $1.mp3", tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["one.png", "time.png"]


def test_pictures_lie_as_the_files_do(tmp_path: Path) -> None:
    named = [tmp_path / "music", tmp_path / "song.wav"]
    named[0].mkdir()
    out = Path("out")
    inside = named[0] / "a/b.mp3"
    assert picture_files([inside, named[1]], named, out) == {
        inside: out / "a/b.mp3.png",
        named[1]: out / "song.wav.png",
    }


def test_pictures_of_different_files_are_different(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("albA/01.wav", "albB/01.wav", "albB/02.wav", "c/ALBA/01.wav")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    again = Path(tmp_path / "albA/../albA/01.wav")  # the same file: the same picture
    pictures = picture_files([*files, again], [*files, again], Path("out"))
    names = ["albA/01.wav.png", "albB/01.wav.png", "02.wav.png", "c/ALBA/01.wav.png", "albA/01.wav.png"]
    assert [str(picture.relative_to("out")) for picture in pictures.values()] == names
    folders = [tmp_path / "albA", tmp_path / "albB", tmp_path / "c"]  # and within folders named
    pictures = picture_files(files, folders, Path("out"))
    assert len({str(picture).casefold() for picture in pictures.values()}) == len(files)


def blip_of(tag: str) -> Timeline:
    return Timeline(
        (tag,), np.zeros(1), np.zeros((1, 1), np.float32), 0.5, 2.678, np.zeros((2, 5), np.float32)
    )


def test_long_names_have_pictures_too(tmp_path: Path) -> None:
    names = ["\u00fc" * 125 + f"{number}.wav" for number in (1, 2)]
    pictures = list(picture_files(list(map(Path, names)), [], tmp_path).values())
    assert len(set(pictures)) == 2
    for name, picture in zip(names, pictures, strict=True):
        write_picture(blip_of("c"), name, picture)
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_odd_titles_can_be_drawn(tmp_path: Path) -> None:
    title = "\u65e5\u672c \x1b[31m \udce9 $x^{.wav"
    write_picture(blip_of("\udce9"), title, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_tagging_does_without_what_training_needs() -> None:
    """Lightning alone takes longer to import than a song to tag."""
    code = "import sys, samplecnn.inference.tagger; print('pytorch_lightning' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
