"""A prepared data set on disk: the audio once, with all its annotations.

    root/<name>/shard-00000.npy    int16 (samples,): the shard's clips one after the other, at true length
    root/<name>/shard-00000.json   written after it: the shard is finished
    root/<name>/labels.npy         uint8 (clips, tags): 0 and 1
    root/<name>/manifest.json      written last: the store is finished

Which tags and which split are used is decided on reading (`Store.select`). Made from the same files, a store
has the same bytes whenever, wherever and by however many processes it was made. `writer.py` writes it.
"""

import hashlib
import json
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from samplecnn.data.audio import SEGMENT_SAMPLES
from samplecnn.data.catalog import PARTS, Split
from samplecnn.data.resampling import RATES, SAMPLE_RATE
from samplecnn.data.shards import Shards
from samplecnn.errors import UserError
from samplecnn.overrides import command

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
LABELS = "labels.npy"
PREPARE = command("prepare")
AGAIN = f"delete the folder and prepare it again, by the same `{PREPARE}`"
# What reading files of any content may raise, and files that are not there.
DAMAGE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    FileNotFoundError,
    OverflowError,
    RecursionError,
)


class StoreError(UserError):
    """A store that cannot be made or used: what is wrong with it and what to do next."""


def store_folder(root: str | Path, name: str, rate: int = SAMPLE_RATE) -> Path:
    """Return where a data set's store is: `root/name`, or `root/name-rate` at another rate than 22,050 Hz."""
    return Path(root) / (name if rate == SAMPLE_RATE else f"{name}-{rate}")


def shard_file(index: int) -> str:
    """Name of a shard's samples; those of its description end in .json."""
    return f"shard-{index:05d}.npy"


@dataclass(frozen=True, eq=False)
class Part:
    """One part of a split, clips in the order of the store and segments in the order of the clips."""

    clips: np.ndarray  # int64 (clips,): index in the store
    clip_ids: tuple[str, ...]
    labels: np.ndarray  # uint8 (clips, tags)
    segment_clip: np.ndarray  # int64 (segments,): index of the clip within this part
    segment_spans: np.ndarray  # int64 (segments, 3): shard, first sample, samples (fewer if the clip has)
    segment_samples: int  # of a segment, at the store's rate


@dataclass(frozen=True, eq=False)
class Selection:
    """What a store holds under one split and the top N tags.

    `split_hash` is the SHA-256 of which clip is in which part, and of the tags: results with different ones
    cannot be compared.
    """

    tags: tuple[str, ...]
    split: str
    split_hash: str
    parts: dict[str, Part]  # "train", "valid", "test"


@dataclass(frozen=True, eq=False)
class Store:
    """A finished store. Opening it reads nothing of the audio."""

    path: Path
    name: str
    sample_rate: int  # Hz
    tags: tuple[str, ...]  # in the order of the annotations' columns
    tag_counts: np.ndarray  # int64 (tags,): clips per tag over the whole catalogue, skipped clips included
    clip_ids: tuple[str, ...]
    clip_paths: tuple[str, ...]  # relative to the audio folder
    clip_spans: np.ndarray  # int64 (clips, 3): shard, first sample in it, samples
    labels: np.ndarray  # uint8 (clips, tags)
    splits: dict[str, Split]
    skipped: tuple[dict[str, str], ...]  # id, path and reason of the clips that could not be used
    fingerprints: dict[str, str]  # of the catalogue it was made from
    files: list[Any] | None  # see `Shard.files`, for all of the catalogue; None in stores of earlier versions
    shards: Shards

    @classmethod
    def open(cls, path: str | Path) -> "Store":
        """Open and check the store in folder `path`.

        Raises `StoreError` for a folder that is missing or no finished store, another format version, files
        that cannot be read, and shards or labels that are missing, damaged or of the wrong size. Sizes are
        compared, not checksums: reading 30 GB at every start would cost minutes.
        """
        path = Path(path)
        if not path.is_dir():
            raise StoreError(f"no store at {path}: make it with `{PREPARE}`")
        if not (path / MANIFEST).is_file():
            raise StoreError(
                f"{path} has no {MANIFEST}: its preparation is not finished."
                f" Run the same `{PREPARE}` again, it goes on where it stopped"
            )
        try:
            manifest = json.loads((path / MANIFEST).read_bytes())
            if (version := manifest["format"]) != FORMAT_VERSION:
                raise StoreError(
                    f"store {path} has format {version}, this version reads {FORMAT_VERSION}: {AGAIN}"
                )
            return cls._from_manifest(path, manifest)
        except StoreError:
            raise
        except DAMAGE as error:
            raise StoreError(f"store {path} is damaged ({type(error).__name__}: {error}): {AGAIN}") from error
        except OSError as error:
            raise StoreError(f"store {path} cannot be read: {error}") from error

    @classmethod
    def _from_manifest(cls, path: Path, manifest: dict[str, Any]) -> "Store":
        files = [path / shard_file(index) for index in range(len(manifest["shards"]))]
        for file, shard in zip(files, manifest["shards"], strict=True):
            if (size := file.stat().st_size) != shard["bytes"]:
                raise ValueError(f"{file.name} has {size} bytes, {MANIFEST} says {shard['bytes']}")
        shards = Shards(files)
        if not isinstance(rate := manifest["sample_rate"], int) or not RATES[0] <= rate <= RATES[1]:
            raise ValueError(f"{MANIFEST} has a sample rate of {rate!r}")

        tags, clips = tuple(manifest["tags"]), manifest["clips"]
        skipped = tuple({key: clip[key] for key in ("id", "path", "reason")} for clip in manifest["skipped"])
        texts = [manifest["name"], *tags, *clips["id"], *clips["path"], *manifest["catalog"].values()]
        if not all(isinstance(text, str) for text in chain(texts, *map(dict.values, skipped))):
            raise ValueError(f"{MANIFEST} has names, tags, clips or reasons that are no text")
        if not isinstance(states := manifest.get("files"), list | None):
            raise ValueError(f"{MANIFEST} has no list of files")
        spans = np.array([clips["shard"], clips["offset"], clips["length"]], dtype=np.int64).T
        ends = np.array(shards.lengths, dtype=np.int64)[spans[:, 0]]
        if (spans < (0, 0, 1)).any() or (spans[:, 1] > ends - spans[:, 2]).any():
            raise ValueError(f"{MANIFEST} places clips outside of their shards")
        labels = np.load(path / LABELS, mmap_mode="r", allow_pickle=False)  # as long as its header says?
        shape = (len(spans), len(tags))
        if labels.dtype != np.uint8 or labels.shape != shape:
            raise ValueError(f"{LABELS} holds {labels.dtype} {labels.shape}, not uint8 (clips, tags) {shape}")
        counts = np.array(manifest["tag_counts"], dtype=np.int64)
        splits = {
            name: Split(tuple(split["parts"]), split["drop_untagged"])
            for name, split in manifest["splits"].items()
        }
        columns = (clips["id"], clips["path"], *(split.parts for split in splits.values()))
        if {len(column) for column in columns} != {len(spans)} or counts.shape != (len(tags),):
            raise ValueError(f"{MANIFEST} has columns of different lengths")
        if not splits or not {*PARTS, None}.issuperset(chain(*(split.parts for split in splits.values()))):
            raise ValueError(f"{MANIFEST} has no split, or one into other parts than {', '.join(PARTS)}")
        return cls(
            path=path,
            name=manifest["name"],
            sample_rate=rate,
            tags=tags,
            tag_counts=counts,
            clip_ids=tuple(clips["id"]),
            clip_paths=tuple(clips["path"]),
            clip_spans=spans,
            labels=np.array(labels),
            splits=splits,
            skipped=skipped,
            fingerprints=manifest["catalog"],
            files=states,
            shards=shards,
        )

    @property
    def lengths(self) -> np.ndarray:
        """Samples per clip: int64 `(clips,)`."""
        return self.clip_spans[:, 2]

    def select(self, split: str, top: int | None, segment_samples: int = SEGMENT_SAMPLES) -> Selection:
        """Choose a split and the `top` tags with most clips in the whole catalogue (None: all of them).

        Tags come in descending order of their count, ties in that of their columns. Of a clip as many whole
        segments of `segment_samples` at the store's rate are used as fit into what the store holds of it, at
        least one.

        Raises `StoreError` for an unknown split, `top` below 1, and a part without clips.
        """
        if split not in self.splits:
            raise StoreError(f"no split {split!r} in store {self.path}: allowed are {', '.join(self.splits)}")
        if top is not None and top < 1:
            raise StoreError(f"top is {top}: allowed are 1, 2, ... tags, or null for all {len(self.tags)}")
        columns, members = self._members(split, top)
        if empty := [part for part in PARTS if len(members[part]) == 0]:
            raise StoreError(
                f"split {split!r} of store {self.path} has no clips in its part {empty[0]!r} with the"
                f" top {len(columns)} tags ({len(self.skipped)} clips of the data set could not be decoded)"
            )
        tags = tuple(self.tags[column] for column in columns)
        labels = self.labels[:, columns]
        parts = {part: self._part(clips, labels, segment_samples) for part, clips in members.items()}
        lines = sorted(f"{name}\t{clip_id}" for name, part in parts.items() for clip_id in part.clip_ids)
        split_hash = hashlib.sha256("\n".join([*lines, *tags]).encode()).hexdigest()
        return Selection(tags, split, split_hash, parts)

    def count_clips(self, top: int | None) -> dict[str, list[int]]:
        """Count the clips of each split under the `top` tags (None: all): of train, valid and test."""
        return {split: list(map(len, self._members(split, top)[1].values())) for split in self.splits}

    def _members(self, split: str, top: int | None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the columns of the `top` tags, and the indices of the clips in each part."""
        columns = np.argsort(-self.tag_counts, kind="stable")[:top]
        usable = self.labels[:, columns].any(axis=1) | (not self.splits[split].drop_untagged)
        of_clip = np.array([part or "" for part in self.splits[split].parts])
        return columns, {part: np.flatnonzero((of_clip == part) & usable) for part in PARTS}

    def _part(self, clips: np.ndarray, labels: np.ndarray, samples: int) -> Part:
        spans = self.clip_spans[clips]
        counts = np.maximum(1, spans[:, 2] // samples)
        segment_clip = np.repeat(np.arange(len(clips)), counts)
        within = np.arange(len(segment_clip)) - np.repeat(np.cumsum(counts) - counts, counts)
        segment_spans = spans[segment_clip]
        segment_spans[:, 1] += within * samples
        segment_spans[:, 2] = np.minimum(segment_spans[:, 2], samples)
        clip_ids = tuple(self.clip_ids[clip] for clip in clips)
        return Part(clips, clip_ids, labels[clips], segment_clip, segment_spans, samples)

    def gather(
        self, spans: np.ndarray, out: np.ndarray | None = None, *, samples: int = SEGMENT_SAMPLES
    ) -> np.ndarray:
        """Copy segments, given by rows of `Part.segment_spans`, into `out`: int16 `(segments, samples)`."""
        if out is None:
            out = np.empty((len(spans), samples), dtype=np.int16)
        self.shards.gather(spans, out)
        return out

    def clip(self, index: int) -> np.ndarray:
        """Read all of a clip, given by its index in the store: int16 `(samples,)`."""
        shard, start, samples = self.clip_spans[index].tolist()
        out = np.empty(samples, dtype=np.int16)
        self.shards.read(shard, start, out)
        return out
