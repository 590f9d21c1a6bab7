"""Your own music: a table of files and tags, or one folder per tag; splits of your own, or made here.

    raw/tags.csv or tags.tsv   path, tags ("jazz; slow"), and if you like split (train, valid, test) and group
    raw/jazz/*.flac            without a table: the folder is the tag, a folder in it (an album) the group

Files of one group (an artist, an album) never come into different parts: a network that knows the artist
would score for it.
"""

import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from samplecnn.data.catalog import PARTS, Catalog, CatalogError, Clip, Split
from samplecnn.data.datasets.files import audio_files, read_table, split_tags

log = logging.getLogger(__name__)

TABLES = ("tags.csv", "tags.tsv")
TAGS_SHOWN = 5  # tags named in a warning


class Row(NamedTuple):
    """One file, as a table or its place in the folders describes it."""

    path: str
    tags: list[str]
    group: str  # "": a group of its own
    part: str | None  # None: to be decided here


def catalog(
    raw: str | Path,
    *,
    name: str = "folder",
    seed: int = 0,
    shares: Sequence[float] = (75, 8, 17),
    excerpt_seconds: float | None = 29,
    excerpt_start: str = "middle",
) -> Catalog:
    """Read a folder of music; its only split is called `own`.

    Without a column `split` the groups are divided by `shares` (of train, valid and test), so that every tag
    has its share in each part: the same `seed`, the same split. Files without tags are kept: as examples that
    have none of them. Files that a table names and that are not there are skipped, and listed, when the store
    is prepared.

    Raises `CatalogError`, with the table's line where there is one, for a missing or empty folder, missing
    columns, paths that repeat or lead out of the folder, unknown parts, a group in two parts, and too few
    groups for three parts.
    """
    raw = Path(raw)
    if not raw.is_dir():
        raise CatalogError(f"no such data folder: {raw} (data.raw names the folder with your music)")
    if len(shares) != len(PARTS) or not all(0 < share < float("inf") for share in shares):
        raise CatalogError(f"shares are {list(shares)}: three numbers above 0, of train, valid and test")
    if seed < 0:
        raise CatalogError(f"seed is {seed}: allowed are 0, 1, ...")
    tables = [table for table in TABLES if (raw / table).is_file()]
    if len(tables) > 1:
        raise CatalogError(f"{raw} has {' and '.join(tables)}: remove the one that does not count")
    rows = _from_table(raw / tables[0]) if tables else _from_folders(raw)
    tags = sorted({tag for row in rows for tag in row.tags})
    if not tags:
        raise CatalogError(f"{raw / tables[0]}: no file has a tag")
    column = {tag: index for index, tag in enumerate(tags)}
    clips = tuple(Clip(row.path, row.path, tuple(column[tag] for tag in row.tags)) for row in rows)
    parts = _given(rows) if rows[0].part else _divided(rows, clips, len(tags), shares, seed)
    _say_what_is_rare(tags, clips, parts)
    return Catalog(
        name=name,
        audio=raw,
        tags=tuple(tags),
        clips=clips,
        splits={"own": Split(tuple(parts), drop_untagged=False)},
        source={"layout": "folder", "table": tables[0] if tables else None},
        excerpt_seconds=excerpt_seconds,
        excerpt_start=excerpt_start,
    )


def _from_table(table: Path) -> list[Row]:
    rows = []
    first_line: dict[str, int] = {}
    for line, cells in read_table(table, ("path", "tags")):
        where, path, part = f"{table}, line {line}", cells["path"], cells.get("split")
        if (earlier := first_line.setdefault(path, line)) != line:
            raise CatalogError(f"{where}: path {path!r} is also on line {earlier}")
        if not path or "\\" in path or _leads_elsewhere(path):
            raise CatalogError(
                f"{where}: path {path!r}: allowed are paths below {table.parent}, with '/' and without '..'"
            )
        if part is not None and part not in PARTS:
            raise CatalogError(f"{where}: split {part!r}: allowed are {', '.join(PARTS)}")
        rows.append(Row(path, split_tags(cells["tags"], where), cells.get("group", "").strip(), part))
    return rows


def _leads_elsewhere(path: str) -> bool:
    pure = PurePosixPath(path)
    return pure.is_absolute() or ".." in pure.parts or str(pure) != path


def _from_folders(raw: Path) -> list[Row]:
    rows = []
    for path in audio_files(raw):
        tag, *inside = path.split("/")
        if inside:
            rows.append(Row(path, [tag], inside[0] if len(inside) > 1 else "", None))
    if not rows:
        raise CatalogError(
            f"{raw} has neither a table ({' or '.join(TABLES)}) nor audio in folders named by tag,"
            " like jazz/song.flac"
        )
    return rows


def _given(rows: Sequence[Row]) -> list[str]:
    """Take the parts of a table's column `split`, which no group may cross."""
    part_of: dict[str, str] = {}
    parts = [row.part for row in rows if row.part]
    for row, part in zip(rows, parts, strict=True):
        if row.group and (other := part_of.setdefault(row.group, part)) != part:
            raise CatalogError(f"group {row.group!r} is in {other!r} and, with {row.path!r}, in {part!r}")
    if empty := [part for part in PARTS if part not in parts]:
        raise CatalogError(f"the column split has no file in {empty[0]!r}: needed are {', '.join(PARTS)}")
    return parts


def _divided(
    rows: Sequence[Row], clips: Sequence[Clip], tags: int, shares: Sequence[float], seed: int
) -> list[str]:
    groups: dict[tuple[str, str], int] = {}
    group_of = [groups.setdefault((row.group, "" if row.group else row.path), len(groups)) for row in rows]
    if len(groups) < len(PARTS):
        raise CatalogError(f"{len(groups)} groups of files cannot be divided into {', '.join(PARTS)}")
    counts = np.zeros((len(groups), tags), dtype=np.int32)
    for group, clip in zip(group_of, clips, strict=True):
        counts[group, list(clip.tags)] += 1
    parts = stratify(counts, np.bincount(group_of), shares, seed)
    return [PARTS[parts[group]] for group in group_of]


def stratify(counts: np.ndarray, sizes: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """Divide groups so that every tag has its share in every part: int64 `(groups,)`, indices of `shares`.

    `counts` is int `(groups, tags)`, the clips with each tag; `sizes` int `(groups,)`, all clips. Iterative
    stratification (Sechidis, Tsoumakas and Vlahavas 2011) of groups: the tag that fewest undivided groups
    have comes first; its groups, large ones first, go where most of the tag is still wanted. One rule more:
    once no more groups are left than parts without the tag, these parts get them.
    """
    counts = np.column_stack([counts, sizes])  # the last column stands for "any clip": it comes last
    present = counts > 0
    share = np.asarray(shares, dtype=float) / sum(shares)
    wanted = share[:, None] * counts.sum(axis=0)  # (parts, tags + 1): clips
    held = np.zeros(wanted.shape, dtype=bool)
    undivided = present.sum(axis=0)  # groups
    order = np.random.default_rng(seed).permutation(len(counts))
    part_of = np.full(len(counts), -1)
    while undivided.any():
        column = int(np.where(undivided, undivided, len(counts) + 1).argmin())
        groups = order[(part_of[order] < 0) & present[order, column]]
        groups = groups[np.argsort(-counts[groups, column], kind="stable")]
        for left, group in zip(range(len(groups), 0, -1), groups, strict=True):
            without = [part for part in range(len(share)) if not held[part, column]]
            candidates = without if left <= len(without) else range(len(share))
            part = max(candidates, key=lambda part: (wanted[part, column], wanted[part, -1]))
            part_of[group] = part
            held[part] |= present[group]
            wanted[part] -= counts[group]
            undivided -= present[group]
    return part_of


def _say_what_is_rare(tags: Sequence[str], clips: Sequence[Clip], parts: Sequence[str]) -> None:
    lacking = [set(PARTS) for _ in tags]
    for clip, part in zip(clips, parts, strict=True):
        for tag in clip.tags:
            lacking[tag].discard(part)
    rare = [
        f"{tag!r} (not in {', '.join(sorted(where))})"
        for tag, where in zip(tags, lacking, strict=True)
        if where
    ]
    if rare:
        log.warning(
            "%d of %d tags are not in all parts, too few files or groups have them: %s%s",
            len(rare),
            len(tags),
            ", ".join(rare[:TAGS_SHOWN]),
            ", ..." if len(rare) > TAGS_SHOWN else "",
        )
