"""The writing side of `store.py`: shards one at a time, then labels and manifest.

The workers leave each clip in a file; these are joined in the catalogue's order. What has its final name is
whole: it is written under a temporary one, and renamed when it is complete and on the disk. Ordinary
writes all the way: on a full disk they raise an error, where a writable memory map would end the process with
SIGBUS.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from shutil import disk_usage
from typing import Any, BinaryIO

import numpy as np
import soundfile

from samplecnn.data.audio import CLIP_SECONDS, SAMPLE_RATE
from samplecnn.data.catalog import Catalog, Clip, digest
from samplecnn.data.store import FORMAT_VERSION, LABELS, MANIFEST, StoreError, shard_file

CHUNK = 1 << 20  # bytes
ROWS = 4096  # of labels: a thousand tags of a quarter of a million clips are a quarter of a GB


@dataclass(frozen=True)
class Shard:
    """What the .json beside a finished shard says about it."""

    made_from: str  # see `shard_source`
    bytes: int  # size of the .npy
    sha256: str  # of the .npy
    ids: list[str]
    lengths: list[int]  # samples
    skipped: list[dict[str, str]]  # id, path, reason


def shard_source(clips: Sequence[Clip], excerpt: tuple[int | None, str]) -> str:
    """Digest of what a shard is made from; labels are no part of it."""
    return digest([FORMAT_VERSION, SAMPLE_RATE, excerpt, [(clip.id, clip.path) for clip in clips]])


def read_shard(folder: Path, index: int, made_from: str) -> Shard | None:
    """Return the description of a shard that is finished and has this `shard_source`, else None."""
    file = folder / shard_file(index)
    try:
        shard = Shard(**json.loads(file.with_suffix(".json").read_bytes()))
        whole = file.stat().st_size == shard.bytes
    except (OSError, ValueError, TypeError):
        return None
    return shard if whole and shard.made_from == made_from else None


def clip_file(folder: Path, index: int, number: int) -> Path:
    """Return where the samples of a clip of shard `index` wait for those before them."""
    return folder / f"{shard_file(index)}.{number}.tmp"


def write_shard(
    folder: Path, index: int, made_from: str, clips: Sequence[Clip], decoded: Sequence[int | str]
) -> Shard:
    """Join the files of a shard's clips; `decoded` has their samples, or the reasons for skipping them."""
    file = folder / shard_file(index)
    rows = list(enumerate(zip(clips, decoded, strict=True)))
    kept = [(number, clip.id, samples) for number, (clip, samples) in rows if isinstance(samples, int)]
    lengths = [samples for _, _, samples in kept]
    header = _header(np.dtype("<i2"), (sum(lengths),))
    sha256 = hashlib.sha256(header)
    with _replacing(file) as out:
        out.write(header)
        for number, clip_id, samples in kept:
            piece = clip_file(folder, index, number)
            if piece.stat().st_size != 2 * samples:
                raise ValueError(
                    f"{piece} with clip {clip_id!r} was changed while its shard was being written"
                )
            with piece.open("rb") as source:
                while chunk := source.read(CHUNK):
                    out.write(chunk)
                    sha256.update(chunk)
    skipped = [
        {"id": clip.id, "path": clip.path, "reason": reason}
        for _, (clip, reason) in rows
        if isinstance(reason, str)
    ]
    ids = [clip_id for _, clip_id, _ in kept]
    shard = Shard(made_from, file.stat().st_size, sha256.hexdigest(), ids, lengths, skipped)
    _write(file.with_suffix(".json"), _json(asdict(shard)))
    return shard


def write_manifest(folder: Path, catalog: Catalog, shards: Sequence[Shard]) -> None:
    """Write the labels and, last, the manifest that makes the store a finished one."""
    row_of = {clip.id: row for row, clip in enumerate(catalog.clips)}
    kept = [row_of[clip_id] for shard in shards for clip_id in shard.ids]
    labels = catalog.labels()
    counts = labels.sum(axis=0, dtype=np.int64).tolist()
    with _replacing(folder / LABELS) as out:
        out.write(_header(labels.dtype, (len(kept), len(catalog.tags))))
        for start in range(0, len(kept), ROWS):
            out.write(labels[kept[start : start + ROWS]].data)
    manifest = {
        "format": FORMAT_VERSION,
        "name": catalog.name,
        "sample_rate": SAMPLE_RATE,
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
    }
    _write(folder / MANIFEST, _json(manifest))


def remove_shard(folder: Path, index: int) -> None:
    """Remove what there is of a shard: its description first, then samples and temporary files."""
    file = folder / shard_file(index)
    file.with_suffix(".json").unlink(missing_ok=True)
    for left in folder.glob(f"{file.stem}.*"):
        left.unlink()


def remove_others(folder: Path, shards: int) -> None:
    """Remove temporary files, and shards beyond the first `shards` (they were of another size)."""
    finished = {Path(shard_file(index)).stem for index in range(shards)}
    for file in [*folder.glob("shard-*"), *folder.glob("*.tmp")]:
        if file.suffix == ".tmp" or file.stem not in finished:
            file.unlink(missing_ok=True)


def expected_bytes(audio: Path, clips: Sequence[Clip], excerpt_seconds: float | None = CLIP_SECONDS) -> int:
    """Estimate the room that clips take in a store from the headers of a few of them."""
    sample = clips[:: len(clips) // 16 + 1]
    seconds = 0.0
    for clip in sample:
        try:
            duration = soundfile.info(audio / clip.path).duration
            seconds += duration if excerpt_seconds is None else min(excerpt_seconds, duration)
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


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    out = BytesIO()
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, header)
    return out.getvalue()


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
