"""Decoding in a child process: the same samples, and files that kill it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from processes import ended
from samplecnn.data import audio
from samplecnn.data.decoder_process import DecoderProcess, KilledError

RATE = 22_050


@pytest.fixture(scope="module")
def decoders() -> Iterator[DecoderProcess]:
    with DecoderProcess() as process:
        yield process


def noise(path: Path, seconds: float = 3, channels: int = 1) -> Path:
    rng = np.random.default_rng(0)
    soundfile.write(path, rng.uniform(-0.5, 0.5, (round(seconds * RATE), channels)), RATE)
    return path


def test_the_same_samples(tmp_path: Path, decoders: DecoderProcess) -> None:
    path = noise(tmp_path / "a.flac", 60, 2).rename(tmp_path / "\udce9 a.flac")
    for max_seconds in (None, 7.5):
        with audio.Decoder(path, max_seconds=max_seconds) as here:
            expected = np.concatenate(list(here))
        with decoders.open(path, max_seconds=max_seconds) as there:
            np.testing.assert_array_equal(np.concatenate(list(there)), expected)
        assert (there.rate, there.seconds, there.cut) == (here.rate, here.seconds, here.cut)
        assert there.cut == (max_seconds is not None)


def test_what_is_wrong_is_said_as_here(tmp_path: Path, decoders: DecoderProcess) -> None:
    pid = decoders.pid
    path = noise(tmp_path / "cut.wav")
    path.write_bytes(path.read_bytes()[:60_000])
    (tmp_path / "text.mp3").write_text("no music")
    for name in ("cut.wav", "text.mp3", "missing.wav"):
        with pytest.raises(audio.AudioError) as here:
            audio.decode(tmp_path / name)
        with pytest.raises(audio.AudioError) as there, decoders.open(tmp_path / name) as decoder:
            list(decoder)
        assert str(there.value) == str(here.value)
    with decoders.open(path, strict=False) as decoder:
        list(decoder)
    assert decoder.warning is not None
    assert "incomplete" in decoder.warning
    assert decoders.pid == pid


def test_a_file_left_early_does_not_disturb_the_next(tmp_path: Path, decoders: DecoderProcess) -> None:
    path = noise(tmp_path / "long.wav", 300)
    with decoders.open(path) as decoder:
        next(iter(decoder))
    with decoders.open(noise(tmp_path / "a.wav")) as decoder:
        assert sum(map(len, decoder)) == 3 * RATE


def test_ctrl_c_is_left_to_the_parent(tmp_path: Path, decoders: DecoderProcess) -> None:
    with decoders.open(noise(tmp_path / "long.wav", 60)) as decoder:
        os.kill(decoders.pid, signal.SIGINT)
        assert sum(map(len, decoder)) == 60 * RATE


def test_a_file_that_kills_the_decoder_is_named(tmp_path: Path, decoders: DecoderProcess) -> None:
    path, other = noise(tmp_path / "culprit.wav", 300), noise(tmp_path / "a.wav")
    with decoders.open(path) as decoder:
        os.kill(decoders.pid, signal.SIGSEGV)
        with pytest.raises(audio.AudioError, match=r"culprit\.wav: crashes the decoder \(SIGSEGV\)"):
            list(decoder)
    with decoders.open(path) as decoder:
        os.kill(decoders.pid, signal.SIGKILL)
        with pytest.raises(KilledError, match=r"culprit\.wav: its decoder was ended \(SIGKILL\)"):
            list(decoder)
    with decoders.open(other) as decoder:
        assert sum(map(len, decoder)) == 3 * RATE
    os.kill(decoders.pid, signal.SIGKILL)  # while it has no file
    decoders._process.join()
    with decoders.open(other) as decoder:
        assert sum(map(len, decoder)) == 3 * RATE


def test_a_file_that_hangs_the_decoder_is_named(tmp_path: Path) -> None:
    with DecoderProcess(silent_seconds=0.2) as decoders:
        os.kill(decoders.pid, signal.SIGSTOP)
        hangs = decoders.open(noise(tmp_path / "hang.wav"))
        with pytest.raises(audio.AudioError, match=r"hang\.wav: takes too long"), hangs:
            pass


def test_a_deadline_that_has_passed(tmp_path: Path, decoders: DecoderProcess) -> None:
    path = noise(tmp_path / "long.wav", 60)
    late = decoders.open(path, deadline=0)
    with pytest.raises(audio.AudioError, match=r"long\.wav: takes too long to decode"), late as decoder:
        list(decoder)
    with decoders.open(path, deadline=60) as decoder:
        assert sum(map(len, decoder)) == 60 * RATE


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    """However that ends, and whatever it is doing."""
    code = (
        "import os, sys, time; from samplecnn.data.decoder_process import DecoderProcess\n"
        "if __name__ == '__main__':\n"
        "    decoders = DecoderProcess(); decoder = decoders.open(sys.argv[1])\n"
        "    print(decoders.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    (tmp_path / "run.py").write_text(code)
    command: list[str | Path] = [sys.executable, tmp_path / "run.py", noise(tmp_path / "long.wav", 300)]
    done = subprocess.run(command, capture_output=True, text=True)
    pid = int(done.stdout)
    try:
        while not ended(pid):
            time.sleep(0.01)  # or the test's time is up
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_libraries_do_not_talk(tmp_path: Path) -> None:
    """libmpg123 complains on the standard error, about it does not say which file."""
    path = tmp_path / "a.mp3"
    noise(path, 4)
    content = bytearray(path.read_bytes())
    for at in range(len(content) // 2, len(content) - 200, 100):
        content[at] ^= 0xFF
    path.write_bytes(content)
    code = (
        "import sys; from samplecnn.data.audio import AudioError, Decoder, DecoderProcess\n"
        "if __name__ == '__main__':\n"
        "    opened = Decoder if sys.argv[2] == 'here' else DecoderProcess().open\n"
        "    try:\n"
        "        with opened(sys.argv[1], strict=False) as decoder: list(decoder)\n"
        "    except AudioError: pass\n"
    )
    (tmp_path / "run.py").write_text(code)
    said = {}
    for where in ("here", "there"):
        command: list[str | Path] = [sys.executable, tmp_path / "run.py", path, where]
        said[where] = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert "mpg123" in said["here"]
    assert said["there"] == ""
