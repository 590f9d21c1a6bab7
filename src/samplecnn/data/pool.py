"""Worker processes, each of which makes one shard: a decoder that crashes takes no other shard along.

A worker decodes the shard's clips straight into the shard's file. Where there are fewer shards than workers,
it decodes in several threads: libsndfile and PyTorch let go of the interpreter's lock meanwhile.
"""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from samplecnn.data.audio import SAMPLE_RATE, AudioError, load, to_int16
from samplecnn.data.prefetch import prefetched
from samplecnn.data.store import StoreError
from samplecnn.data.writer import ShardJob, write_shard
from samplecnn.files import BusyError
from samplecnn.memory import keep_freed_memory

# How a decoder ends a process. Other signals come from outside: SIGKILL where memory is short, for one.
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)
BUSY = "busy"  # a worker's answer where another process has the lock
SECONDS_TO_END = 10.0  # that a worker gets to remove its temporary file

T = TypeVar("T")


@dataclass
class _Run:
    """A worker at its shard."""

    job: ShardJob
    process: BaseProcess
    left_out: Mapping[int, str]  # reason by number of the clip: those that crashed the decoder
    suspects: Set[int]  # clips that workers before this one were at when they crashed
    number: int = 0  # of the clip that comes next; after the last one, it waits for the disk


class Pool:
    """Makes shards in `workers` processes at a time; `bar` counts clips."""

    def __init__(self, workers: int, bar: tqdm) -> None:
        self.workers, self.bar = workers, bar
        self._context = _context()
        self._running: dict[Connection, _Run] = {}

    def make(self, jobs: Sequence[ShardJob]) -> list[ShardJob]:
        """Make shards and return those that were left because another process is at them.

        A clip that crashes the decoder twice, the second time with no other clip beside it, is left out of
        its shard. Raises `StoreError` if a worker is killed otherwise, and what a worker raises.
        """
        waiting, busy = deque(jobs), []
        try:
            while waiting or self._running:
                while waiting and self._has_room():
                    threads = self.workers // (len(self._running) + len(waiting))
                    self._start(waiting.popleft(), max(1, threads), {}, set())
                for connection in wait(list(self._running)):
                    assert isinstance(connection, Connection)
                    try:
                        answer = connection.recv()
                    except EOFError:
                        self._ended(connection)
                        continue
                    run = self._running[connection]
                    if isinstance(answer, Exception):
                        raise answer
                    if answer == BUSY:
                        busy.append(run.job)
                    else:
                        self.bar.update(answer - run.number)
                        run.number = answer
        finally:
            self._end_all()
        return busy

    def _has_room(self) -> bool:
        """While some workers wait for the disk, as many others decode."""
        decoding = sum(run.number < len(run.job.clips) for run in self._running.values())
        return decoding < self.workers and len(self._running) < 2 * self.workers

    def _start(self, job: ShardJob, threads: int, left_out: Mapping[int, str], suspects: Set[int]) -> None:
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_work, args=(job, threads, left_out, theirs), daemon=True)
        self._running[ours] = _Run(job, process, left_out, suspects)
        process.start()
        theirs.close()  # so that the pipe ends when the worker does

    def _ended(self, connection: Connection) -> None:
        """See how a worker has ended; after a crash, begin its shard again, one clip at a time."""
        run = self._running.pop(connection)
        connection.close()
        run.process.join()
        code = run.process.exitcode or 0
        if code == 0:
            return
        name = signal.Signals(-code).name if code < 0 else f"status {code}"
        clips = run.job.clips
        if run.number == len(clips) or -code not in CRASHES:
            at = run.job.audio / clips[min(run.number, len(clips) - 1)].path
            raise StoreError(
                f"a worker process died ({name}) at {at} or near it: out of memory (try fewer workers), or"
                " ended by somebody. Run it again, it goes on where it stopped"
            )
        left_out = dict(run.left_out)
        if run.number in run.suspects:
            left_out[run.number] = f"crashes the decoder ({name})"
        self.bar.update(-run.number)
        self._start(run.job, 1, left_out, {*run.suspects, run.number})

    def _end_all(self) -> None:
        """End the workers that are left, which remove their temporary files."""
        started = [run.process for run in self._running.values() if run.process.pid is not None]
        for process in started:
            process.terminate()
        for process in started:
            process.join(SECONDS_TO_END)
            process.kill()
            process.join()
        for connection in self._running:
            connection.close()
        self._running.clear()


def run_apart(function: Callable[..., T], *arguments: Any) -> T | None:
    """Return what a function returns in a process of its own; None if that process dies."""
    with ProcessPoolExecutor(1, mp_context=_context(), initializer=start_worker) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            return None


def _work(job: ShardJob, threads: int, left_out: Mapping[int, str], answers: Connection) -> None:
    """Make a shard unless it is there; say how far it is, or what is wrong."""
    start_worker()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # removes temporary files on the way
    try:
        with job.locked():
            if not job.is_current():
                job.remove()
                write_shard(job, _decoded(job, threads, left_out, answers))
    except BusyError:
        answers.send(BUSY)
    except Exception as error:
        error.add_note(f"In a worker process:\n{traceback.format_exc()}")
        answers.send(error)


def _decoded(
    job: ShardJob, threads: int, left_out: Mapping[int, str], answers: Connection
) -> Iterator[np.ndarray | str]:
    """Yield the samples of a shard's clips in order, or why one cannot be used.

    The number of the next clip is sent beforehand: with one thread, that clip is to blame for a crash.
    """

    def decode(number: int) -> np.ndarray | str:
        return left_out.get(number) or _decode(job, number)

    numbers = range(len(job.clips))
    clips: Iterator[np.ndarray | str] = map(decode, numbers)
    if threads > 1:
        clips = prefetched((partial(decode, number) for number in numbers), 2 * threads, threads=threads)
    for number in numbers:
        answers.send(number)
        yield next(clips)
    answers.send(len(numbers))


def _decode(job: ShardJob, number: int) -> np.ndarray | str:
    """Return a clip as a store holds it, int16 `(samples,)`, or the reason why it cannot be used."""
    torch.set_num_threads(1)  # for this thread: OpenMP has a number for each
    samples, start = job.excerpt
    seconds = None if samples is None else samples / SAMPLE_RATE
    try:
        waveform = load(job.audio / job.clips[number].path, max_seconds=seconds, start=start)
    except AudioError as error:
        return error.reason
    return to_int16(waveform).astype("<i2", copy=False)


def _context() -> ForkServerContext | SpawnContext:
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
