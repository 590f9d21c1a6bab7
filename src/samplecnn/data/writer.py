"""The writing side of `store.py`: shards one at a time, then labels and manifest.

What has its final name is whole. Ordinary writes all the way: on a full disk they raise an error, where a
writable memory map would end the process with SIGBUS.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from shutil import disk_usage
from typing import Any, BinaryIO

import numpy as np

from samplecnn.data.catalog import Catalog, Clip, digest
from samplecnn.data.resampling import SAMPLE_RATE
from samplecnn.data.store import FORMAT_VERSION, LABELS, MANIFEST, StoreError, shard_file
from samplecnn.files import locked, write, writing

SAMPLES = np.dtype("<i2")
ROWS = 4096  # of labels: a thousand tags of a quarter of a million clips are a quarter of a GB

FileState = list[int]  # size in bytes, and time of the last change in seconds


@dataclass(frozen=True)
class Shard:
    """What the .json beside a finished shard says about it."""

    made_from: str  # see `ShardJob.made_from`
    bytes: int  # size of the .npy
    sha256: str  # of the .npy
    ids: list[str]
    lengths: list[int]  # samples
    skipped: list[dict[str, str]]  # id, path, reason
    files: list[FileState | None]  # of all its clips, the skipped ones included; None: no such file


@dataclass(frozen=True)
class ShardJob:
    """A shard that is to be there: which one of the store in `folder`, and of which clips."""

    folder: Path
    index: int
    audio: Path
    clips: tuple[Clip, ...]
    seconds: float | None  # of each clip; None: all of it
    start: str  # of the excerpt: "start" or "middle"
    rate: int  # Hz

    @property
    def file(self) -> Path:
        """Where the samples go."""
        return self.folder / shard_file(self.index)

    @property
    def made_from(self) -> str:
        """Digest of what the shard is made from; labels are no part of it."""
        clips = [(clip.id, clip.path) for clip in self.clips]
        samples = None if self.seconds is None else round(self.seconds * self.rate)
        return digest([FORMAT_VERSION, self.rate, [samples, self.start], clips])

    def finished(self) -> Shard | None:
        """Return the description of the shard if it is whole and of these clips."""
        try:
            shard = Shard(**json.loads(self.file.with_suffix(".json").read_bytes()))
            whole = self.file.stat().st_size == shard.bytes
        except (OSError, ValueError, TypeError):
            return None
        return shard if whole and shard.made_from == self.made_from else None

    def is_current(self) -> bool:
        """Say whether the shard is finished and no clip's file has changed since."""
        shard = self.finished()
        return shard is not None and not changed_files(self.audio, self.clips, shard.files)

    def locked(self, *, waiting: str | None = None) -> AbstractContextManager[None]:
        """Keep other processes away from the shard, as `files.locked` does."""
        return locked(self.file.with_suffix(".lock"), waiting=waiting, kept=False)

    def remove(self) -> None:
        """Remove what there is of the shard: its description first, then samples and temporary files."""
        self.file.with_suffix(".json").unlink(missing_ok=True)
        for left in self.folder.glob(f"{self.file.stem}.*"):
            if left.suffix != ".lock":
                left.unlink()


def shard_jobs(catalog: Catalog, folder: Path, shard_clips: int, rate: int = SAMPLE_RATE) -> list[ShardJob]:
    """Divide a catalogue into shards of so many clips, at a sample rate in Hz."""
    excerpt = catalog.excerpt_seconds, catalog.excerpt_start
    starts = range(0, len(catalog.clips), shard_clips)
    return [
        ShardJob(folder, index, catalog.audio, catalog.clips[first : first + shard_clips], *excerpt, rate)
        for index, first in enumerate(starts)
    ]


def file_state(path: Path) -> FileState | None:
    """Return size and time of change of a file; None if there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, int(stat.st_mtime)]  # whole seconds: all that some copies keep


def changed_files(audio: Path, clips: Sequence[Clip], files: Sequence[FileState | None]) -> list[str]:
    """Return the paths of clips whose files are others than those of `files`.

    A file that is gone is not among them: raw audio may be deleted once it is in a store.
    """
    return [
        clip.path
        for clip, before in zip(clips, files, strict=True)
        if (now := file_state(audio / clip.path)) is not None and now != before
    ]


def write_shard(job: ShardJob, decoded: Iterable[np.ndarray | str]) -> None:
    """Write a shard and its description; `decoded` has each clip's int16 samples, or why it is left out."""
    ids, lengths, skipped = [], [], []
    files = [file_state(job.audio / clip.path) for clip in job.clips]  # before they are read
    with writing(job.file) as out:
        _write_header(out, SAMPLES, (0,))
        for clip, samples in zip(job.clips, decoded, strict=True):
            if isinstance(samples, str):
                skipped.append({"id": clip.id, "path": clip.path, "reason": samples})
            else:
                out.write(samples.data)
                ids.append(clip.id)
                lengths.append(len(samples))
        out.seek(0)
        _write_header(out, SAMPLES, (sum(lengths),))  # as long as before: NumPy leaves room for any number
    with job.file.open("rb") as written:
        sha256 = hashlib.file_digest(written, "sha256").hexdigest()
    size = job.file.stat().st_size
    shard = Shard(job.made_from, size, sha256, ids, lengths, skipped, files)
    write(job.file.with_suffix(".json"), _json(asdict(shard)))


def write_manifest(folder: Path, catalog: Catalog, shards: Sequence[Shard], rate: int = SAMPLE_RATE) -> None:
    """Write the labels and, last, the manifest that makes the store a finished one."""
    row_of = {clip.id: row for row, clip in enumerate(catalog.clips)}
    kept = [row_of[clip_id] for shard in shards for clip_id in shard.ids]
    labels = catalog.labels()
    counts = labels.sum(axis=0, dtype=np.int64).tolist()
    with writing(folder / LABELS) as out:
        _write_header(out, labels.dtype, (len(kept), len(catalog.tags)))
        for start in range(0, len(kept), ROWS):
            out.write(labels[kept[start : start + ROWS]].data)
    manifest = {
        "format": FORMAT_VERSION,
        "name": catalog.name,
        "sample_rate": rate,
        "clip_seconds": catalog.excerpt_seconds,
        "clip_start": catalog.excerpt_start,
        "source": catalog.source,
        "catalog": catalog.fingerprints(),
        "tags": catalog.tags,
        "tag_counts": counts,
        "shards": [
            {"file": shard_file(index), "bytes": shard.bytes, "sha256": shard.sha256}
            for index, shard in enumerate(shards)
        ],
        "clips": {
            "id": [catalog.clips[row].id for row in kept],
            "path": [catalog.clips[row].path for row in kept],
            "shard": [index for index, shard in enumerate(shards) for _ in shard.ids],
            "offset": [offset for shard in shards for offset in accumulate([0, *shard.lengths][:-1])],
            "length": [length for shard in shards for length in shard.lengths],
        },
        "splits": {
            name: {"drop_untagged": split.drop_untagged, "parts": [split.parts[row] for row in kept]}
            for name, split in catalog.splits.items()
        },
        "skipped": [clip for shard in shards for clip in shard.skipped],
        "files": [state for shard in shards for state in shard.files],
    }
    write(folder / MANIFEST, _json(manifest))


def remove_others(folder: Path, shards: int) -> None:
    """Remove temporary files and locks, and shards beyond the first `shards` (they were of another size)."""
    finished = {Path(shard_file(index)).stem for index in range(shards)}
    for file in [*folder.glob("shard-*"), *folder.glob("*.tmp")]:
        if file.suffix == ".lock" or file.stem not in finished:
            file.unlink(missing_ok=True)


def require_space(folder: Path, needed: int) -> None:
    """Raise `StoreError` unless `needed` bytes are free on the disk of `folder`."""
    free = disk_usage(folder).free
    if free < needed:
        raise StoreError(
            f"{folder} needs about {needed / 1e9:.2f} GB more and {free / 1e9:.2f} GB are free:"
            " make room or choose another data.root"
        )


def _write_header(out: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, header)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
