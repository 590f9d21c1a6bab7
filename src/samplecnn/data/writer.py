"""The writing side of `store.py`: shards one at a time, then labels and manifest.

Every file is written under a temporary name and takes its own when it is complete and on the disk, so that
whatever has its name is whole. Ordinary writes all the way: on a full disk they raise an error, where a
writable memory map would end the process with SIGBUS.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import numpy as np

from samplecnn.data.audio import CLIP_SAMPLES, CLIP_SECONDS, SAMPLE_RATE
from samplecnn.data.catalog import Catalog, Clip, digest
from samplecnn.data.store import FORMAT_VERSION, LABELS, MANIFEST, shard_file


@dataclass(frozen=True)
class Shard:
    """What the .json beside a finished shard says about it."""

    made_from: str  # see `shard_source`
    bytes: int  # size of the .npy
    sha256: str  # of the .npy
    ids: list[str]
    lengths: list[int]  # samples
    skipped: list[dict[str, str]]  # id, path, reason


def shard_source(clips: Sequence[Clip]) -> str:
    """Digest of what a shard is made from; labels are no part of it."""
    return digest([FORMAT_VERSION, SAMPLE_RATE, CLIP_SAMPLES, [(clip.id, clip.path) for clip in clips]])


def read_shard(folder: Path, index: int, clips: Sequence[Clip]) -> Shard | None:
    """Return the description of a shard that is finished and made from these clips, else None."""
    file = folder / shard_file(index)
    try:
        shard = Shard(**json.loads(file.with_suffix(".json").read_bytes()))
        whole = file.stat().st_size == shard.bytes
    except (OSError, ValueError, TypeError):
        return None
    return shard if whole and shard.made_from == shard_source(clips) else None


def write_shard(
    folder: Path,
    index: int,
    clips: Sequence[Clip],
    decoded: Iterable[np.ndarray | str],
    on_clip: Callable[[], object],
) -> Shard:
    """Write one shard as its clips come in: int16 `(samples,)` each, or the reason why a clip is skipped."""
    file = folder / shard_file(index)
    ids: list[str] = []
    lengths: list[int] = []
    skipped: list[dict[str, str]] = []
    with _replacing(file) as out:
        _write_header(out, 0)  # again below, when the length is known: it always takes the same room
        for clip, samples in zip(clips, decoded, strict=True):
            if isinstance(samples, str):
                skipped.append({"id": clip.id, "path": clip.path, "reason": samples})
            else:
                out.write(samples.astype("<i2", copy=False).data)
                ids.append(clip.id)
                lengths.append(len(samples))
            on_clip()
        out.seek(0)
        _write_header(out, sum(lengths))
    with file.open("rb") as written:
        sha256 = hashlib.file_digest(written, "sha256").hexdigest()
    shard = Shard(shard_source(clips), file.stat().st_size, sha256, ids, lengths, skipped)
    _write(file.with_suffix(".json"), _json(asdict(shard)))
    return shard


def write_manifest(folder: Path, catalog: Catalog, shards: Sequence[Shard]) -> None:
    """Write the labels and, last, the manifest that makes the store a finished one."""
    row_of = {clip.id: row for row, clip in enumerate(catalog.clips)}
    kept = [row_of[clip_id] for shard in shards for clip_id in shard.ids]
    labels = catalog.labels()
    array = BytesIO()
    np.save(array, labels[kept], allow_pickle=False)
    _write(folder / LABELS, array.getvalue())
    manifest = {
        "format": FORMAT_VERSION,
        "name": catalog.name,
        "sample_rate": SAMPLE_RATE,
        "clip_seconds": CLIP_SECONDS,
        "source": catalog.source,
        "catalog": catalog.fingerprints(),
        "tags": catalog.tags,
        "tag_counts": labels.sum(axis=0, dtype=np.int64).tolist(),
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
    }
    _write(folder / MANIFEST, _json(manifest))


def remove_unfinished(folder: Path, shards: Sequence[Shard | None]) -> None:
    """Remove temporary files and all shards but the finished ones given (others may be of another size)."""
    finished = {Path(shard_file(index)).stem for index, shard in enumerate(shards) if shard}
    for file in [*folder.glob("shard-*.json"), *folder.glob("shard-*.npy"), *folder.glob("*.tmp")]:
        if file.suffix == ".tmp" or file.stem not in finished:
            file.unlink()


@contextmanager
def _replacing(file: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that becomes `file` if all goes well, and is removed otherwise."""
    temporary = file.with_name(f"{file.name}.tmp")
    try:
        with temporary.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write(file: Path, content: bytes) -> None:
    with _replacing(file) as out:
        out.write(content)


def _write_header(out: BinaryIO, samples: int) -> None:
    header = {"descr": "<i2", "fortran_order": False, "shape": (samples,)}
    np.lib.format.write_array_header_1_0(out, header)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
