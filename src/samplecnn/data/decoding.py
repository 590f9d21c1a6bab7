"""Audio files to mono samples, whole or in blocks: by libsndfile, and by ffmpeg what that cannot read."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import numpy as np
import soundfile

from samplecnn.data import mpeg
from samplecnn.data.containers import layout
from samplecnn.data.ffmpeg import FfmpegError, FfmpegFile, kind_of
from samplecnn.data.sndfile import SndFile
from samplecnn.data.view import Part
from samplecnn.errors import UserError

MIN_DECODED = 0.9  # of what the header promises; MTAT's complete clips decode to 0.995 of it
MIN_MISSING_SECONDS = 0.25  # of an MP3: its first and last frames hold padding
BLOCK = 1 << 20  # samples per read: memory follows what is really there, not what a header claims
ENDLESS = 1 << 60  # frames: what libsndfile tells of a FLAC file that does not state its length
# First bytes of files in which no MPEG frames are searched.
NO_MPEG = (b"fLaC", b"RIFF", b"RIFX", b"RF64", b"BW64", b"riff", b"FORM", b"caff", b".snd", b"dns.", b"OggS")
# 30 dB above full scale: no recording is, but samples in the range of integers are, and damaged ones.
LOUDEST = 32.0


class AudioError(UserError):
    """An audio file or rate that cannot be used; `reason` says why without naming the file."""

    def __init__(self, reason: str, path: str | Path | None = None) -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        return self.reason if self.path is None else f"{self.path}: {self.reason}"


class Decoder:
    """A file that is decoded once, by iterating over it: blocks of mono float32 `(samples,)`.

    Several channels become one by their mean. Attributes: ``rate`` in Hz; ``seconds``, the length that the
    file states or its frames add up to (None: unknown); once all blocks were taken ``warning``, what is
    missing (None: nothing), and ``cut``, whether the file goes on after ``max_seconds``.

    Raises `AudioError` for a file that is missing, empty, no audio or without samples, for samples that are
    NaN, infinite or 30 dB above full scale, and for one that is incomplete: it decodes to less than 90 % of
    the length that it states, or lacks its end. The last is a ``warning`` unless ``strict``. What is wrong
    may show at the last block only: whoever uses blocks as they come has to throw them away then.

    A file that does not state its length (an MP3 without Xing, Info or VBRI header, a WAV or FLAC file
    written to a pipe) looks whole wherever it was cut.
    """

    def __init__(self, path: str | Path, *, max_seconds: float | None = None, strict: bool = True) -> None:
        self.path = Path(path)
        if max_seconds is not None and max_seconds <= 0:
            raise UserError(
                f"max_seconds is {max_seconds}: it has to be positive, or None for the whole file"
            )
        if not self.path.is_file():
            reason = "no such file" if not self.path.exists() else "is a folder or no regular file"
            raise AudioError(reason, path)
        with ExitStack() as stack:
            try:
                self._file = stack.enter_context(self.path.open("rb", buffering=0))
                self._open(max_seconds)
            except OSError as error:
                raise AudioError(f"cannot be read ({error.strerror})", path) from error
            stack.pop_all()  # stays open
        self.rate = int(self._source.samplerate)
        length = self._stated
        if length is None and self._frames is not None:
            length = self._frames.count * self._frames.first.samples
        self.seconds = None if length is None else length / self.rate
        self._most = None if max_seconds is None else math.ceil(max_seconds * self.rate)
        self._strict = strict
        self.warning: str | None = None
        self.cut = False

    def _open(self, max_seconds: float | None) -> None:
        size = os.fstat(self._file.fileno()).st_size
        if size == 0:
            raise AudioError("empty file (0 bytes)", self.path)
        self._layout = layout(self._file, size)
        other = os.pread(self._file.fileno(), 4, 0) in NO_MPEG
        self._frames = None if other else mpeg.scan(self._file.fileno(), size, max_seconds)
        parts: Sequence[Part] | None = self._layout.parts
        if self._frames is not None and not self._frames.plain:
            parts = self._frames.parts(self._file)
        try:
            sound = SndFile(self._file, parts)
        except soundfile.LibsndfileError as error:
            self._open_with_ffmpeg(f"cannot be decoded as audio ({_sentence(error)})")
            return
        self._source: SndFile | FfmpegFile = sound
        self._stated = self._length(sound)

    def _open_with_ffmpeg(self, reason: str) -> None:
        self._frames = None
        kind = kind_of(self.path, os.pread(self._file.fileno(), 16, 0))
        if kind is None:
            raise AudioError(reason, self.path)
        try:
            source = FfmpegFile(self.path, kind)
        except (FfmpegError, OSError) as error:
            raise AudioError(str(error), self.path) from error
        self._source = source
        self._stated = None if source.frames is None else self._scaled(source.frames)

    def _length(self, sound: "SndFile") -> int | None:
        """Return the frames that the file states, which may be more than libsndfile tells."""
        if sound.frames > ENDLESS:
            return None
        if self._frames is not None and sound.format == "MP3":
            if self._frames.stated is None:
                return None
            lost = max(0, self._frames.stated - self._frames.count) if not self._frames.plain else 0
            return sound.frames + lost * self._frames.first.samples
        return self._scaled(sound.frames)

    def _scaled(self, frames: int) -> int:
        """Return what the header promises, of frames that were corrected to what is there."""
        stated, present = self._layout.stated, self._layout.present
        return frames if stated is None or not 0 < present < stated else round(frames * stated / present)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._source.close()
        self._file.close()

    def __iter__(self) -> Iterator[np.ndarray]:
        decoded = bad = first = 0
        failure = None
        while count := self._next(decoded):
            try:
                block = self._source.read(count)
            except (soundfile.LibsndfileError, FfmpegError) as error:
                failure = error
                break
            except OSError as error:
                raise AudioError(f"cannot be read ({error.strerror})", self.path) from error
            if len(block) == 0:
                break
            if not math.isfinite(peak(block)):
                finite = np.isfinite(block).all(axis=1)
                first = first if bad else decoded + int(np.argmin(finite))
                bad += int(np.sum(~finite))
            check_loudness(block, self.path)
            decoded += len(block)
            if not bad:
                yield _mono(block)
        if bad:
            where = first / self.rate
            raise AudioError(f"{bad} samples are NaN or infinite, the first at {where:.3f} s", self.path)
        self._finish(decoded, failure)

    def _next(self, decoded: int) -> int:
        """Return how many frames to read next."""
        count = max(1, BLOCK // self._source.channels)
        return count if self._most is None else min(count, self._most - decoded)

    def _finish(self, decoded: int, failure: Exception | None) -> None:
        """Say what is missing, after so many frames."""
        if failure is not None:
            self.warning = (
                f"cannot be decoded as audio after {decoded / self.rate:.2f} s ({_sentence(failure)})"
            )
        elif decoded == 0:
            self.warning = "holds no samples"
        elif decoded == self._most:
            self.cut = self._goes_on()
        else:
            self.warning = self._missing(decoded)
        if self.warning is not None and (self._strict or decoded == 0):
            raise AudioError(self.warning, self.path)

    def _goes_on(self) -> bool:
        try:
            return len(self._source.read(1)) > 0
        except (soundfile.LibsndfileError, FfmpegError):
            return True

    def _missing(self, decoded: int) -> str | None:
        heard = f"{decoded / self.rate:.2f} s decoded"
        if self._layout.unended:
            return f"incomplete: {heard}, its last page is missing (cut off)"
        if self._frames is not None and self._frames.other:
            return (
                f"incomplete: {heard}, it goes on at another sample rate or in another form (files joined?)"
            )
        if self._stated is None:
            return None
        wanted = self._stated if self._most is None else min(self._stated, self._most)
        padding = MIN_MISSING_SECONDS * self.rate if self._frames is not None else 0
        if wanted - decoded <= max((1 - MIN_DECODED) * wanted, padding):
            return None
        return f"incomplete: {heard}, its header promises {self._stated / self.rate:.2f} s (cut off)"


def peak(samples: np.ndarray) -> float:
    """Return the largest absolute value; NaN if there is one."""
    return max(float(samples.max()), -float(samples.min())) if samples.size else 0.0


def check_loudness(samples: np.ndarray, path: Path | None = None) -> None:
    """Raise AudioError for finite samples more than 30 dB above full scale, which no recording has."""
    highest = peak(samples)
    if LOUDEST < highest < math.inf:
        hint = " (16-bit values? divide them by 32768)" if highest <= 40_000 else ""
        raise AudioError(f"has samples up to {highest:.4g} where audio lies in [-1, 1]{hint}", path)


def _sentence(error: Exception) -> str:
    said = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
    return said.strip().rstrip(".")


def _mono(block: np.ndarray) -> np.ndarray:
    """Return the mean over the channels of float32 `(frames, channels)`."""
    if block.shape[1] == 1:
        return block[:, 0]
    mono = block[:, 0].copy()
    for channel in block.T[1:]:  # 40 times as fast as NumPy's mean over so short an axis
        mono += channel
    return mono / np.float32(block.shape[1])
