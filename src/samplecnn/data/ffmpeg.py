"""Files that libsndfile does not read (M4A, AAC, WMA, WebM, ...), decoded by ffmpeg where it is installed.

ffmpeg gets untrusted files: nothing but the file itself is opened, whatever a file names, and only by the
readers of plain containers. It runs in a process of its own, of which bytes are taken.
"""

import json
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np

from samplecnn.data.audio_files import FFMPEG_ENDINGS

KINDS: dict[str, tuple[int, *tuple[bytes, ...]]] = {  # where a file of each kind has which bytes
    "MPEG-4": (4, b"ftyp", b"moov", b"mdat", b"wide"),
    "Matroska or WebM": (0, b"\x1a\x45\xdf\xa3"),
    "WMA": (0, b"\x30\x26\xb2\x75"),
    "Monkey's Audio": (0, b"MAC "),
    "WavPack": (0, b"wvpk"),
    "True Audio": (0, b"TTA1"),
    "Musepack": (0, b"MP+", b"MPCK"),
    "DSD": (0, b"DSD ", b"FRM8"),
    "AMR": (0, b"#!AMR"),
    "AAC": (0, b"\xff\xf1", b"\xff\xf9"),
    "AC-3": (0, b"\x0b\x77"),
    "Ogg of a rare kind": (0, b"OggS"),
    "WAV of a rare kind": (0, b"RIFF"),
    "CAF of a rare kind": (0, b"caff"),
}
READERS = "aac,ac3,amr,ape,asf,caf,dsf,eac3,iff,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mpc,mpc8,ogg,tta,wav,wv"
STATE_LENGTH = ("asf", "ape", "dsf", "iff", "matroska", "mov", "mpc", "tta", "wv")  # the others guess it
INSTALL = "install ffmpeg (apt, brew or conda install ffmpeg) and run this again"
PROBE_SECONDS = 60.0
SILENT_SECONDS = 120.0  # without a sample, after which ffmpeg is taken to hang
MAX_SECONDS = 100 * 3600  # of audio: far longer than any recording, far less than a small file can claim
SAFE = ("-protocol_whitelist", "file,pipe", "-format_whitelist", READERS, "-max_alloc", str(1 << 29))


class FfmpegError(Exception):
    """A file that ffmpeg cannot decode, or that needs ffmpeg where it is not installed."""


def kind_of(path: Path, head: bytes) -> str | None:
    """Name what a file is, by its first bytes or its ending, if ffmpeg is to read it."""
    for kind, (at, *magic) in KINDS.items():
        if head[at:].startswith(tuple(magic)):
            return kind
    return path.suffix.lower() if path.suffix.lower() in FFMPEG_ENDINGS else None


class FfmpegFile:
    """An audio file that ffmpeg decodes, read as ``soundfile.SoundFile`` is.

    Attributes: ``samplerate`` in Hz, ``channels``, ``frames`` (None where the file does not state them).
    Raises FfmpegError, also when there is nothing more to read, for what ffmpeg could not decode.
    """

    def __init__(self, path: Path, kind: str) -> None:
        if not (shutil.which("ffmpeg") and shutil.which("ffprobe")):
            raise FfmpegError(f"is {kind}, which needs ffmpeg: {INSTALL}")
        # An absolute path behind a protocol is nothing else, whatever its name begins with.
        self._source = f"file:{path.absolute()}"
        stream, container = self._probe()
        self.samplerate, self.channels = int(stream.get("sample_rate", 0)), int(stream.get("channels", 0))
        if self.samplerate < 1 or self.channels < 1:
            raise FfmpegError("cannot be decoded as audio (ffmpeg finds no sound in it)")
        seconds = float(stream.get("duration", container.get("duration", 0)) or 0)
        stated = container.get("format_name", "").split(",")[0] in STATE_LENGTH
        self.frames = round(seconds * self.samplerate) if stated and seconds > 0 else None
        # The rate and channels that were announced, whatever comes later in the file.
        form = ["-f", "f32le", "-ar", str(self.samplerate), "-ac", str(self.channels)]
        command = ["ffmpeg", "-nostdin", "-v", "error", "-threads", "1", *SAFE, "-i", self._source]
        self._process = subprocess.Popen(
            [*command, "-map", "0:a:0", "-t", str(MAX_SECONDS), *form, "-"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def _probe(self) -> tuple[dict[str, Any], dict[str, Any]]:
        asked = "stream=sample_rate,channels,duration:format=duration,format_name"
        command = ["ffprobe", "-v", "error", *SAFE, "-select_streams", "a:0", "-show_entries", asked]
        try:
            done = subprocess.run(
                [*command, "-of", "json", "-i", self._source],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PROBE_SECONDS,
            )
            answer = json.loads(done.stdout or b"{}")
        except (subprocess.TimeoutExpired, ValueError) as error:
            raise FfmpegError("cannot be decoded as audio (ffmpeg does not get to its end)") from error
        if done.returncode or not answer.get("streams"):
            said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no sound in it"]
            raise FfmpegError(f"cannot be decoded as audio (ffmpeg: {said[-1].split(': ')[-1]})")
        return answer["streams"][0], answer.get("format", {})

    def read(self, frames: int) -> np.ndarray:
        """Return float32 `(frames, channels)`, less only at the end."""
        assert self._process.stdout is not None
        timer = threading.Timer(SILENT_SECONDS, self._process.kill)
        timer.start()
        try:
            content = self._process.stdout.read(frames * self.channels * 4)
        finally:
            timer.cancel()
        size = len(content) // (4 * self.channels) * 4 * self.channels
        if size == 0 and self._process.wait() != 0:
            raise FfmpegError("cannot be decoded further (ffmpeg stopped)")
        return np.frombuffer(content[:size], dtype="<f4").reshape(-1, self.channels)

    def close(self) -> None:
        """End ffmpeg."""
        self._process.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.wait()
