"""Worker processes, each with a shard of its own: a decoder that crashes takes no other shard along.

A worker decodes a shard's clips straight into the shard's file. Where there are fewer shards than workers,
it decodes in several threads: libsndfile and PyTorch let go of the interpreter's lock meanwhile.
"""

import multiprocessing
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from samplecnn.data.audio import AudioError, load, to_int16
from samplecnn.data.decoder_process import keep_libraries_quiet
from samplecnn.data.prefetch import prefetched
from samplecnn.data.store import StoreError
from samplecnn.data.writer import ShardJob, write_shard
from samplecnn.files import BusyError
from samplecnn.memory import keep_freed_memory
from samplecnn.processes import belong_to_parent, let_children_start

# How a decoder ends a process. Other signals come from outside: SIGKILL where memory is short, for one.
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)
MADE, BUSY = "made", "busy"  # a worker's answers: the shard is there, or another process has its lock
SECONDS_TO_END = 10.0  # that a worker gets to remove its temporary file

T = TypeVar("T")


@dataclass(frozen=True)
class _Task:
    """A shard to be made, and what is known of clips that crash the decoder, by their number."""

    job: ShardJob
    left_out: Mapping[int, str] = field(default_factory=dict)  # the reason
    suspects: Set[int] = frozenset()  # workers have crashed at these


@dataclass
class _Worker:
    """A process, and how far it is."""

    process: BaseProcess
    task: _Task | None = None  # None: it waits for one
    number: int = 0  # of the clip that comes next; after the last one, the worker waits for the disk

    @property
    def decodes(self) -> bool:
        """Whether it is at a clip."""
        return self.task is not None and self.number < len(self.task.job.clips)


class Pool:
    """Makes shards in `workers` processes at a time; `bar` counts clips."""

    def __init__(self, workers: int, bar: tqdm) -> None:
        self.workers, self.bar = workers, bar
        self._context = _context()
        self._started: dict[Connection, _Worker] = {}

    def make(self, jobs: Sequence[ShardJob]) -> list[ShardJob]:
        """Make shards and return those that were left because another process is at them.

        A clip that crashes the decoder twice, the second time with no other clip beside it, is left out of
        its shard. Raises `StoreError` if a worker is killed otherwise, and what a worker raises.
        """
        waiting, busy = deque(_Task(job) for job in jobs), []
        try:
            while waiting or any(worker.task for worker in self._started.values()):
                while waiting and (free := self._free()):
                    self._give(free, waiting.popleft(), len(waiting) + 1)
                for connection in wait(list(self._started)):
                    assert isinstance(connection, Connection)
                    worker = self._started[connection]
                    try:
                        answer = connection.recv()
                    except (EOFError, ConnectionError):
                        waiting.extendleft(self._ended(connection))
                        continue
                    if isinstance(answer, Exception):
                        raise answer
                    if answer == BUSY and worker.task:
                        busy.append(worker.task.job)
                    self._note(worker, answer)
        finally:
            self._end_all()
        return busy

    def _note(self, worker: _Worker, answer: int | str) -> None:
        """Note how far a worker is, or that it is through with its shard."""
        if worker.task and answer != BUSY:
            number = answer if isinstance(answer, int) else len(worker.task.job.clips)
            self.bar.update(number - worker.number)
            worker.number = number
        if not isinstance(answer, int):
            worker.task = None

    def _free(self) -> Connection | None:
        """Return a worker that waits for a task, started if need be; None if enough are decoding.

        While some of them wait for the disk, as many others decode.
        """
        if sum(worker.decodes for worker in self._started.values()) >= self.workers:
            return None
        for connection, worker in self._started.items():
            if worker.task is None:
                return connection
        if len(self._started) >= 2 * self.workers:
            return None
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs,), daemon=True)
        self._started[ours] = _Worker(process)
        process.start()
        theirs.close()  # so that the pipe ends when the worker does
        return ours

    def _give(self, connection: Connection, task: _Task, left: int) -> None:
        """Give a worker one of `left` tasks. After a crash it decodes one clip at a time."""
        decoding = sum(worker.decodes for worker in self._started.values())
        threads = 1 if task.suspects else max(1, self.workers // (decoding + left))
        worker = self._started[connection]
        worker.task, worker.number = task, 0
        with suppress(ConnectionError):  # it has died, which is seen when its answer is read
            connection.send((task.job, threads, task.left_out))

    def _ended(self, connection: Connection) -> list[_Task]:
        """Return what is left to do for a worker that has ended: its shard again, if the decoder crashed."""
        worker = self._started.pop(connection)
        connection.close()
        worker.process.join()
        code = worker.process.exitcode or 0
        name = signal.Signals(-code).name if code < 0 else f"status {code}"
        task = worker.task
        if task is None or not worker.decodes or -code not in CRASHES:
            at = "the end of a shard"
            if task and worker.decodes:
                at = f"{task.job.audio / task.job.clips[worker.number].path} or near it"
            raise StoreError(
                f"a worker process died ({name}) at {at}: out of memory (try fewer workers), or ended by"
                " somebody. Run it again, it goes on where it stopped"
            )
        left_out = dict(task.left_out)
        if worker.number in task.suspects:
            left_out[worker.number] = f"crashes the decoder ({name})"
        self.bar.update(-worker.number)
        return [_Task(task.job, left_out, task.suspects | {worker.number})]

    def _end_all(self) -> None:
        """End the workers, which remove their temporary files."""
        started = [worker.process for worker in self._started.values() if worker.process.pid is not None]
        for process in started:
            process.terminate()
        for process in started:
            process.join(SECONDS_TO_END)
            process.kill()
            process.join()
        for connection in self._started:
            connection.close()
        self._started.clear()


def run_apart(function: Callable[..., T], *arguments: Any) -> T | None:
    """Return what a function returns in a process of its own; None if that process dies."""
    with ProcessPoolExecutor(1, mp_context=_context(), initializer=start_worker) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            return None


def _work(parent: Connection) -> None:
    """Make one shard after the other, as a worker; say how far it is, and what has become of it."""
    start_worker()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # removes temporary files on the way
    while True:
        job, threads, left_out = parent.recv()
        try:
            with job.locked():
                if not job.is_current():
                    job.remove()
                    write_shard(job, _decoded(job, threads, left_out, parent))
            parent.send(MADE)
        except BusyError:
            parent.send(BUSY)
        except Exception as error:
            error.add_note(f"In a worker process:\n{traceback.format_exc()}")
            parent.send(error)


def _decoded(
    job: ShardJob, threads: int, left_out: Mapping[int, str], parent: Connection
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
        parent.send(number)
        yield next(clips)
    parent.send(len(numbers))


def _decode(job: ShardJob, number: int) -> np.ndarray | str:
    """Return a clip as a store holds it, int16 `(samples,)`, or the reason why it cannot be used."""
    torch.set_num_threads(1)  # for this thread: OpenMP has a number for each
    path = job.audio / job.clips[number].path
    try:
        waveform = load(path, rate=job.rate, max_seconds=job.seconds, start=job.start)
    except AudioError as error:
        return error.reason
    return to_int16(waveform).astype("<i2", copy=False)


def _context() -> ForkServerContext | SpawnContext:
    """Workers fork from a server that has imported torch once: a start takes milliseconds, not seconds."""
    let_children_start()
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__])
    return context


def start_worker() -> None:
    """Make a process of a pool one that works in one thread, and ends with its parent however that ends."""
    keep_freed_memory()
    keep_libraries_quiet()
    torch.set_num_threads(1)
    belong_to_parent()
