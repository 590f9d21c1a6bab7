"""Audio files to mono samples, whole or block by block, through libsndfile."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import soundfile

MIN_DECODED = 0.9  # of what the header promises; MTAT's complete clips decode to 0.995 of it
MIN_MISSING_SECONDS = 0.25  # padding and tags that libsndfile mistakes for audio are shorter than that
MAX_UNREAD = 0.1  # of an MP3 file's bytes; tags at its end are far smaller
BLOCK = 1 << 20  # samples per read: memory follows what is really there, not what a header claims


class AudioError(ValueError):
    """An audio file or rate that cannot be used; `reason` says why without naming the file."""

    def __init__(self, reason: str, path: str | Path | None = None) -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        return self.reason if self.path is None else f"{self.path}: {self.reason}"


def decode(path: str | Path, *, max_seconds: float | None = None) -> tuple[np.ndarray, int]:
    """Decode a file to mono float32 `(samples,)` and its rate in Hz, reading `max_seconds` at most.

    Several channels become one by their mean. The length is that of the decoded samples: headers are only
    used to notice that something is missing.

    Raises `AudioError` for a file that is missing, empty, not audio, without samples, with NaN or infinite
    samples, or incomplete: decoding to less than 90 % of the length its header states. The decoder itself
    reports no error for an MP3 that was cut. Two things follow from MP3s without a length header (Xing or
    Info; MTAT has none), for which libsndfile estimates the length from the file's size and first frame: one
    of constant bit rate that was cut looks like a shorter file and cannot be told from it, and of one with
    variable bit rate libsndfile reads only up to its estimate: refused if that leaves audio unread.
    """
    with Decoder(path, max_seconds=max_seconds) as decoder:
        blocks = list(decoder)
    return (blocks[0] if len(blocks) == 1 else np.concatenate(blocks)), decoder.rate


class Decoder:
    """A file that is decoded once, by iterating over it: blocks of mono float32 `(samples,)`.

    Attributes: ``rate`` in Hz; ``seconds``, the length that the header states, for what it is worth.

    Raises `AudioError` as `decode` does: what the header tells when the object is made, the rest at the
    last block, so that whoever uses blocks as they come has to throw them away then.
    """

    def __init__(self, path: str | Path, *, max_seconds: float | None = None) -> None:
        self.path = Path(path)
        if max_seconds is not None and max_seconds <= 0:
            raise ValueError(
                f"max_seconds is {max_seconds}: it has to be positive, or None for the whole file"
            )
        if not self.path.is_file():
            reason = "no such file" if not self.path.exists() else "is a folder or no regular file"
            raise AudioError(reason, path)
        try:
            self._handle = self.path.open("rb", buffering=0)
        except OSError as error:
            raise AudioError(f"cannot be read ({error.strerror})", path) from error
        try:
            self._size = os.fstat(self._handle.fileno()).st_size
            if self._size == 0:
                raise AudioError("empty file (0 bytes)", path)
            # By descriptor: it tells afterwards how far libsndfile has read, and why a file does not open.
            self._sound = soundfile.SoundFile(self._handle.fileno(), closefd=False)
        except soundfile.LibsndfileError as error:
            self._handle.close()
            raise self._undecodable(error) from error
        except BaseException:
            self._handle.close()
            raise
        self.rate = int(self._sound.samplerate)
        self._promised = int(self._sound.frames)
        self._wanted = (
            self._promised if max_seconds is None else min(self._promised, math.ceil(max_seconds * self.rate))
        )
        self.seconds = self._promised / self.rate

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sound.close()
        self._handle.close()

    def __iter__(self) -> Iterator[np.ndarray]:
        decoded = infinite = first = 0
        most = max(1, BLOCK // self._sound.channels)
        while decoded < self._wanted and len(block := self._read(min(most, self._wanted - decoded))):
            finite = np.isfinite(block)
            if not finite.all():
                first = first if infinite else decoded + int(np.argmin(finite))
                infinite += int(np.sum(~finite))
            decoded += len(block)
            if not infinite:
                yield block
        self._check_length(decoded)
        if infinite:
            raise AudioError(
                f"{infinite} samples are NaN or infinite, the first at {first / self.rate:.3f} s", self.path
            )

    def _read(self, frames: int) -> np.ndarray:
        try:
            block = self._sound.read(frames, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise self._undecodable(error) from error
        except OSError as error:
            raise AudioError(f"cannot be read ({error.strerror})", self.path) from error
        return _mono(block)

    def _check_length(self, decoded: int) -> None:
        missing = self._wanted - decoded
        if missing > max((1 - MIN_DECODED) * self._wanted, MIN_MISSING_SECONDS * self.rate):
            raise AudioError(
                f"incomplete: {decoded / self.rate:.2f} s decoded, its header promises {self.seconds:.2f} s"
                " (cut off, or an MP3 of variable bit rate without a length header: encode it again)",
                self.path,
            )
        read = os.lseek(self._handle.fileno(), 0, os.SEEK_CUR) if self._sound.format == "MP3" else self._size
        if decoded == self._promised and self._size - read > MAX_UNREAD * self._size:
            raise AudioError(
                f"MP3 of variable bit rate without a length header: only the first {self.seconds:.2f} s"
                f" can be read, {self._size - read} of {self._size} bytes stay unread (encode it again)",
                self.path,
            )
        if decoded == 0:
            raise AudioError("holds no samples", self.path)

    def _undecodable(self, error: soundfile.LibsndfileError) -> AudioError:
        return AudioError(f"cannot be decoded as audio ({error.error_string.strip()})", self.path)


def _mono(block: np.ndarray) -> np.ndarray:
    """Return the mean over the channels of float32 `(frames, channels)`."""
    if block.shape[1] == 1:
        return block[:, 0]
    mono = block[:, 0].copy()
    for channel in block.T[1:]:  # 40 times as fast as NumPy's mean over so short an axis
        mono += channel
    return mono / np.float32(block.shape[1])
