"""The songs that the page was given: received, decoded, kept for a while, never outside of one folder."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from samplecnn.data.audio import AudioError
from samplecnn.errors import UserError
from samplecnn.inference.page.decoder import Decoded, UploadDecoder

KEPT = 4  # sounds; the oldest makes room for the next
WAV_BLOCK = 1 << 20  # samples


class SoundError(UserError):
    """A sound that cannot be had: a sentence for people, and the HTTP status that fits."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Sound:
    """A decoded sound."""

    id: str  # cannot be guessed
    decoded: Decoded
    files: dict[int, Path]  # float32 samples, by rate in Hz

    def samples(self, rate: int) -> NDArray[np.float32]:
        """Return the samples at one of the rates, mapped from their file: ``(samples,)``."""
        try:
            return np.memmap(self.files[rate], np.float32, "r")
        except FileNotFoundError as error:  # dropped by an upload in between
            raise _dropped() from error


class Sounds:
    """All sounds there are, as files in ``folder``.

    ``rates`` in Hz are those in which they are needed; what exceeds ``max_bytes`` is refused, what goes on
    after ``max_seconds`` is cut.
    """

    def __init__(self, folder: Path, rates: Iterable[int], max_bytes: int, max_seconds: float) -> None:
        self.folder, self.rates = folder, sorted(set(rates))
        self.max_bytes, self.max_seconds = max_bytes, max_seconds
        self.decoder = UploadDecoder()
        self._sounds: dict[str, Sound] = {}  # the oldest first

    def __getitem__(self, name: str) -> Sound:
        """Return the sound with this id; SoundError if there is none (any more)."""
        if name not in self._sounds:
            raise _dropped()
        return self._sounds[name]

    async def add(self, body: AsyncIterator[bytes], gone: Callable[[], Awaitable[bool]]) -> Sound:
        """Receive and decode a file; SoundError for one that is too large, or that cannot be decoded.

        ``gone()`` says whether whoever sent it has left.
        """
        name = secrets.token_urlsafe(16)
        upload = self.folder / f"{name}.upload"
        files = {rate: self.folder / f"{name}.{rate}" for rate in self.rates}
        try:
            await self._receive(body, upload)
            decoded = await self.decoder.decode(upload, files, self.max_seconds, gone)
        except BaseException as error:
            for path in (upload, *files.values()):
                path.unlink(missing_ok=True)
            if isinstance(error, AudioError):
                raise SoundError(
                    422, f"This file cannot be used: {error.reason.replace('.)', ')')}."
                ) from error
            if isinstance(error, OSError):
                raise SoundError(507, f"This file cannot be stored: {error.strerror}.") from error
            raise
        sound = self._sounds[name] = Sound(name, decoded, files)
        while len(self._sounds) > KEPT:
            self._drop(next(iter(self._sounds)))
        return sound

    async def _receive(self, body: AsyncIterator[bytes], upload: Path) -> None:
        size = 0
        with upload.open("xb") as file:
            async for chunk in body:
                size += len(chunk)
                self.check_size(size)
                file.write(chunk)
        if size == 0:
            raise SoundError(400, "This file is empty.")

    def check_size(self, size: int) -> None:
        """Raise SoundError for a file of more bytes than are taken."""
        if size > self.max_bytes:
            raise SoundError(413, f"This file is too large: up to {self.max_bytes / 1e6:g} MB are taken.")

    def wav(self, sound: Sound) -> Path:
        """Return a 16-bit WAV file of a sound, for browsers that cannot play the original."""
        rate = self.rates[-1]
        path = self.folder / f"{sound.id}.wav"
        if not path.exists():
            samples = sound.samples(rate)
            partial = path.with_suffix(f".{secrets.token_hex(4)}")
            with soundfile.SoundFile(partial, "w", rate, 1, "PCM_16", format="WAV") as file:
                for start in range(0, len(samples), WAV_BLOCK):
                    file.write(np.array(samples[start : start + WAV_BLOCK]))
            partial.replace(path)
        return path

    def _drop(self, name: str) -> None:
        del self._sounds[name]
        for path in self.folder.glob(f"{name}.*"):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """End the decoder; the folder is its owner's."""
        self.decoder.close()


def _dropped() -> SoundError:
    return SoundError(404, f"This song is no longer kept (the last {KEPT} are): choose it again.")
