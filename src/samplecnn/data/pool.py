"""Worker processes that decode clips, each into a temporary file of its own: only lengths travel back.

A clip sent back through the pool's pipe costs the receiving process several milliseconds (it is one process,
whatever the number of workers), and clips waiting there cost memory.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np
import torch

from samplecnn.data.audio import SAMPLE_RATE, AudioError, load, to_int16
from samplecnn.data.store import StoreError
from samplecnn.memory import keep_freed_memory

Excerpt = tuple[int | None, str]  # as `Catalog.excerpt`


class Pool:
    """Decodes clips in `workers` processes; started with the first clip."""

    def __init__(self, workers: int, excerpt: Excerpt) -> None:
        self.workers, self.excerpt = workers, excerpt
        self._processes = ProcessPoolExecutor(workers, mp_context=_context(), initializer=start_worker)

    def submit(self, audio: Path, out: Path) -> Future[int | str]:
        """Have an audio file decoded to `out`; to come: its samples, or the reason why there are none."""
        try:
            return self._processes.submit(_decode, str(audio), str(out), self.excerpt)
        except BrokenProcessPool as error:  # said by `results`, which names the clips it may be
            broken: Future[int | str] = Future()
            broken.set_exception(error)
            return broken

    def results(self, paths: Sequence[str], futures: Sequence[Future[int | str]]) -> Iterator[int | str]:
        """Yield what becomes of the clips with these paths, in order.

        Raises `StoreError` if a worker dies.
        """
        try:
            for future in futures:
                yield future.result()
        except BrokenProcessPool as error:
            pairs = zip(paths, futures, strict=True)
            left = [path for path, future in pairs if not future.done() or future.exception()]
            raise StoreError(
                "a worker process died: out of memory (try fewer workers), or a file that crashes the"
                f" decoder, one of {', '.join(left[: self.workers])}."
                " Run it again, it goes on where it stopped"
            ) from error

    def close(self) -> None:
        """End the workers, after the clips that they are at."""
        self._processes.shutdown(cancel_futures=True)


def reason_to_skip(audio: Path, excerpt: Excerpt) -> str | None:
    """Say why a clip cannot be used; None if it can."""
    try:
        _load(str(audio), excerpt)
    except AudioError as error:
        return error.reason
    return None


def _decode(audio: str, out: str, excerpt: Excerpt) -> int | str:
    """Write a clip as a store holds it, int16 `(samples,)`, without a header; return what `submit` says."""
    try:
        samples = to_int16(_load(audio, excerpt)).astype("<i2", copy=False)
    except AudioError as error:
        return error.reason
    with Path(out).open("wb") as file:
        file.write(samples.data)
    return len(samples)


def _load(audio: str, excerpt: Excerpt) -> np.ndarray:
    samples, start = excerpt
    return load(audio, max_seconds=None if samples is None else samples / SAMPLE_RATE, start=start)


def _context() -> BaseContext:
    """Workers fork from a server that has imported torch once: a start takes milliseconds, not seconds."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__])
    return context


def start_worker() -> None:
    """Make a process of a pool one that works in one thread, and ends with its parent however that ends."""
    keep_freed_memory()
    torch.set_num_threads(1)
    # Ctrl-C reaches every process of the terminal; it is the parent that ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Workers would otherwise wait for ever for a parent that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
