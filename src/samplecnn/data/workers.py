"""Workers that make shards: threads, each with a child process that decodes for it.

A file that crashes the decoder costs its process, and is left out. The threads resample, for which PyTorch
lets go of the interpreter's lock.
"""

import threading
from collections.abc import Generator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from samplecnn.data.audio import AudioError, DecoderProcess, decode, load, to_int16
from samplecnn.data.catalog import Clip
from samplecnn.data.decoder_process import KilledError
from samplecnn.data.prefetch import prefetched
from samplecnn.data.store import StoreError
from samplecnn.data.writer import SAMPLES, ShardJob, write_shard
from samplecnn.files import BusyError
from samplecnn.memory import keep_freed_memory

AT_ONCE = 4  # shards: one is decoded, those before it go to the disk
SILENT_SECONDS = 24 * 3600.0  # a disk that is slow for some minutes must not have clips left out


class Workers:
    """Makes shards with so many workers, all of them at one shard; `bar` counts clips."""

    def __init__(self, count: int, bar: tqdm) -> None:
        keep_freed_memory()
        self.count, self.bar = count, bar
        self._decoders = [DecoderProcess(SILENT_SECONDS) for _ in range(count)]
        self._free: SimpleQueue[DecoderProcess] = SimpleQueue()
        for decoder in self._decoders:
            self._free.put(decoder)
        self._decoding = threading.Lock()  # held for the shard that is decoded
        self._stopped = threading.Event()

    def close(self) -> None:
        """End the processes."""
        for decoder in self._decoders:
            decoder.close()

    def expected_bytes(self, jobs: Sequence[ShardJob]) -> int:
        """Estimate the room that shards take from a few of their clips."""
        clips = [(job, clip) for job in jobs for clip in job.clips]
        some = clips[:: len(clips) // 16 + 1]
        samples = 0.0
        for job, clip in some:
            try:
                with self._decoders[0].open(job.audio / clip.path, max_seconds=job.seconds) as decoder:
                    samples += sum(map(len, decoder)) * job.rate / decoder.rate
            except AudioError:
                continue  # takes no room: it will be skipped
        return int(samples / len(some) * len(clips) * SAMPLES.itemsize)

    def make(self, jobs: Sequence[ShardJob]) -> list[ShardJob]:
        """Make shards, and return those that were left because another process is at them.

        A clip that crashes the decoder is left out of its shard. Raises `StoreError` if a decoder is ended
        from outside, and OSError as writing does.
        """
        threads = torch.get_num_threads()
        with ThreadPoolExecutor(AT_ONCE, "shard") as pool:
            try:
                made = list(pool.map(self._make, jobs))
            except BaseException:
                self._stopped.set()
                raise
            finally:
                torch.set_num_threads(threads)  # for threads to come, which have what was set last
        return [job for job, there in zip(jobs, made, strict=True) if not there]

    def _make(self, job: ShardJob) -> bool:
        """Make a shard unless another process is at it; say whether it is there."""
        with ExitStack() as turn:
            turn.enter_context(self._decoding)
            try:
                with job.locked():
                    if not job.is_current():
                        job.remove()
                        # Closed where writing fails, or its threads would go on.
                        with closing(self._decoded(job, turn)) as decoded:
                            write_shard(job, decoded)
            except BusyError:
                return False
        return True

    def _decoded(self, job: ShardJob, turn: ExitStack) -> Generator[np.ndarray | str, None, None]:
        """Yield the samples of a shard's clips in order, or why one cannot be used; then end the turn."""
        clips = (partial(self._decode, job, clip) for clip in job.clips)
        # One thread more than processes: these decode while it resamples.
        for samples in prefetched(clips, 2 * self.count, threads=self.count + 1):
            yield samples
            self.bar.update()
        turn.close()

    def _decode(self, job: ShardJob, clip: Clip) -> np.ndarray | str:
        """Return a clip as a store holds it, int16 `(samples,)`, or the reason why it cannot be used."""
        if self._stopped.is_set():
            raise CancelledError
        torch.set_num_threads(1)  # for this thread: OpenMP has a number for each
        path = job.audio / clip.path
        try:
            waveform = load(
                path, rate=job.rate, max_seconds=job.seconds, start=job.start, decode=self._decode_apart
            )
        except (KilledError, ConnectionError) as error:
            raise StoreError(
                f"{error}. Run it again, perhaps with fewer workers: it goes on where it stopped"
            ) from error
        except AudioError as error:
            return error.reason
        return to_int16(waveform).astype(SAMPLES, copy=False)

    def _decode_apart(self, path: Path, **excerpt: Any) -> tuple[np.ndarray, int]:
        """Decode a file in the next process that is free; resampling does not hold it."""
        process = self._free.get()
        try:
            return decode(path, process=process, **excerpt)
        finally:
            self._free.put(process)
