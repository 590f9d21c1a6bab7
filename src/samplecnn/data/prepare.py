"""Catalogue to store: decode every clip in parallel, resumable, the same bytes however it came about.

Worker processes decode (`pool.py`); this one joins what they wrote to shards (`writer.py`). Each shard has a
lock of its own, so that many machines can prepare one store on a file system that they share.
"""

import logging
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path

from tqdm import tqdm

from samplecnn.data.audio import SAMPLE_RATE
from samplecnn.data.catalog import Catalog, Clip
from samplecnn.data.locks import Locks
from samplecnn.data.pool import Pool, reason_to_skip
from samplecnn.data.store import MANIFEST, Store, StoreError
from samplecnn.data.writer import (
    Shard,
    clip_file,
    expected_bytes,
    read_shard,
    remove_others,
    remove_shard,
    require_space,
    shard_source,
    write_manifest,
    write_shard,
)

log = logging.getLogger(__name__)

SHARD_CLIPS = 256  # 327 MB of 29 s clips
REASONS_SHOWN = 5  # skipped clips named in the log; the manifest lists all
DISK_FULL = (ENOSPC, EFBIG, EDQUOT)


def shard_count(catalog: Catalog, shard_clips: int = SHARD_CLIPS) -> int:
    """Return how many shards a catalogue's store has: the numbers that `prepare` takes as its `shard`."""
    return -(-len(catalog.clips) // shard_clips)


def prepare(
    catalog: Catalog,
    root: str | Path,
    *,
    workers: int | None = None,
    progress: bool = True,
    shard_clips: int = SHARD_CLIPS,
    shard: int | None = None,
) -> Path:
    """Make the store `root/<catalog.name>` by `workers` processes (None: one per core), return its folder.

    A store that was made from the same catalogue is left as it is; what an interrupted call has finished is
    kept. Of several calls for one store at a time, one does the work and the others wait for it. Clips that
    cannot be used are skipped, logged, and listed in the manifest with the reason. While a store is
    unfinished, a shard is made again if one of its skipped clips has changed.

    With `shard` only that one is made, by any number of calls side by side, on any number of machines that
    share the disk. Whichever call finds all shards made finishes the store.

    Raises `StoreError` if the store was made from another catalogue, if there is no such shard, if no clip at
    all can be used, if the disk is too small or becomes full, and if a worker dies (after the last two, the
    next call goes on there).
    """
    workers = workers if workers is not None else _cores()
    if workers < 1 or shard_clips < 1:
        raise StoreError(f"workers is {workers} and shard_clips {shard_clips}: both have to be at least 1")
    count = shard_count(catalog, shard_clips)
    if shard is not None and not 0 <= shard < count:
        raise StoreError(
            f"shard is {shard}: {catalog.name} has {count} shards of {shard_clips} clips, allowed are 0 to"
            f" {count - 1}, or null for all"
        )
    folder = Path(root) / catalog.name
    if _is_finished(folder, catalog):  # before the lock: a finished store may lie on a read-only disk
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with Locks.open(folder.with_name(f"{catalog.name}.lock")) as locks:
            work = _Work(folder, catalog, shard_clips, locks)
            if shard is not None:
                work.make([shard], workers, progress)
                if any(work.finished(index) is None for index in range(count)):
                    return folder
            locks.acquire(0, "this store")  # until the file is closed
            if not _is_finished(folder, catalog):
                folder.mkdir(exist_ok=True)  # the process waited for may have failed and removed it
                if shard is None:
                    work.drop_changed(range(count))
                    work.make(range(count), workers, progress)
                work.finish()
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


@dataclass(frozen=True)
class _Work:
    """An unfinished store and what is to be in it."""

    folder: Path
    catalog: Catalog
    shard_clips: int
    locks: Locks

    def clips(self, index: int) -> tuple[Clip, ...]:
        return self.catalog.clips[index * self.shard_clips : (index + 1) * self.shard_clips]

    def finished(self, index: int) -> Shard | None:
        return read_shard(self.folder, index, shard_source(self.clips(index), self.catalog.excerpt))

    def drop_changed(self, indices: Sequence[int]) -> None:
        """Remove shards whose skipped clips have been put right since (a forgotten download, say)."""
        for index in indices:
            shard = self.finished(index)
            for clip in shard.skipped if shard else ():
                if reason_to_skip(self.catalog.audio / clip["path"], self.catalog.excerpt) != clip["reason"]:
                    remove_shard(self.folder, index)
                    break

    def make(self, indices: Sequence[int], workers: int, progress: bool) -> None:
        """Make those of these shards that are missing."""
        todo = [index for index in indices if self.finished(index) is None]
        for index in todo:
            if self.locks.try_acquire(1 + index):  # else another process is at it
                if self.finished(index) is None:
                    remove_shard(self.folder, index)
                self.locks.release(1 + index)
        left = [clip for index in todo for clip in self.clips(index)]
        total = sum(len(self.clips(index)) for index in indices)
        require_space(self.folder, expected_bytes(self.catalog.audio, left, self.catalog.excerpt_seconds))
        if not todo:
            return
        pool = Pool(workers, self.catalog.excerpt)
        bar = tqdm(total=total, initial=total - len(left), unit="clip", disable=not progress)
        started: deque[tuple[int, list[Future[int | str]]]] = deque()
        try:
            for index in todo:
                self.locks.acquire(1 + index, f"shard {index}")
                if self.finished(index):  # by another process meanwhile
                    self.locks.release(1 + index)
                    bar.update(len(self.clips(index)))
                    continue
                futures: list[Future[int | str]] = []
                started.append((index, futures))  # first, as Ctrl-C may come at any time
                for number, clip in enumerate(self.clips(index)):
                    out = clip_file(self.folder, index, number)
                    futures.append(pool.submit(self.catalog.audio / clip.path, out))
                if len(started) == 2:  # the workers go on with this one while the one before is joined
                    self.join(*started[0], pool, bar)
                    self.locks.release(1 + started.popleft()[0])
            for index, futures in started:
                self.join(index, futures, pool, bar)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            done = sum(len(self.clips(index)) for index in indices if self.finished(index))
            raise StoreError(
                f"no room to write {self.folder} ({error.strerror}): {done} of {total} clips are prepared."
                " Make room and run it again, it goes on from there"
            ) from error
        finally:
            bar.close()
            pool.close()
            for index, _ in started:
                self.remove_clips(index)
                self.locks.release(1 + index)

    def join(self, index: int, futures: Sequence[Future[int | str]], pool: Pool, bar: tqdm) -> None:
        """Write a shard from what the pool makes of its clips."""
        clips = self.clips(index)
        decoded = []
        for result in pool.results([str(self.catalog.audio / clip.path) for clip in clips], futures):
            decoded.append(result)
            bar.update()
        source = shard_source(clips, self.catalog.excerpt)
        write_shard(self.folder, index, source, clips, decoded)
        self.remove_clips(index)

    def remove_clips(self, index: int) -> None:
        """Remove the temporary files of a shard's clips."""
        for number in range(len(self.clips(index))):
            clip_file(self.folder, index, number).unlink(missing_ok=True)

    def finish(self) -> None:
        """Write what marks a finished store, if all shards are there."""
        folder, catalog = self.folder, self.catalog
        indices = range(shard_count(catalog, self.shard_clips))
        shards = [shard for shard in map(self.finished, indices) if shard]
        if len(shards) < len(indices):
            return
        skipped = [clip for shard in shards for clip in shard.skipped]
        reasons = "; ".join(f"{clip['path']}: {clip['reason']}" for clip in skipped[:REASONS_SHOWN])
        if len(skipped) == len(catalog.clips):
            remove_others(folder, 0)
            folder.rmdir()
            raise StoreError(
                f"none of the {len(skipped)} clips of {catalog.name} in {catalog.audio} can be used"
                f" ({reasons}). Is data.raw the right folder?"
            )
        remove_others(folder, len(shards))
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
