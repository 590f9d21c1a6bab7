"""Catalogue to store: decode every clip in parallel, resumable, the same bytes however it came about.

Worker processes decode; this one writes what they return, in the catalogue's order (`writer.py`). Between
them are a few clips per worker, never a whole shard.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from errno import EDQUOT, EFBIG, ENOSPC
from itertools import islice
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from pathlib import Path
from shutil import disk_usage

import numpy as np
import soundfile
import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from samplecnn.data.audio import CLIP_SECONDS, SAMPLE_RATE, AudioError, load, to_int16
from samplecnn.data.catalog import Catalog, Clip
from samplecnn.data.store import MANIFEST, Store, StoreError
from samplecnn.data.writer import Shard, read_shard, remove_unfinished, write_manifest, write_shard

log = logging.getLogger(__name__)

AHEAD = 4  # clips decoded ahead per worker, 1.3 MB each: enough to hide a slow one or a slow write
REASONS_SHOWN = 5  # skipped clips named in the log; the manifest lists all
DISK_FULL = (ENOSPC, EFBIG, EDQUOT)


def prepare(
    catalog: Catalog,
    root: str | Path,
    *,
    workers: int | None = None,
    progress: bool = True,
    shard_clips: int = 256,
) -> Path:
    """Make the store `root/<catalog.name>` by `workers` processes (None: one per core), return its folder.

    A store that was made from the same catalogue is left as it is; what an interrupted call has finished is
    kept. Of several calls for one store at a time, one does the work and the others wait for it. Clips that
    cannot be used are skipped, logged, and listed in the manifest with the reason. While a store is
    unfinished, a shard is made again if one of its skipped clips has changed.

    Raises `StoreError` if the store was made from another catalogue, if no clip at all can be used, if the
    disk is too small or becomes full, and if a worker dies (after the last two, the next call goes on there).
    """
    workers = workers if workers is not None else _cores()
    if workers < 1 or shard_clips < 1:
        raise StoreError(f"workers is {workers} and shard_clips {shard_clips}: both have to be at least 1")
    folder = Path(root) / catalog.name
    if _is_finished(folder, catalog):  # before the lock: a finished store may lie on a read-only disk
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder.with_name(f"{catalog.name}.lock")):
            if not _is_finished(folder, catalog):
                folder.mkdir(exist_ok=True)  # the process waited for may have failed and removed it
                _fill(folder, catalog, workers, progress, shard_clips)
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise StoreError(f"cannot write below {root} ({error}): choose another data.root") from error
    return folder


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_finished(folder: Path, catalog: Catalog) -> bool:
    if not (folder / MANIFEST).is_file():
        return False
    made_from, asked_for = Store.open(folder).fingerprints, catalog.fingerprints()
    if different := [piece for piece in asked_for if made_from.get(piece) != asked_for[piece]]:
        raise StoreError(
            f"store {folder} was made from another catalogue (different: {', '.join(different)}):"
            " choose another data.name, or delete the folder to make it again"
        )
    return True


@contextmanager
def _lock(file: Path) -> Iterator[None]:
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another process holds %s and prepares this store: waiting for it", file)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fill(folder: Path, catalog: Catalog, workers: int, progress: bool, shard_clips: int) -> None:
    """Make what is missing of an unfinished store."""
    clips, audio = catalog.clips, catalog.audio
    slices = [clips[start : start + shard_clips] for start in range(0, len(clips), shard_clips)]
    shards = [_finished_shard(folder, index, part, audio) for index, part in enumerate(slices)]
    remove_unfinished(folder, shards)
    todo = [index for index, shard in enumerate(shards) if shard is None]
    left = [clip for index in todo for clip in slices[index]]
    require_space(folder, expected_bytes(audio, left))

    pool = ProcessPoolExecutor(workers, mp_context=_context(), initializer=_start_worker)
    bar = tqdm(total=len(clips), initial=len(clips) - len(left), unit="clip", disable=not progress)
    try:
        decoded = _in_order(pool, (str(audio / clip.path) for clip in left), AHEAD * workers)
        for index in todo:
            part = slices[index]
            shards[index] = write_shard(folder, index, part, islice(decoded, len(part)), bar.update)
        _finish(folder, catalog, [shard for shard in shards if shard])
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        done = sum(len(part) for part, shard in zip(slices, shards, strict=True) if shard)
        raise StoreError(
            f"no room to write {folder} ({error.strerror}): {done} of {len(clips)} clips are prepared."
            " Make room and run it again, it goes on from there"
        ) from error
    finally:
        bar.close()
        pool.shutdown(cancel_futures=True)


def _finished_shard(folder: Path, index: int, clips: Sequence[Clip], audio: Path) -> Shard | None:
    shard = read_shard(folder, index, clips)
    # What was skipped may have been put right since (a forgotten download, say).
    for clip in shard.skipped if shard else ():
        now = _load(str(audio / clip["path"]))
        if not isinstance(now, str) or now != clip["reason"]:
            return None
    return shard


def _finish(folder: Path, catalog: Catalog, shards: Sequence[Shard]) -> None:
    skipped = [clip for shard in shards for clip in shard.skipped]
    reasons = "; ".join(f"{clip['path']}: {clip['reason']}" for clip in skipped[:REASONS_SHOWN])
    if len(skipped) == len(catalog.clips):
        remove_unfinished(folder, [])
        folder.rmdir()
        raise StoreError(
            f"none of the {len(skipped)} clips of {catalog.name} in {catalog.audio} can be used ({reasons})."
            " Is data.raw the right folder?"
        )
    write_manifest(folder, catalog, shards)
    samples = sum(sum(shard.lengths) for shard in shards)
    log.info(
        "prepared %s: %d clips, %.2f hours, %.2f GB; %d skipped",
        folder,
        len(catalog.clips) - len(skipped),
        samples / SAMPLE_RATE / 3600,
        sum(shard.bytes for shard in shards) / 1e9,
        len(skipped),
    )
    if skipped:
        more = f" and {len(skipped) - REASONS_SHOWN} more" if len(skipped) > REASONS_SHOWN else ""
        log.warning(
            "skipped %d of %d clips (%s%s; all in %s)."
            " To have them, put them right, delete the folder and run it again",
            len(skipped),
            len(catalog.clips),
            reasons,
            more,
            folder / MANIFEST,
        )


def expected_bytes(audio: Path, clips: Sequence[Clip]) -> int:
    """Estimate the room that clips take in a store from the headers of a few of them."""
    sample = clips[:: len(clips) // 16 + 1]
    seconds = 0.0
    for clip in sample:
        try:
            seconds += min(CLIP_SECONDS, soundfile.info(audio / clip.path).duration)
        except soundfile.LibsndfileError:
            continue  # takes no room: it will be skipped
    return int(seconds / max(1, len(sample)) * len(clips) * SAMPLE_RATE * np.dtype(np.int16).itemsize)


def require_space(folder: Path, needed: int) -> None:
    """Raise `StoreError` unless `needed` bytes are free on the disk of `folder`."""
    free = disk_usage(folder).free
    if free < needed:
        raise StoreError(
            f"{folder} needs about {needed / 1e9:.2f} GB more and {free / 1e9:.2f} GB are free:"
            " make room or choose another data.root"
        )


def _context() -> BaseContext:
    """Workers fork from a server that has imported torch once: a start takes milliseconds, not seconds."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__])
    return context


def _start_worker() -> None:
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


def _load(path: str) -> np.ndarray | str:
    """Return a clip as a store holds it, int16 `(samples,)`, or the reason why it cannot be used."""
    try:
        return to_int16(load(path, max_seconds=CLIP_SECONDS))
    except AudioError as error:
        return error.reason


def _in_order(pool: ProcessPoolExecutor, paths: Iterable[str], ahead: int) -> Iterator[np.ndarray | str]:
    """Decode clips in the pool and yield what `_load` returns for each, in order, `ahead` under way."""
    waiting: deque[tuple[str, Future[np.ndarray | str]]] = deque()
    try:
        for path in paths:
            waiting.append((path, pool.submit(_load, path)))
            if len(waiting) > ahead:
                yield waiting[0][1].result()
                waiting.popleft()
        while waiting:
            yield waiting[0][1].result()
            waiting.popleft()
    except BrokenProcessPool as error:
        under_way = ", ".join(path for path, _ in waiting)
        raise StoreError(
            "a worker process died: out of memory (try fewer workers), or a file that crashes the decoder,"
            f" one of {under_way}. Run it again, it goes on where it stopped"
        ) from error
