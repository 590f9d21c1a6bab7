"""The songs that the page was given: received, decoded, kept for a while, never outside of one folder."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from anyio import from_thread, to_thread
from numpy.typing import NDArray

from samplecnn.data.audio import AudioError, DecoderProcess, stream
from samplecnn.errors import UserError

SECONDS = 900.0  # for decoding a file: two hours of MP3 take about one minute
COLUMNS = 1000  # of the waveform's picture
KEPT = 4  # sounds; the oldest makes room for the next
WAV_BLOCK = 1 << 20  # samples

Gone = Callable[[], Coroutine[Any, Any, bool]]  # says whether whoever sent a file has left


class SoundError(UserError):
    """A sound that cannot be had: a sentence for people, and the HTTP status that fits."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Sound:
    """A decoded sound: its length, and its smallest and largest sample in each column of a picture."""

    id: str  # cannot be guessed
    files: Mapping[int, Path]  # mono float32 samples, by rate in Hz
    seconds: float
    cut: bool  # it goes on, but only so much was asked for
    peaks: list[tuple[float, float]]

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
        self.decoder = DecoderProcess()  # a file that kills it takes no other along
        self._turn = asyncio.Lock()  # one upload is decoded at a time
        self._sounds: dict[str, Sound] = {}  # the oldest first

    def __getitem__(self, name: str) -> Sound:
        """Return the sound with this id; SoundError if there is none (any more)."""
        if name not in self._sounds:
            raise _dropped()
        return self._sounds[name]

    async def add(self, body: AsyncIterator[bytes], gone: Gone) -> Sound:
        """Receive and decode a file; SoundError for one that is too large, or that cannot be decoded."""
        name = secrets.token_urlsafe(16)
        upload = self.folder / f"{name}.upload"
        try:
            await self._receive(body, upload)
            async with self._turn:
                sound = await to_thread.run_sync(self._decode, name, upload, gone)
            self._sounds[name] = sound
        except AudioError as error:
            reason = error.reason.replace(".)", ")")
            raise SoundError(422, f"This file cannot be used: {reason}.") from error
        except OSError as error:
            raise SoundError(507, f"This file cannot be stored: {error.strerror}.") from error
        finally:
            upload.unlink(missing_ok=True)
            if name not in self._sounds:
                self._remove(name)
        while len(self._sounds) > KEPT:
            oldest = next(iter(self._sounds))
            del self._sounds[oldest]
            self._remove(oldest)
        return sound

    def _decode(self, name: str, upload: Path, gone: Gone) -> Sound:
        """Write the samples at each rate into a file; in a thread of the server's. Stops when ``gone()``."""
        files = {rate: self.folder / f"{name}.{rate}" for rate in self.rates}
        for rate, path in files.items():
            with (
                self.decoder.open(upload, max_seconds=self.max_seconds, deadline=SECONDS) as decoder,
                path.open("wb") as file,
            ):
                for block in stream(decoder, rate):
                    if from_thread.run(gone):
                        raise AudioError("nobody waits for it")
                    file.write(block.astype("<f4", copy=False).data)
        samples = np.memmap(path, np.float32, "r")
        return Sound(name, files, len(samples) / rate, decoder.cut, _peaks(samples))

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

    def _remove(self, name: str) -> None:
        for path in self.folder.glob(f"{name}.*"):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """End the decoder, whatever it is doing; the folder is its owner's."""
        self.decoder.close()


def _peaks(samples: np.ndarray) -> list[tuple[float, float]]:
    starts = np.linspace(0, len(samples), min(COLUMNS, len(samples)), endpoint=False).astype(np.int64)
    low, high = (ufunc.reduceat(samples, starts) for ufunc in (np.minimum, np.maximum))
    return [(round(float(a), 3), round(float(b), 3)) for a, b in zip(low, high, strict=True)]


def _dropped() -> SoundError:
    return SoundError(404, f"This song is no longer kept (the last {KEPT} are): choose it again.")
