"""From an upload to files of samples: a long recording fits neither memory nor an answer."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from anyio import to_thread

from samplecnn.data.audio import AudioError, DecoderProcess, stream

SECONDS = 900.0  # for decoding a file: two hours of MP3 take about one minute
POLL = 0.2  # seconds between looks at whether anyone still waits for the file
COLUMNS = 1000  # of the waveform's picture


@dataclass(frozen=True)
class Decoded:
    """What became of a file: its length, and its smallest and largest sample in each column of a picture."""

    seconds: float
    cut: bool  # it goes on, but only so much was asked for
    peaks: list[tuple[float, float]]


class UploadDecoder:
    """Decodes one upload at a time, in a child process: a file that kills it takes no other along."""

    def __init__(self) -> None:
        self.process = DecoderProcess()
        self._turn = asyncio.Lock()

    async def decode(
        self, source: Path, files: Mapping[int, Path], max_seconds: float, gone: Callable[[], Awaitable[bool]]
    ) -> Decoded:
        """Write mono float32 samples at each rate in Hz of ``files`` into its file, and return what they are.

        Up to ``max_seconds`` are decoded; ``source`` is deleted. Stops when ``gone()`` says that nobody
        waits any more. Raises AudioError for a file that cannot be decoded, OSError where there is no space.
        """
        left = threading.Event()
        async with self._turn:
            work = asyncio.create_task(to_thread.run_sync(self._decode, source, files, max_seconds, left))
            try:
                while not (await asyncio.wait({work}, timeout=POLL))[0]:
                    if await gone():
                        left.set()
            finally:
                left.set()
                source.unlink(missing_ok=True)
            return await work

    def _decode(
        self, source: Path, files: Mapping[int, Path], max_seconds: float, left: threading.Event
    ) -> Decoded:
        for rate, path in files.items():
            with (
                self.process.open(source, max_seconds=max_seconds, deadline=SECONDS) as decoder,
                path.open("wb") as file,
            ):
                for block in stream(decoder, rate):
                    if left.is_set():
                        raise AudioError("nobody waits for it")
                    file.write(block.astype("<f4", copy=False).data)
        samples = np.memmap(path, np.float32, "r")
        return Decoded(len(samples) / rate, decoder.cut, _peaks(samples))

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self.process.close()


def _peaks(samples: np.ndarray) -> list[tuple[float, float]]:
    starts = np.linspace(0, len(samples), min(COLUMNS, len(samples)), endpoint=False).astype(np.int64)
    low, high = (ufunc.reduceat(samples, starts) for ufunc in (np.minimum, np.maximum))
    return [(round(float(a), 3), round(float(b), 3)) for a, b in zip(low, high, strict=True)]
