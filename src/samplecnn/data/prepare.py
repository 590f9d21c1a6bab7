"""Catalogue to store: decode every clip in parallel, resumable, the same bytes however it came about.

Workers make the shards (`workers.py`, `writer.py`), each under a lock of its own: any number of calls, on any
number of machines that share the disk, each take the shards that no other is at.
"""

import logging
from collections.abc import Sequence
from contextlib import closing, suppress
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path

from tqdm import tqdm

from samplecnn.data.audio import SAMPLE_RATE
from samplecnn.data.catalog import Catalog
from samplecnn.data.store import AGAIN, MANIFEST, Store, StoreError, store_folder
from samplecnn.data.workers import Workers
from samplecnn.data.writer import (
    ShardJob,
    changed_files,
    remove_others,
    require_space,
    shard_jobs,
    write_manifest,
)
from samplecnn.files import BusyError, locked
from samplecnn.text import counted, printable
from samplecnn.threads import available

log = logging.getLogger(__name__)

SHARD_CLIPS = 256  # 327 MB of 29 s clips
SHOWN = 5  # skipped clips named in the log; the manifest lists all
DISK_FULL = (ENOSPC, EFBIG, EDQUOT)
PREPARED = "prepared %s: %d clips, %.2f hours, %.2f GB; %d skipped"


def shard_count(catalog: Catalog, shard_clips: int = SHARD_CLIPS) -> int:
    """Return how many shards a catalogue's store has: the numbers that `prepare` takes as its `shard`."""
    return -(-len(catalog.clips) // shard_clips)


def prepare(
    catalog: Catalog,
    root: str | Path,
    *,
    rate: int = SAMPLE_RATE,
    workers: int | None = None,
    progress: bool = True,
    shard_clips: int = SHARD_CLIPS,
    shard: int | None = None,
) -> Path:
    """Make the store of a catalogue by so many `workers` (None: one per core), return its `store_folder`.

    A store that was made from the same catalogue is left as it is, with a warning if audio has changed since.
    What an interrupted call has finished is kept, but for shards of which a clip's file has changed. Of
    several calls at a time, also on several machines that share the disk, each makes the shards that no other
    is at. Clips that cannot be used are skipped, logged, and listed in the manifest with the reason.

    With `shard` only that one is made. Whichever call finds all shards made finishes the store.

    Raises `StoreError` if the store was made from another catalogue, if there is no such shard, if no clip at
    all can be used, if the disk is too small or becomes full, and if a decoder is killed (after the last two,
    the next call goes on there).
    """
    workers = workers if workers is not None else available()
    if workers < 1 or shard_clips < 1:
        raise StoreError(f"workers is {workers} and shard_clips {shard_clips}: both have to be at least 1")
    count = shard_count(catalog, shard_clips)
    if shard is not None and not 0 <= shard < count:
        raise StoreError(
            f"shard is {shard}: {catalog.name} has {counted(count, 'shard')} of {shard_clips} clips,"
            f" allowed are 0 to {count - 1}, or null for all"
        )
    folder = store_folder(root, catalog.name, rate)
    jobs = shard_jobs(catalog, folder, shard_clips, rate)
    try:
        if not _is_finished(folder, catalog, rate):  # before any lock: it may lie on a read-only disk
            folder.mkdir(parents=True, exist_ok=True)
            _make_shards(jobs if shard is None else [jobs[shard]], workers, progress)
            if shard is None or all(job.finished() for job in jobs):
                waiting = f"another process finishes {folder}: waiting for it"
                with locked(folder.with_name(f"{folder.name}.lock"), waiting=waiting):
                    if not _is_finished(folder, catalog, rate):
                        _finish(folder, catalog, jobs, rate)
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise StoreError(f"cannot write below {root} ({error}): choose another data.root") from error
    return folder


def _is_finished(folder: Path, catalog: Catalog, rate: int) -> bool:
    """Say whether there is a finished store of this catalogue; warn if its audio has changed since."""
    if not (folder / MANIFEST).is_file():
        return False
    store = Store.open(folder)
    if store.sample_rate != rate:
        raise StoreError(f"store {folder} is at {store.sample_rate} Hz, not {rate}: choose another data.name")
    made_from, asked_for = store.fingerprints, catalog.fingerprints()
    if different := [piece for piece in asked_for if made_from.get(piece) != asked_for[piece]]:
        raise StoreError(
            f"store {folder} was made from another catalogue (different: {', '.join(different)}):"
            " choose another data.name, or delete the folder to make it again"
        )
    if store.files is None or len(store.files) != len(catalog.clips):
        return True  # made by a version that did not keep them
    if changed := changed_files(catalog.audio, catalog.clips, store.files):
        log.warning(
            "%d of %d audio files in %s have changed since the store %s was made, which holds them as they"
            " were (%s). To have them as they are now, %s",
            len(changed),
            len(catalog.clips),
            catalog.audio,
            folder,
            _some(changed, ", "),
            AGAIN,
        )
    return True


def _some(things: Sequence[str], separator: str) -> str:
    more = f"{separator}and {len(things) - SHOWN} more" if len(things) > SHOWN else ""
    return printable(separator.join(things[:SHOWN]) + more)


def _make_shards(jobs: Sequence[ShardJob], workers: int, progress: bool) -> None:
    """Make those of these shards that are missing, and wait for those that other processes make."""
    todo = [job for job in jobs if not job.is_current()]
    if not todo:
        return
    for job in todo:  # their room is needed
        try:
            with job.locked():
                if not job.is_current():
                    job.remove()
        except BusyError:
            continue
    total, left = (sum(len(job.clips) for job in some) for some in (jobs, todo))
    bar = tqdm(total=total, initial=total - left, unit="clip", disable=not progress)
    try:
        with bar, closing(Workers(min(workers, left), bar)) as made_by:
            require_space(todo[0].folder, made_by.expected_bytes(todo))
            while todo := made_by.make(todo):
                for job in todo:
                    with job.locked(
                        waiting=f"another process makes shard {job.index} of {job.folder}: waiting for it"
                    ):
                        if job.finished():
                            bar.update(len(job.clips))
                todo = [job for job in todo if not job.finished()]
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        done = sum(len(job.clips) for job in jobs if job.finished())
        raise StoreError(
            f"no room to write {jobs[0].folder} ({error.strerror}): {done} of {total} clips are prepared."
            " Make room and run it again, it goes on from there"
        ) from error


def _finish(folder: Path, catalog: Catalog, jobs: Sequence[ShardJob], rate: int) -> None:
    """Write what marks a finished store; all shards are there."""
    shards = [shard for job in jobs if (shard := job.finished())]
    if len(shards) < len(jobs):
        raise StoreError(
            f"of {folder}, {counted(len(jobs) - len(shards), 'shard was', 'shards were')} removed meanwhile:"
            " another process prepares another data set there. Run it again, with another data.name"
        )
    skipped = [clip for shard in shards for clip in shard.skipped]
    reasons = _some([f"{clip['path']}: {clip['reason']}" for clip in skipped], "; ")
    if len(skipped) == len(catalog.clips):
        remove_others(folder, 0)
        with suppress(OSError):  # a file of somebody else's lies there
            folder.rmdir()
        raise StoreError(
            f"none of the {len(skipped)} clips of {catalog.name} in {catalog.audio} can be used"
            f" ({reasons}). Is data.raw the right folder?"
        )
    remove_others(folder, len(shards))
    write_manifest(folder, catalog, shards, rate)
    hours = sum(sum(shard.lengths) for shard in shards) / rate / 3600
    size = sum(shard.bytes for shard in shards) / 1e9
    log.info(PREPARED, folder, len(catalog.clips) - len(skipped), hours, size, len(skipped))
    if skipped:
        log.warning(
            "skipped %d of %d clips (%s; all in %s)."
            " To have them, put them right, delete the folder and run it again",
            len(skipped),
            len(catalog.clips),
            reasons,
            folder / MANIFEST,
        )
