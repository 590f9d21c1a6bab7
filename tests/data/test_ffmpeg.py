"""Formats that soundfile does not read, with ffmpeg and without."""

import shutil
import signal
import subprocess
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import soundfile

from samplecnn.data import audio, ffmpeg

RATE = 44_100
FORMATS = ("m4a", "aac", "wma", "webm", "mka", "mp4", "ac3", "wv", "tta")
ODD_NAMES = ("-leading.m4a", "concat:a.m4a", "song.mp3", "http:__x.m4a", "100%d.m4a", "\udce9.m4a")
installed = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def encode(target: Path, *options: str, channels: int = 1) -> np.ndarray:
    """Encode a sound; return it, float64 `(samples,)`."""
    time = np.arange(6 * RATE) / RATE
    sound = 0.3 * np.sin(2 * np.pi * 440 * time) * np.linspace(0.1, 1, len(time))
    source = target.with_name("source.wav")
    soundfile.write(source, np.stack([sound] * channels, axis=1), RATE)
    command = ["ffmpeg", "-v", "error", "-y", "-i", str(source), *options, f"file:{target.absolute()}"]
    subprocess.run(command, check=True)
    source.unlink()
    return sound


@installed
@pytest.mark.parametrize("ending", FORMATS)
def test_formats(tmp_path: Path, ending: str) -> None:
    name = f"a.{ending}"
    sound = encode(tmp_path / name)
    decoded, rate = audio.decode(tmp_path / name)
    assert decoded.dtype == np.float32
    assert len(decoded) / rate == pytest.approx(6, abs=0.15)
    assert np.sqrt(np.mean(decoded**2)) == pytest.approx(np.sqrt(np.mean(sound**2)), rel=0.05)
    assert len(audio.load(tmp_path / name, max_seconds=2)) == 2 * audio.SAMPLE_RATE


@installed
def test_lossless_stereo_is_the_mean_of_its_channels(tmp_path: Path) -> None:
    sound = encode(tmp_path / "a.m4a", "-c:a", "alac", channels=2)
    decoded, rate = audio.decode(tmp_path / "a.m4a")
    assert rate == RATE
    np.testing.assert_allclose(decoded, sound, atol=2 / 32768)


@installed
@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_are_only_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encode(tmp_path / "a.m4a")
    (tmp_path / "a.m4a").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(audio.decode(name)[0]) == pytest.approx(6 * RATE, abs=4096)


@installed
def test_a_cut_file_is_incomplete(tmp_path: Path) -> None:
    for name, options in (("a.m4a", ("-movflags", "+faststart")), ("a.wma", ()), ("a.webm", ())):
        encode(tmp_path / name, *options)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(audio.AudioError, match=r"incomplete: [23].* s decoded, its header promises [56]"):
            audio.decode(tmp_path / name)
    encode(tmp_path / "b.m4a")  # its index lies at the end
    content = (tmp_path / "b.m4a").read_bytes()
    (tmp_path / "b.m4a").write_bytes(content[: len(content) // 2])
    with pytest.raises(audio.AudioError, match="cannot be decoded as audio"):
        audio.decode(tmp_path / "b.m4a")


@installed
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_an_ffmpeg_that_ends_or_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    encode(tmp_path / "a.m4a")
    source = ffmpeg.FfmpegFile(tmp_path / "a.m4a", "MPEG-4")
    try:
        assert len(source.read(1000)) == 1000
        monkeypatch.setattr(ffmpeg, "SILENT_SECONDS", 0.3)
        source._process.send_signal(number)
        with pytest.raises(ffmpeg.FfmpegError, match="ffmpeg stopped"):
            deque(iter(lambda: len(source.read(100_000)), 0), maxlen=0)
    finally:
        source.close()


@installed
def test_a_length_that_is_guessed_is_no_promise(tmp_path: Path) -> None:
    """AAC alone states none: ffmpeg guesses it from the first bit rate, here one of silence."""
    noise = np.random.default_rng(0).normal(size=20 * RATE) * 0.1 * (np.arange(20 * RATE) > 10 * RATE)
    soundfile.write(tmp_path / "a.wav", noise, RATE)
    command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "a.wav"), str(tmp_path / "a.aac")]
    subprocess.run(command, check=True)
    assert len(audio.decode(tmp_path / "a.aac")[0]) == pytest.approx(20 * RATE, abs=4096)


@installed
def test_a_file_that_names_others_opens_none(tmp_path: Path) -> None:
    """Playlists would have ffmpeg read whatever they name."""
    encode(tmp_path / "secret.wv")
    for name, text in {
        "hls.m4a": "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nsecret.wv\n#EXT-X-ENDLIST\n",
        "concat.m4a": "ffconcat version 1.0\nfile secret.wv\n",
        "video.mkv": "not a video",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(audio.AudioError, match="cannot be decoded as audio"):
            audio.decode(tmp_path / name)


@installed
def test_a_video_without_sound(tmp_path: Path) -> None:
    picture = ["-f", "lavfi", "-i", "color=duration=1:size=64x64", str(tmp_path / "a.mp4")]
    subprocess.run(["ffmpeg", "-v", "error", *picture], check=True)
    with pytest.raises(audio.AudioError, match="no sound"):
        audio.decode(tmp_path / "a.mp4")


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.m4a", b"\0\0\0\x20ftypM4A " + bytes(500), "MPEG-4"),
        ("upload", b"\x1a\x45\xdf\xa3" + bytes(500), "Matroska or WebM"),
        ("a.wma", bytes(500), r"\.wma"),
    ],
)
def test_without_ffmpeg_the_file_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, kind: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(audio.AudioError, match=f"{name}: is {kind}, which needs ffmpeg: install ffmpeg"):
        audio.decode(tmp_path / name)
