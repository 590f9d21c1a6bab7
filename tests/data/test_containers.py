"""Files that were cut, and files whose header does not know how long they are."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from samplecnn.data import audio, decoding

RATE = 22_050
SECONDS = 4
KINDS: dict[str, dict[str, Any]] = {
    "pcm.wav": {},
    "float.wav": {"subtype": "FLOAT"},
    "adpcm.wav": {"subtype": "IMA_ADPCM"},
    "extensible.wav": {"format": "WAVEX", "subtype": "PCM_24"},
    "big.wav": {"endian": "BIG"},
    "a.rf64": {},
    "a.w64": {},
    "a.aiff": {},
    "a.au": {},
    "little.au": {"endian": "LITTLE"},
    "a.caf": {},
    "a.flac": {},
    "a.ogg": {},
    "a.opus": {"format": "OGG", "subtype": "OPUS"},
    "a.mp3": {},
}


def samples(seconds: int = SECONDS) -> np.ndarray:
    time = np.arange(seconds * RATE) / RATE
    return 0.3 * np.sin(2000 * time) + np.random.default_rng(0).normal(size=len(time)) * 0.03


def write(path: Path, **options: Any) -> bytes:
    seconds = 12 if path.suffix in (".ogg", ".opus") else SECONDS  # their pages are up to a second long
    soundfile.write(path, samples(seconds), 24_000 if path.suffix == ".opus" else RATE, **options)
    return path.read_bytes()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("name", KINDS)
def test_what_was_cut_is_seen_and_can_be_read_so_far(tmp_path: Path, name: str, share: float) -> None:
    file = tmp_path / name
    content = write(file, **KINDS[name])
    whole, rate = audio.decode(file)
    file.write_bytes(content[: round(len(content) * share)])
    with pytest.raises(audio.AudioError, match=r"(incomplete|cannot be decoded as audio after)"):
        audio.decode(file)
    with audio.Decoder(file, strict=False) as decoder:
        there = np.concatenate(list(decoder))
    assert decoder.warning is not None
    assert f"{len(there) / rate:.2f} s" in decoder.warning
    assert (share - 0.15) * len(whole) < len(there) < (share + 0.1) * len(whole)
    np.testing.assert_allclose(there[:5000], whole[:5000], atol=1e-3)
    assert len(audio.decode(file, max_seconds=0.1)[0]) == round(0.1 * rate)  # what is asked for is there


def test_what_is_damaged_after_what_is_asked_for_goes_on(tmp_path: Path) -> None:
    content = write(tmp_path / "a.flac")
    (tmp_path / "a.flac").write_bytes(content[: len(content) // 2])
    with audio.Decoder(tmp_path / "a.flac", strict=False) as decoder:
        there = sum(map(len, decoder))
    with audio.Decoder(tmp_path / "a.flac", max_seconds=there / decoder.rate) as decoder:
        assert sum(map(len, decoder)) == there
    assert decoder.cut


@pytest.mark.parametrize("name", sorted(KINDS.keys() - {"a.flac", "a.ogg", "a.opus"}))
def test_what_lacks_little_is_complete_enough(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    content = write(file, **KINDS[name])
    file.write_bytes(content[: round(len(content) * 0.95)])
    assert len(audio.decode(file)[0]) > 0.9 * SECONDS * RATE


def wav_of_size(content: bytes, riff: int, data: int) -> bytes:
    at = content.index(b"data") + 4
    return content[:4] + struct.pack("<I", riff) + content[8:at] + struct.pack("<I", data) + content[at + 4 :]


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, 0x80000000])
def test_wav_written_to_a_pipe(tmp_path: Path, size: int) -> None:
    content = write(tmp_path / "a.wav")
    expected = audio.decode(tmp_path / "a.wav")[0]
    (tmp_path / "a.wav").write_bytes(wav_of_size(content, size, size))
    with audio.Decoder(tmp_path / "a.wav") as decoder:
        np.testing.assert_array_equal(np.concatenate(list(decoder)), expected)


def test_wav_with_nothing_in_it(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), RATE)
    with pytest.raises(audio.AudioError, match="holds no samples"):
        audio.decode(tmp_path / "a.wav")


def test_wav_with_nothing_in_it_but_other_chunks(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), RATE)
    content = (tmp_path / "a.wav").read_bytes() + b"LIST" + struct.pack("<I", 400) + b"INFO" + bytes(396)
    (tmp_path / "a.wav").write_bytes(wav_of_size(content, len(content) - 8, 0))
    with pytest.raises(audio.AudioError, match="holds no samples"):
        audio.decode(tmp_path / "a.wav")


@pytest.mark.parametrize("size", [2**63 - 1, 2**62, -1])
def test_chunks_of_absurd_sizes(tmp_path: Path, size: int) -> None:
    content = write(tmp_path / "a.w64")
    at = content.index(b"fmt ") + 16
    (tmp_path / "a.w64").write_bytes(content[:at] + struct.pack("<q", size) + content[at + 8 :])
    with pytest.raises(audio.AudioError):
        audio.decode(tmp_path / "a.w64")


def test_wav_with_chunks_after_its_samples(tmp_path: Path) -> None:
    content = write(tmp_path / "a.wav")
    (tmp_path / "a.wav").write_bytes(content + b"LIST" + struct.pack("<I", 4) + b"INFO")
    assert len(audio.decode(tmp_path / "a.wav")[0]) == SECONDS * RATE


def test_wav_with_an_odd_chunk_before_its_samples(tmp_path: Path) -> None:
    content = write(tmp_path / "a.wav")
    at = content.index(b"data")
    content = content[:at] + b"LIST" + struct.pack("<I", 5) + b"INFO!\0" + content[at:]
    (tmp_path / "a.wav").write_bytes(content)
    assert len(audio.decode(tmp_path / "a.wav")[0]) == SECONDS * RATE
    (tmp_path / "a.wav").write_bytes(content[: len(content) // 2])
    with pytest.raises(audio.AudioError, match="incomplete"):
        audio.decode(tmp_path / "a.wav")


def test_au_of_unknown_length(tmp_path: Path) -> None:
    content = write(tmp_path / "a.au")
    (tmp_path / "a.au").write_bytes(content[:8] + b"\xff" * 4 + content[12:])
    assert len(audio.decode(tmp_path / "a.au")[0]) == SECONDS * RATE


def test_flac_of_unknown_length(tmp_path: Path) -> None:
    """As ffmpeg and others write it to a pipe: the lowest 36 bits of the field in STREAMINFO are zero."""
    content = bytearray(write(tmp_path / "a.flac"))
    expected = audio.decode(tmp_path / "a.flac")[0]
    content[18:26] = (int.from_bytes(content[18:26], "big") >> 36 << 36).to_bytes(8, "big")
    (tmp_path / "a.flac").write_bytes(content)
    with audio.Decoder(tmp_path / "a.flac") as decoder:
        np.testing.assert_array_equal(np.concatenate(list(decoder)), expected)
    assert decoder.seconds is None
    with audio.Decoder(tmp_path / "a.flac", max_seconds=1) as decoder:
        assert sum(map(len, decoder)) == RATE
    assert decoder.cut


def test_damage_in_a_flac_of_unknown_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the decoder's error tells it."""
    content = bytearray(write(tmp_path / "a.flac"))
    content[18:26] = (int.from_bytes(content[18:26], "big") >> 36 << 36).to_bytes(8, "big")
    half = len(content) // 2
    content[half : half + 3_000] = bytes(3_000)
    (tmp_path / "a.flac").write_bytes(content)
    with audio.Decoder(tmp_path / "a.flac", strict=False) as decoder:
        there = sum(map(len, decoder))
    assert decoder.warning is not None
    assert decoder.warning.startswith(f"cannot be decoded as audio after {there / RATE:.2f} s")
    monkeypatch.setattr(decoding, "BLOCK", there)  # the next block begins with the damage
    with pytest.raises(audio.AudioError, match=r"cannot be decoded as audio after \d\.\d\d s"):
        audio.decode(tmp_path / "a.flac")


def test_ogg_without_all_of_its_last_page(tmp_path: Path) -> None:
    content = write(tmp_path / "a.ogg")
    last = content.rindex(b"OggS")
    for end in (last, last + 10, len(content) - 1):
        (tmp_path / "a.ogg").write_bytes(content[:end])
        with pytest.raises(audio.AudioError, match="its last page is missing"):
            audio.decode(tmp_path / "a.ogg")


def test_ogg_with_a_tag_after_its_last_page(tmp_path: Path) -> None:
    content = write(tmp_path / "a.ogg")
    (tmp_path / "a.ogg").write_bytes(content + b"TAG" + bytes(125))
    assert len(audio.decode(tmp_path / "a.ogg")[0]) == 12 * RATE


@pytest.mark.parametrize(
    ("factor", "words"), [(32768, "divide them by 32768"), (128, "lies in"), (1e30, "e\\+")]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_that_cannot_be_right(tmp_path: Path, factor: float, words: str, channels: int) -> None:
    sound = np.stack([samples(), -samples()], axis=1)[:, :channels]  # of which the mean would be silence
    soundfile.write(tmp_path / "a.wav", sound * factor, RATE, subtype="FLOAT")
    for read in (audio.decode, audio.load):
        with pytest.raises(audio.AudioError, match=rf"a\.wav: has samples up to .*{words}"):
            read(tmp_path / "a.wav")
    soundfile.write(tmp_path / "a.wav", sound * 10, RATE, subtype="FLOAT")  # 10 dB over: mixes are
    assert len(audio.decode(tmp_path / "a.wav")[0]) == SECONDS * RATE
