"""Many files at once: each worker listens to one, decoded in a process of its own.

On a CPU every worker computes with its share of the threads, batches of one file: a core per file keeps cores
busier than threads that share a batch. A GPU computes one batch at a time, of the segments of all workers
that wait for it. What a file is given depends on that by the rounding of sums alone: by some 1e-6 in float32.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import torch
from numpy.typing import NDArray

from samplecnn.data.audio import AudioError, DecoderProcess
from samplecnn.inference.tagger import Predict, Tagger
from samplecnn.inference.timeline import Timeline

AHEAD = 16  # files per worker whose results may wait for those of an earlier, longer one
GPU_BATCH = 160  # segments at most

FileProgress = Callable[[Path, float, float | None], object]  # file, seconds done, seconds there are if known


@dataclass(frozen=True)
class Stamp:
    """What tells whether a file has changed; both None for one that is not there."""

    size: int | None  # bytes
    mtime: float | None  # seconds since 1970

    @classmethod
    def of(cls, path: Path) -> "Stamp":
        """Look at a file."""
        try:
            found = path.stat()
        except OSError:
            return cls(None, None)
        return cls(found.st_size, found.st_mtime)


@dataclass(frozen=True)
class Heard:
    """What came of a file: its timeline, with a warning where its end is missing, or an error."""

    path: Path
    stamp: Stamp  # of before it was read
    timeline: Timeline | None = None
    warning: str | None = None
    error: AudioError | OSError | None = None


def listen_to(
    tagger: Tagger,
    paths: Sequence[Path],
    decoders: Sequence[DecoderProcess],
    *,
    overlap: float = 0.0,
    strict: bool = True,
    progress: FileProgress | None = None,
    predict: Predict | None = None,
) -> Generator[Heard, None, None]:
    """Yield what is heard in files, in their order, with a worker for each of the decoders.

    Memory depends on the number of workers, not on that of the files or on their length. ``overlap`` and
    ``strict`` are as for `Tagger.timeline`, ``predict`` is as for `Tagger.listen`; ``progress`` is called in
    the workers' threads. Whoever leaves before the end waits for a batch of each worker.
    """
    decoders = decoders[: len(paths)]
    if not decoders:
        return
    free: SimpleQueue[DecoderProcess] = SimpleQueue()
    for decoder in decoders:
        free.put(decoder)
    predict = predict or tagger.predict_segments
    together = SharedBatches(predict, GPU_BATCH) if tagger.device.type == "cuda" else predict
    left = threading.Event()

    def listen(path: Path) -> Heard:
        def advance(done: float, whole: float | None) -> None:
            if left.is_set():
                raise _LeftError
            if progress is not None:
                progress(path, done, whole)

        stamp = Stamp.of(path)
        process = free.get()
        try:
            with process.open(path, strict=strict) as decoder:
                timeline = tagger.listen(decoder, overlap=overlap, progress=advance, predict=together)
            return Heard(path, stamp, timeline, decoder.warning)
        except (AudioError, OSError) as error:
            return Heard(path, stamp, error=error)
        finally:
            free.put(process)

    threads = max(1, torch.get_num_threads() // len(decoders))  # OpenMP has a number for each thread
    pool = ThreadPoolExecutor(len(decoders), "listen", torch.set_num_threads, (threads,))
    try:
        waiting = iter(paths)
        pending = deque(pool.submit(listen, path) for path in islice(waiting, AHEAD * len(decoders)))
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(listen, path) for path in islice(waiting, 1))
    finally:
        left.set()
        pool.shutdown(cancel_futures=True)


class _LeftError(Exception):
    """Nobody waits for this file any more."""


class SharedBatches:
    """One network for several threads: what they bring while it computes becomes its next batch.

    Called with segments ``(n, samples)`` it returns their probabilities ``(n, tags)``; a batch has ``most``
    segments, unless one thread brings more. What the network raises is raised in all threads of the batch.
    """

    def __init__(self, predict: Predict, most: int) -> None:
        self._predict, self._most = predict, most
        self._waiting: deque[tuple[NDArray[np.float32], Future[NDArray[np.float32]]]] = deque()
        self._computing = threading.Lock()

    def __call__(self, segments: NDArray[np.float32]) -> NDArray[np.float32]:
        """Wait for the network, and return the probabilities of these segments."""
        result: Future[NDArray[np.float32]] = Future()
        self._waiting.append((segments, result))
        with self._computing:
            while not result.done():  # the thread before may have taken these along
                self._compute()
        return result.result()

    def _compute(self) -> None:
        batch = [self._waiting.popleft()]
        count = len(batch[0][0])
        while self._waiting and count + len(self._waiting[0][0]) <= self._most:
            batch.append(self._waiting.popleft())
            count += len(batch[-1][0])
        try:
            rows = self._predict(np.concatenate([segments for segments, _ in batch]))
        except Exception as error:
            for _, result in batch:
                result.set_exception(error)
            return
        for segments, result in batch:
            result.set_result(rows[: len(segments)])
            rows = rows[len(segments) :]
