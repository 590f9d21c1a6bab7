"""MP3 files with other things than frames in them."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from samplecnn.data import audio, mpeg
from samplecnn.data.mpeg import parse

RATE = 22_050


def mp3(path: Path, seconds: float = 4, rate: int = RATE, channels: int = 1, **options: float | str) -> bytes:
    noise = np.random.default_rng(0).normal(size=(round(seconds * rate), channels)) * 0.1
    soundfile.write(path, noise, rate, **options)
    return path.read_bytes()


def ape(size: int) -> bytes:
    """A tag with a cover, as taggers put it at the end."""
    cover = np.random.default_rng(1).bytes(size)
    item = size.to_bytes(4, "little") + bytes([2, 0, 0, 0]) + b"Cover Art (Front)\0" + cover
    foot = (2000).to_bytes(4, "little") + (len(item) + 32).to_bytes(4, "little") + (1).to_bytes(4, "little")
    head, tail = (b"APETAGEX" + foot + bytes([0, 0, 0, flags]) + bytes(8) for flags in (0xA0, 0x80))
    return head + item + tail


def id3v2(size: int) -> bytes:
    length = bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + length + np.random.default_rng(2).bytes(size)


def with_vbri(content: bytes) -> bytes:
    """Have a length header as Fraunhofer's encoders write it in place of LAME's."""
    at = max(content.find(b"Xing"), content.find(b"Info"))
    header = parse(content[:4])
    assert header is not None
    frame = content[:4] + bytes(32) + b"VBRI" + bytes(10) + content[at + 8 : at + 12]
    return frame.ljust(header.size, b"\0") + content[header.size :]


RUBBISH = {
    "cover behind": lambda whole: whole + ape(40_000),
    "small tag behind": lambda whole: whole + ape(500),
    "ID3v1 behind": lambda whole: whole + b"TAG" + bytes(125),
    "zeros behind": lambda whole: whole + bytes(200_000),
    "zeros in front": lambda whole: bytes(5_000) + whole,
    "cover in front": lambda whole: id3v2(300_000) + whole,
    "a tag that has no length in front": lambda whole: b"ID3\4\0\0\xff\xff\xff\xff" + whole,
    "two covers in front": lambda whole: id3v2(300_000) + id3v2(3_000) + whole,
    "all at once": lambda whole: id3v2(9_000) + bytes(700) + whole + ape(90_000) + b"TAG" + bytes(125),
}


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("rubbish", RUBBISH)
def test_what_is_no_audio_is_passed_over(
    tmp_path: Path, rubbish: str, mode: str, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.mp3"
    content = mp3(file, bitrate_mode=mode, compression_level=0.5)
    expected = audio.decode(file)[0]
    file.write_bytes(RUBBISH[rubbish](content))
    np.testing.assert_array_equal(audio.decode(file)[0], expected)
    assert capfd.readouterr().err == ""  # libmpg123 would complain, without saying about which file


def test_rubbish_between_frames(tmp_path: Path) -> None:
    file = tmp_path / "a.mp3"
    content = mp3(file)
    expected = audio.decode(file)[0]
    half = len(content) // 2
    file.write_bytes(content[:half] + np.random.default_rng(3).bytes(3_000) + content[half:])
    decoded = audio.decode(file)[0]
    assert len(decoded) == pytest.approx(len(expected), abs=1_200)  # the frame that was torn apart
    np.testing.assert_array_equal(decoded[:RATE], expected[:RATE])


def test_rubbish_in_front_of_the_last_two_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.mp3"
    content = mp3(file)
    expected = audio.decode(file)[0]
    places = [0]
    while (header := parse(content[places[-1] : places[-1] + 4])) is not None:
        places.append(places[-1] + header.size)
    assert places[-1] == len(content)
    file.write_bytes(content[: places[-3]] + bytes(3_000) + content[places[-3] :])
    np.testing.assert_array_equal(audio.decode(file)[0], expected)

    half = places[len(places) // 2]
    file.write_bytes(content[:half] + bytes(3_000) + content[half:])
    np.testing.assert_array_equal(audio.decode(file)[0], expected)
    monkeypatch.setattr(mpeg, "MAX_RANGES", 1)
    with pytest.raises(audio.AudioError, match=r"incomplete: 1\.96 s decoded, its header promises 4"):
        audio.decode(file)


def test_frames_of_padding_may_be_missing(tmp_path: Path) -> None:
    """Encoders count some that hold none of the sound: much of a short file, and less than 0.25 s."""
    file = tmp_path / "short.mp3"
    content = mp3(file, 1)
    at = max(content.find(b"Xing"), content.find(b"Info")) + 8
    count = int.from_bytes(content[at : at + 4], "big")
    for more, enough in ((5, True), (12, False)):  # frames of 26 ms
        file.write_bytes(content[:at] + (count + more).to_bytes(4, "big") + content[at + 4 :])
        if enough:
            assert len(audio.decode(file)[0]) == RATE
        else:
            with pytest.raises(audio.AudioError, match=r"1\.00 s decoded, its header promises 1\.3"):
                audio.decode(file)


def test_a_length_header_of_fraunhofer_s(tmp_path: Path) -> None:
    file = tmp_path / "a.mp3"
    content = with_vbri(mp3(file, bitrate_mode="VARIABLE"))
    file.write_bytes(content)
    assert len(audio.decode(file)[0]) == pytest.approx(4 * RATE, abs=2_000)
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(audio.AudioError, match=r"incomplete: [12]\.\d\d s decoded, its header promises 4"):
        audio.decode(file)


def test_joined_files_are_read_whole(tmp_path: Path) -> None:
    first, second = mp3(tmp_path / "a.mp3", 3), mp3(tmp_path / "b.mp3", 5)
    (tmp_path / "ab.mp3").write_bytes(first + second)
    assert len(audio.decode(tmp_path / "ab.mp3")[0]) == pytest.approx(8 * RATE, abs=4_000)
    (tmp_path / "ab.mp3").write_bytes(first + mp3(tmp_path / "c.mp3", 5, 44_100, 2))
    with pytest.raises(audio.AudioError, match="goes on at another sample rate"):
        audio.decode(tmp_path / "ab.mp3")
    with audio.Decoder(tmp_path / "ab.mp3", strict=False) as decoder:
        assert sum(map(len, decoder)) == pytest.approx(3 * RATE, abs=2_000)
    assert len(audio.decode(tmp_path / "ab.mp3", max_seconds=2)[0]) == 2 * RATE


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_all_rates(tmp_path: Path, rate: int, channels: int) -> None:
    """The true length is also found without the header, whatever the layout of frames."""
    content = mp3(tmp_path / "a.mp3", 3, rate, channels, bitrate_mode="VARIABLE", compression_level=0.3)
    (tmp_path / "a.mp3").write_bytes(content + bytes(50_000))
    assert len(audio.decode(tmp_path / "a.mp3")[0]) == 3 * rate
    for name in (b"Xing", b"Info"):
        content = content.replace(name, b"XXXX", 1)
    (tmp_path / "a.mp3").write_bytes(content)
    assert len(audio.decode(tmp_path / "a.mp3")[0]) == pytest.approx(3 * rate, abs=4 * 1152)


def test_rubbish_alone_is_refused_soon(tmp_path: Path) -> None:
    for content in (b"\xff" * 3_000_000, b"\xff\xfb\x90\x00" * 100_000, id3v2(3_000_000)[:-5]):
        (tmp_path / "a.mp3").write_bytes(content)
        with pytest.raises(audio.AudioError):
            audio.decode(tmp_path / "a.mp3")
