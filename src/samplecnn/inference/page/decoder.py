"""Decoding uploads in a child process: one that crashes or hangs the decoder costs an error message.

The child writes what it decodes into files, because a long recording would neither fit a pipe nor memory.
"""

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samplecnn.data.audio import AudioError, Decoder, stream
from samplecnn.data.pool import start_worker

SECONDS = 900.0  # for decoding a file: two hours of MP3 take about one minute
POLL = 0.2  # seconds between looks at whether anyone still waits for the file
COLUMNS = 1000  # of the waveform's picture


@dataclass(frozen=True)
class Decoded:
    """What became of a file: its length, and its smallest and largest sample in each column of a picture."""

    seconds: float
    cut: bool  # it goes on, but only so much was asked for
    peaks: list[tuple[float, float]]


class DecoderProcess:
    """A child process that decodes one file at a time, and is started anew when it has died."""

    def __init__(self, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._turn = asyncio.Lock()  # so that a file which kills the process takes no other along
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=start_worker)
        self.pid: Future[int] = self._pool.submit(os.getpid)  # imports PyTorch before there is a file

    async def decode(
        self, source: Path, files: Mapping[int, Path], max_seconds: float, gone: Callable[[], Awaitable[bool]]
    ) -> Decoded:
        """Write mono float32 samples at each rate in Hz of ``files`` into its file, and return what they are.

        Up to ``max_seconds`` are decoded; ``source`` is deleted. Stops when ``gone()`` says that nobody
        waits any more. Raises AudioError for a file that cannot be decoded, OSError where there is no space.
        """
        async with self._turn:
            late = False
            try:
                future = self._submit(
                    str(source), {rate: str(path) for rate, path in files.items()}, max_seconds
                )
                end = time.monotonic() + self._seconds
                while not (await asyncio.wait({future}, timeout=POLL))[0]:
                    if await gone():
                        source.unlink(missing_ok=True)  # which the child notices
                    if not late and time.monotonic() > end:
                        late = True
                        self._kill()
                answer = future.result()
            except BrokenProcessPool as error:
                self._start()
                reason = f"takes longer than {self._seconds:g} s to decode" if late else "crashes the decoder"
                raise AudioError(reason) from error
            finally:
                source.unlink(missing_ok=True)
        if isinstance(answer, str):
            raise AudioError(answer)
        return answer

    def _submit(
        self, source: str, files: dict[int, str], max_seconds: float
    ) -> "asyncio.Future[Decoded | str]":
        try:
            future = self._pool.submit(_decode, source, files, max_seconds)
        except BrokenProcessPool:  # by an earlier file, or by somebody
            self._start()
            future = self._pool.submit(_decode, source, files, max_seconds)
        return asyncio.wrap_future(future)

    def _kill(self) -> None:
        with suppress(BrokenProcessPool, ProcessLookupError):  # it is dead already
            os.kill(self.pid.result(), signal.SIGKILL)

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._kill()
        self._pool.shutdown()


def _decode(source: str, files: dict[int, str], max_seconds: float) -> Decoded | str:
    """In the child: return what `DecoderProcess.decode` does, or the reason why the file cannot be used."""
    try:
        for rate, path in files.items():
            cut = _write(Path(source), Path(path), rate, max_seconds)
    except AudioError as error:
        return error.reason
    except (MemoryError, RuntimeError, ValueError) as error:  # of a header that promises the impossible
        return f"cannot be decoded ({type(error).__name__})"
    samples = np.memmap(path, np.float32, "r")
    return Decoded(len(samples) / rate, cut, _peaks(samples))


def _write(source: Path, target: Path, rate: int, max_seconds: float) -> bool:
    with Decoder(source, max_seconds=max_seconds) as decoder, target.open("wb") as file:
        for block in stream(decoder, rate):
            if not source.exists():
                raise AudioError("nobody waits for it")
            file.write(block.astype("<f4", copy=False).data)
        return decoder.seconds > max_seconds


def _peaks(samples: np.ndarray) -> list[tuple[float, float]]:
    starts = np.linspace(0, len(samples), min(COLUMNS, len(samples)), endpoint=False).astype(np.int64)
    low, high = (ufunc.reduceat(samples, starts) for ufunc in (np.minimum, np.maximum))
    return [(round(float(a), 3), round(float(b), 3)) for a, b in zip(low, high, strict=True)]
