"""What a data set is before it is prepared: clips, where their audio lies, tags, and named splits."""

import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from samplecnn.data.audio import CLIP_SECONDS, EXCERPT_STARTS, SAMPLE_RATE
from samplecnn.errors import UserError

PARTS = ("train", "valid", "test")
NO_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # control characters, and bytes that are not UTF-8
MAX_TAG = 200  # letters


class CatalogError(UserError):
    """A data set's description that cannot be used: what is wrong, where, and what is allowed."""


@dataclass(frozen=True)
class Clip:
    """One recording: `path` is relative to the audio folder, with forward slashes; `tags` are tag indices."""

    id: str
    path: str
    tags: tuple[int, ...]


@dataclass(frozen=True)
class Split:
    """A named way to divide the clips: for each clip a part ("train", "valid", "test") or None (left out).

    `drop_untagged` leaves out clips that have none of the tags in use (the top N are chosen on reading).
    """

    parts: tuple[str | None, ...]
    drop_untagged: bool


@dataclass(frozen=True)
class Catalog:
    """A data set: `name` becomes the store's folder, `source` (plain values) goes into its manifest.

    A store keeps `excerpt_seconds` of each clip (None: the whole track), from its start or its middle.

    Raises `CatalogError` for a name that is no plain folder name; no clips, tags or splits; clip ids or paths
    that repeat; paths that are absolute or contain `..`; tags that repeat or are out of range; a split that
    does not fit the clips; an excerpt that cannot be cut.
    """

    name: str
    audio: Path
    tags: tuple[str, ...]
    clips: tuple[Clip, ...]
    splits: dict[str, Split]
    source: dict[str, Any]
    excerpt_seconds: float | None = CLIP_SECONDS
    excerpt_start: str = "start"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", self.name):
            raise CatalogError(f"data set name {self.name!r}: allowed are letters, digits, '_', '-' and '.'")
        for what, there in (("clips", self.clips), ("tags", self.tags), ("splits", self.splits)):
            if not there:
                raise CatalogError(f"data set {self.name!r} has no {what}")
        seconds = self.excerpt_seconds
        if seconds is not None and not (math.isfinite(seconds) and round(seconds * SAMPLE_RATE) >= 1):
            raise CatalogError(
                f"excerpt_seconds is {seconds}: allowed are seconds above 0, or null for whole tracks"
            )
        if self.excerpt_start not in EXCERPT_STARTS:
            raise CatalogError(
                f"excerpt_start is {self.excerpt_start!r}: allowed are {', '.join(EXCERPT_STARTS)}"
            )
        _require_distinct("tag", self.tags)
        if long := [tag for tag in self.tags if len(tag) > MAX_TAG]:
            raise CatalogError(
                f"a tag of {len(long[0]):,} letters ({long[0][:20]!r}...): allowed are {MAX_TAG}"
            )
        _require_distinct("clip id", (clip.id for clip in self.clips))
        _require_distinct("path", (clip.path for clip in self.clips))
        for clip in self.clips:
            _check_clip(clip, len(self.tags))
        for name, split in self.splits.items():
            if len(split.parts) != len(self.clips):
                raise CatalogError(f"split {name!r} is for {len(split.parts)} of {len(self.clips)} clips")
            if unknown := sorted({str(part) for part in split.parts} - {*PARTS, "None"}):
                raise CatalogError(f"split {name!r} has parts {unknown}: allowed are {PARTS} and None")

    def labels(self) -> np.ndarray:
        """Annotations of all clips: uint8 `(clips, tags)` of 0 and 1."""
        labels = np.zeros((len(self.clips), len(self.tags)), dtype=np.uint8)
        for row, clip in zip(labels, self.clips, strict=True):
            row[list(clip.tags)] = 1
        return labels

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of what a store depends on, piece by piece, so that a difference can be named."""
        seconds = self.excerpt_seconds
        samples = None if seconds is None else round(seconds * SAMPLE_RATE)
        return {
            "tags": digest(self.tags),
            "clips": digest([(clip.id, clip.path, sorted(clip.tags)) for clip in self.clips]),
            "splits": digest({name: (s.parts, s.drop_untagged) for name, s in sorted(self.splits.items())}),
            "source": digest(self.source),
            "excerpt": digest([samples, self.excerpt_start]),
        }


def digest(value: object) -> str:
    """SHA-256 (hexadecimal) of a plain value's JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _require_distinct(what: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise CatalogError(f"{what} {value!r} appears twice")
        if not value or NO_TEXT.search(value):
            raise CatalogError(f"{what} {value!r}: has to be one line of text, without control characters")
        seen.add(value)


def _check_clip(clip: Clip, tags: int) -> None:
    if not stays_below(clip.path):
        raise CatalogError(
            f"clip {clip.id!r} has path {clip.path!r}: allowed are paths below the audio folder, without '..'"
        )
    if not all(0 <= tag < tags for tag in clip.tags):
        raise CatalogError(f"clip {clip.id!r} has tags {clip.tags}: allowed are 0 to {tags - 1}")


def stays_below(path: str) -> bool:
    """Say whether a relative path leads nowhere else, and is written as plainly as it can be."""
    pure = PurePosixPath(path)
    return not pure.is_absolute() and ".." not in pure.parts and str(pure) == path
