"""Decoding and its refusals on real files; resampling against ideal sines."""

import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from samplecnn.data import audio, decoding, resampling

RATE = 16_000
REAL_CLIP = (
    Path(__file__).parents[3] / "shared/mtat/joram-moments_of_clarity-08-solipsism-59-88.mp3"
)  # CC BY-NC-SA: not in the repository


def write(path: Path, seconds: float = 4.0, mode: str | None = None) -> Path:
    """Write noise that starts as a bare tone, so that variable bit rates do vary."""
    time = np.arange(round(seconds * RATE)) / RATE
    hiss = np.random.default_rng(0).normal(size=len(time)) * 0.1 * (time > seconds / 5)
    options = {} if mode is None else {"bitrate_mode": mode, "compression_level": 0.5}
    soundfile.write(path, 0.3 * np.sin(5000 * time) + hiss, RATE, **options)
    return path


def without_length_header(mp3: bytes) -> bytes:
    """Drop the first frame of an MPEG-2 layer III file: the one that carries the Xing or Info header."""
    assert mp3[0] == 0xFF
    assert mp3[1] in (0xF2, 0xF3)  # MPEG-2, layer III
    bit_rate = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)[mp3[2] >> 4] * 1000
    return mp3[72 * bit_rate // RATE + (mp3[2] >> 1 & 1) :]


def test_constants_are_the_papers() -> None:
    assert audio.SEGMENT_SAMPLES == 59_049
    assert audio.CLIP_SAMPLES == 639_450
    assert audio.CLIP_SAMPLES // audio.SEGMENT_SAMPLES == 10


def test_channels_are_averaged(tmp_path: Path) -> None:
    stereo = np.stack([np.full(1000, 0.5), np.linspace(-1, 1, 1000)], axis=1)
    soundfile.write(tmp_path / "stereo.wav", stereo, RATE, subtype="FLOAT")
    waveform, rate = audio.decode(tmp_path / "stereo.wav")
    assert rate == RATE
    assert waveform.dtype == np.float32
    np.testing.assert_allclose(waveform, stereo.mean(axis=1), atol=1e-7)


def test_blocks_join_without_a_seam(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, decoding.BLOCK + 5).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", samples, RATE, subtype="FLOAT")
    np.testing.assert_array_equal(audio.decode(tmp_path / "long.wav")[0], samples)


@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.flac", "a.ogg"])
def test_formats_and_how_much_is_read(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / name)
    assert len(audio.decode(file)[0]) == 4 * RATE
    assert len(audio.decode(file, max_seconds=1.5)[0]) == 1.5 * RATE
    assert len(audio.decode(file, max_seconds=29)[0]) == 4 * RATE
    assert len(audio.load(file, max_seconds=1.5)) == 1.5 * audio.SAMPLE_RATE


def test_middle_of_a_file(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 5 * RATE).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    middle = audio.load(tmp_path / "a.wav", max_seconds=2, start="middle")
    np.testing.assert_array_equal(middle, audio.resample(samples[3 * RATE // 2 : 7 * RATE // 2], RATE))
    whole = audio.resample(samples, RATE)
    np.testing.assert_array_equal(audio.load(tmp_path / "a.wav", max_seconds=9, start="middle"), whole)
    np.testing.assert_array_equal(audio.load(tmp_path / "a.wav", start="middle"), whole)
    with pytest.raises(ValueError, match="start is 'end': allowed are start, middle"):
        audio.load(tmp_path / "a.wav", start="end")


def test_the_middle_of_a_long_file_takes_the_memory_of_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "BLOCK", 10_000)
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 1_000_001).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    tracemalloc.start()
    try:
        middle, _ = audio.decode(tmp_path / "a.wav", max_seconds=2, start="middle")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(middle, samples[484_000:516_000])
    for length in (31_999, 32_001, 131_998, 131_999, 132_000, 132_001):  # blocks end near the first sample
        soundfile.write(tmp_path / "a.wav", samples[:length], RATE, subtype="FLOAT")
        first = max(0, (length - 32_000) // 2)
        middle, _ = audio.decode(tmp_path / "a.wav", max_seconds=2, start="middle")
        np.testing.assert_array_equal(middle, samples[first : min(length, first + 32_000)])
    assert peak < 1.2 * samples.nbytes  # half of the blocks, joined; all of them took twice as much


def test_max_seconds_has_to_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_seconds is 0"):
        audio.decode(tmp_path, max_seconds=0)


@pytest.mark.skipif(not REAL_CLIP.exists(), reason=f"{REAL_CLIP.name} is not beside this checkout")
def test_real_clip_decodes_to_less_than_its_header_says() -> None:
    waveform, rate = audio.decode(REAL_CLIP)
    assert (len(waveform), rate) == (465_984, 16_000)
    assert soundfile.info(REAL_CLIP).frames == 468_340
    assert len(audio.load(REAL_CLIP, max_seconds=audio.CLIP_SECONDS)) == audio.CLIP_SAMPLES


def test_unusable_files_are_refused_by_name_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "folder.mp3").mkdir()
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "text.mp3").write_text("This is not music.\n" * 500)
    soundfile.write(tmp_path / "zero.wav", np.zeros(0), RATE)
    for name, value in (("nan.wav", np.nan), ("inf.wav", -np.inf)):
        samples = np.zeros(RATE)
        samples[RATE // 4 :: 4] = value
        soundfile.write(tmp_path / name, samples, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "slow.wav", np.zeros(1000), 500)
    flac = write(tmp_path / "cut.flac")
    flac.write_bytes(flac.read_bytes()[: flac.stat().st_size // 2])
    reasons = {
        "missing.mp3": "no such file",
        "folder.mp3": "is a folder",
        "empty.mp3": r"empty file \(0 bytes\)",
        "text.mp3": "cannot be decoded as audio",
        "zero.wav": "no samples",
        "nan.wav": r"3000 samples are NaN or infinite, the first at 0\.250 s",
        "inf.wav": r"3000 samples are NaN or infinite, the first at 0\.250 s",
        "slow.wav": "500 Hz: allowed are 1,000 to 1,000,000",
        "cut.flac": "cannot be decoded|incomplete",
    }
    for name, reason in reasons.items():
        with pytest.raises(audio.AudioError, match=f"{name}: .*({reason})") as caught:
            audio.load(tmp_path / name)
        assert str(tmp_path) not in caught.value.reason


def test_what_is_not_finite_is_counted_over_all_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "BLOCK", 1_000)
    samples = np.zeros(RATE)
    samples[RATE // 4 :: 4] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(audio.AudioError, match=r"3000 samples are NaN or infinite, the first at 0\.250 s"):
        audio.decode(tmp_path / "nan.wav")


@pytest.mark.parametrize("mode", [None, "CONSTANT", "VARIABLE"])
def test_mp3_that_was_cut_is_refused(tmp_path: Path, mode: str | None) -> None:
    file = write(tmp_path / "cut.mp3", mode=mode)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    for max_seconds in (None, 29, 3.5):
        with pytest.raises(audio.AudioError, match=r"incomplete: [12]\.\d\d s decoded, .* promises 4\.00 s"):
            audio.decode(file, max_seconds=max_seconds)
    assert len(audio.decode(file, max_seconds=1)[0]) == RATE  # what is asked for is there


def test_mp3_that_lacks_its_last_frames_is_complete_enough(tmp_path: Path) -> None:
    file = write(tmp_path / "nearly.mp3")
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * 0.95)])
    assert len(audio.decode(file)[0]) < 4 * RATE


@pytest.mark.parametrize("order", [1, -1])
def test_mp3_of_variable_bit_rate_without_header_is_read_whole(tmp_path: Path, order: int) -> None:
    """By its first frame libsndfile takes it for longer if it begins quietly, and for shorter if loudly."""
    quiet, loud = np.zeros(RATE), np.random.default_rng(0).normal(size=3 * RATE) * 0.1
    file = tmp_path / "bare.mp3"
    sound = np.concatenate([quiet, loud][::order])
    soundfile.write(file, sound, RATE, bitrate_mode="VARIABLE", compression_level=0.5)
    whole = audio.decode(file)[0]
    file.write_bytes(without_length_header(file.read_bytes()))
    alone = soundfile.info(file).frames
    assert alone > 6 * RATE if order == 1 else alone < 2 * RATE
    bare = audio.decode(file)[0]
    assert len(bare) == pytest.approx(4 * RATE, abs=2500)
    padding = 576  # samples of the encoder's, which the header would have said to cut off
    np.testing.assert_allclose(bare[padding : padding + len(whole)], whole, atol=1e-6)
    assert len(audio.decode(file, max_seconds=3)[0]) == 3 * RATE
    with audio.Decoder(file) as decoder:
        assert decoder.seconds == pytest.approx(4, abs=0.2)


def test_mp3_of_constant_bit_rate_without_header_is_read_whole(tmp_path: Path) -> None:
    file = write(tmp_path / "bare.mp3", mode="CONSTANT")
    content = without_length_header(file.read_bytes())
    file.write_bytes(content)
    assert len(audio.decode(file)[0]) == pytest.approx(4 * RATE, abs=2500)
    file.write_bytes(content[: len(content) // 2])  # documented: looks like a shorter file
    assert len(audio.decode(file)[0]) == pytest.approx(2 * RATE, abs=2500)


@pytest.mark.parametrize("hertz", [50, 440, 3000, 6000, 7000])
def test_resampling_keeps_sines(hertz: int) -> None:
    def sine(rate: int) -> np.ndarray:
        return np.sin(2 * np.pi * hertz * np.arange(2 * rate) / rate)

    resampled = audio.resample(sine(RATE).astype(np.float32), RATE)
    edge = audio.SAMPLE_RATE // 10  # the signal starts and ends abruptly
    ideal, got = sine(audio.SAMPLE_RATE)[edge:-edge], resampled[edge:-edge]
    assert 10 * math.log10(np.mean(ideal**2) / np.mean((got - ideal) ** 2)) > 80


def test_resampling_removes_what_would_fold_back() -> None:
    tone = np.sin(2 * np.pi * 15_000 * np.arange(44_100) / 44_100).astype(np.float32)
    assert np.abs(audio.resample(tone, 44_100)[2000:-2000]).max() < 1e-4


@pytest.mark.parametrize("rate", [8_000, 11_025, 12_000, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_usual_rates_are_exact(rate: int) -> None:
    samples = 2 * rate + 1
    resampled = audio.resample(np.zeros(samples, dtype=np.float32), rate)
    assert len(resampled) == math.ceil(samples * audio.SAMPLE_RATE / rate)
    assert resampled.dtype == np.float32


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 24_000, 44_100, 48_000, 96_000, 15_999, 44_099])
@pytest.mark.parametrize("samples", [1, 1000, 100_001])
def test_resampling_is_torchaudios(rate: int, samples: int) -> None:
    waveform = np.random.default_rng(rate).uniform(-1, 1, samples).astype(np.float32)
    expected = resampling._resampler(rate, audio.SAMPLE_RATE)(torch.from_numpy(waveform)).numpy()
    resampled = audio.resample(waveform, rate)
    np.testing.assert_allclose(resampled, expected, atol=3e-6)
    steps = audio.to_int16(resampled).astype(int) - audio.to_int16(expected)
    assert np.abs(steps).max() <= 1


def test_29_seconds_at_16_khz_fill_a_clip_exactly() -> None:
    assert len(audio.resample(np.zeros(464_000, dtype=np.float32), RATE)) == audio.CLIP_SAMPLES


@pytest.mark.parametrize("rate", [1_009, 15_999, 22_049, 22_051, 44_099, 47_951, 999_983])
def test_odd_rates_are_met_closely_with_a_small_kernel(rate: int) -> None:
    samples = np.sin(2 * np.pi * 100 * np.arange(3 * rate) / rate).astype(np.float32)
    resampled = audio.resample(samples, rate)
    assert len(resampled) == pytest.approx(3 * audio.SAMPLE_RATE, rel=5e-4)
    assert sum(kernel.nbytes for kernel in resampling._resampler(rate, audio.SAMPLE_RATE).buffers()) < 20e6
    crossings = np.count_nonzero(np.diff(np.signbit(resampled)))
    assert crossings == pytest.approx(600, abs=1)


@pytest.mark.parametrize(("kind", "rate"), [(float, 31_000), (np.float32, 32_500), (np.int64, 33_000)])
def test_rates_are_numbers_of_any_kind(kind: Callable[[int], float], rate: int) -> None:
    waveform = np.random.default_rng(rate).uniform(-1, 1, 5000).astype(np.float32)
    resampled = audio.resample(waveform, kind(rate), kind(audio.SAMPLE_RATE))  # the first of this rate
    np.testing.assert_array_equal(resampled, audio.resample(waveform, rate))
    assert len(audio.resample(waveform, rate + 0.5)) == len(resampled)


@pytest.mark.parametrize("rate", [-1, 0, 999, 1_000_001, 2**31, math.nan, "44.1k", None])
def test_absurd_rates_are_refused(rate: Any) -> None:
    with pytest.raises(audio.AudioError, match=f"{rate} Hz: allowed are 1,000 to 1,000,000"):
        audio.resample(np.zeros(100, dtype=np.float32), rate)


def test_int16_rounds_and_clips() -> None:
    waveform = np.array([-2, -1, -1.4 / 32768, 0, 0.6 / 32768, 0.5, 1, 3], dtype=np.float32)
    expected = [-32768, -32768, -1, 0, 1, 16384, 32767, 32767]
    np.testing.assert_array_equal(audio.to_int16(waveform), np.array(expected, dtype=np.int16))
    assert audio.to_int16(waveform).dtype == np.int16


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_segments(dtype: type) -> None:
    size = audio.SEGMENT_SAMPLES
    waveform: np.ndarray = np.arange(3 * size - 1).astype(dtype)
    cut = audio.segments(waveform)
    assert cut.shape == (2, size)
    assert cut.dtype == dtype
    np.testing.assert_array_equal(cut.ravel(), waveform[: 2 * size])

    short = audio.segments(waveform[1:100])
    assert short.shape == (1, size)
    np.testing.assert_array_equal(short[0, :99], waveform[1:100])
    assert not short[0, 99:].any()
    assert audio.segments(np.zeros(size, dtype)).shape == (1, size)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 15_999])
def test_resampling_in_blocks_is_resampling(rate: int) -> None:
    rng = np.random.default_rng(rate)
    waveform = rng.uniform(-1, 1, 3 * rate + 17).astype(np.float32)
    cuts = np.sort(rng.integers(0, len(waveform), 12))  # also short blocks, perhaps empty ones
    resampler = resampling.Resampler(rate)
    parts = [resampler.push(block) for block in np.split(waveform, cuts)]
    together = np.concatenate([*parts, resampler.finish()])
    expected = audio.resample(waveform, rate)
    assert together.dtype == np.float32
    assert together.shape == expected.shape
    np.testing.assert_allclose(together, expected, atol=1e-6)


@pytest.mark.parametrize("samples", [0, 1, 100])
def test_resampling_hardly_anything_in_blocks(samples: int) -> None:
    resampler = resampling.Resampler(48_000)
    waveform = np.full(samples, 0.5, dtype=np.float32)
    together = np.concatenate([resampler.push(waveform), resampler.finish()])
    np.testing.assert_allclose(together, audio.resample(waveform, 48_000), atol=1e-6)


def test_a_stream_is_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "BLOCK", 10_000)
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (100_003, 2))
    soundfile.write(tmp_path / "stereo.flac", samples, 44_100)
    with audio.Decoder(tmp_path / "stereo.flac") as decoder:
        blocks = list(audio.stream(decoder))
    assert max(map(len, blocks)) < 12_000
    np.testing.assert_allclose(np.concatenate(blocks), audio.load(tmp_path / "stereo.flac"), atol=1e-6)


def test_a_stream_tells_at_its_end_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "BLOCK", 10_000)
    soundfile.write(tmp_path / "cut.flac", np.random.default_rng(0).uniform(-1, 1, 50_000), RATE)
    data = (tmp_path / "cut.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(data[: len(data) // 2])
    with audio.Decoder(tmp_path / "cut.flac") as decoder:
        blocks = audio.stream(decoder)
        next(blocks)
        with pytest.raises(audio.AudioError, match=r"cut\.flac: (incomplete|cannot be decoded)"):
            list(blocks)


@pytest.mark.parametrize("hop", [audio.SEGMENT_SAMPLES, 20_000, 1_000])
@pytest.mark.parametrize("length", [1, 59_048, 59_049, 60_049, 300_000, 590_490])
def test_frames_start_at_every_hop(hop: int, length: int) -> None:
    waveform = np.arange(length, dtype=np.float32)
    blocks = np.split(waveform, [length // 3, length // 2])
    batches = list(audio.frames(blocks, hop, batch=4))
    assert all(len(batch) == 4 for batch in batches[:-1])
    assert 1 <= len(batches[-1]) <= max(4, 1 + (59_049 - 1) // hop + 4)
    cut = np.concatenate(batches)
    whole = np.pad(waveform, (0, max(0, 59_049 - length)))
    starts = range(0, len(whole) - 59_049 + 1, hop)
    np.testing.assert_array_equal(cut, np.stack([whole[start : start + 59_049] for start in starts]))
    if hop == audio.SEGMENT_SAMPLES:
        np.testing.assert_array_equal(cut, audio.segments(waveform))
