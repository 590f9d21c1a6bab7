"""Your own music: a table of files and tags, or one folder per tag; splits of your own, or made here.

    raw/tags.csv or tags.tsv   path, tags ("jazz; slow"), and if you like split (train, valid, test) and group
    raw/jazz/*.flac            without a table: the folder is the tag, a folder in it (an album) the group

Files of one group (an artist, an album) never come into different parts: a network that knows the artist
would score for it.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from samplecnn.data.catalog import PARTS, Catalog, CatalogError, Clip, Split, stays_below
from samplecnn.data.datasets.files import audio_files, file_identity, find_missing, same_audio
from samplecnn.data.datasets.splits import divide, warn_of_rare_tags
from samplecnn.data.datasets.tables import read_table
from samplecnn.data.datasets.tags import refuse_senseless, split_tags, warn_of_mistakes
from samplecnn.overrides import override
from samplecnn.text import counted

log = logging.getLogger(__name__)

TABLES = ("tags.csv", "tags.tsv")


class Row(NamedTuple):
    """One file, as a table or its place in the folders describes it."""

    path: str
    tags: list[str]
    group: str  # "": a group of its own
    part: str  # "": to be decided here


def catalog(
    raw: str | Path,
    *,
    name: str = "folder",
    separator: str | None = None,
    seed: int = 0,
    shares: Sequence[float] = (75, 8, 17),
    excerpt_seconds: float | None = 29,
    excerpt_start: str = "middle",
) -> Catalog:
    """Read a folder of music; its only split is called `own`.

    Without a column `split` the groups are divided by `shares` (of train, valid and test), so that every tag
    has its share in each part: the same `seed`, the same split. Files without tags are kept: as examples that
    have none of them. Files that a table names and that are not there are skipped, and listed, when the store
    is prepared. One file under several names, by links, is one clip with the tags of all. `separator` of
    a table's tags: see `split_tags`.

    What looks like a mistake is logged. Raises `CatalogError`, with the table's line where there is one, for
    a missing or empty folder, missing columns, paths that repeat or lead out of the folder, unknown parts,
    a group in two parts, too few groups for three parts, and tags that look like lists or that nothing can be
    learnt from.
    """
    raw = Path(raw)
    if not raw.is_dir():
        raise CatalogError(f"no such data folder: {raw} (data.raw names the folder with your music)")
    tables = sorted(file for file in raw.iterdir() if file.name.lower() in TABLES and file.is_file())
    if len(tables) > 1:
        names = " and ".join(table.name for table in tables)
        raise CatalogError(f"{raw} has {names}: remove the one that does not count")
    rows = _join_links(raw, _from_table(raw, tables[0], separator) if tables else _from_folders(raw))
    refuse_senseless((row.tags for row in rows), str(tables[0] if tables else raw), _mend(raw, rows, tables))
    tags = sorted({tag for row in rows for tag in row.tags})
    column = {tag: index for index, tag in enumerate(tags)}
    clips = tuple(Clip(row.path, row.path, tuple(column[tag] for tag in row.tags)) for row in rows)
    groups = [row.group for row in rows]
    parts = _given(rows) if rows[0].part else divide(clips, groups, len(tags), shares, seed)
    made = Catalog(
        name=name,
        audio=raw,
        tags=tuple(tags),
        clips=clips,
        splits={"own": Split(tuple(parts), drop_untagged=False)},
        source={"layout": "folder", "table": tables[0].name if tables else None},
        excerpt_seconds=excerpt_seconds,
        excerpt_start=excerpt_start,
    )
    warn_of_mistakes(made)
    warn_of_rare_tags(tags, clips, parts)
    _warn_of_copies(raw, rows, parts)
    return made


def _from_table(raw: Path, file: Path, separator: str | None) -> list[Row]:
    table = read_table(file, ("path", "tags"), ("split", "group"))
    table.require_distinct("path")
    divided = any(cells.get("split") for _, cells in table)
    for where, cells in table:
        path, part = cells["path"], cells.get("split")
        if not path or "\\" in path or not stays_below(path):
            raise CatalogError(
                f"{where}: path {path!r}: allowed are paths below {raw}, with '/' and without '..'"
            )
        if divided and part not in PARTS:
            raise CatalogError(f"{where}: split {part!r}: allowed are {', '.join(PARTS)}")
    paths = find_missing(raw, [cells["path"] for _, cells in table], file)
    tags = split_tags([(where, cells["tags"]) for where, cells in table], separator)
    return [
        Row(path, of_file, cells.get("group", ""), cells.get("split", ""))
        for path, of_file, (_, cells) in zip(paths, tags, table, strict=True)
    ]


def _from_folders(raw: Path) -> list[Row]:
    rows, loose = [], []
    for path in audio_files(raw):
        tag, *inside = path.split("/")
        if inside:
            rows.append(Row(path, [tag], inside[0] if len(inside) > 1 else "", ""))
        else:
            loose.append(path)
    if not rows:
        raise CatalogError(
            f"{raw} has neither a table ({' or '.join(TABLES)}) nor audio in folders named by tag,"
            " like jazz/song.flac"
        )
    if loose:
        log.warning(
            "%s left out, without a tag, for lying beside the folders, such as %s",
            *(counted(len(loose), "file is", "files are"), loose[0]),
        )
    return rows


def _join_links(raw: Path, rows: Sequence[Row]) -> list[Row]:
    """Make one row of those that lead to one file: else it would contradict itself, in several parts."""
    joined: dict[object, Row] = {}
    for row in rows:
        identity = file_identity(raw / row.path)
        first = joined.setdefault(identity, row)
        if first.part != row.part:
            raise CatalogError(
                f"{first.path!r} and {row.path!r} are one file by a link, in {first.part!r} and {row.part!r}"
            )
        if first is not row:
            tags = list(dict.fromkeys(first.tags + row.tags))
            joined[identity] = first._replace(tags=tags, group=first.group or row.group)
    if len(joined) < len(rows):
        log.warning(
            "%s several names by links: each is one clip, with the tags of all its names",
            counted(len(rows) - len(joined), "file has", "files have"),
        )
    return list(joined.values())


def _mend(raw: Path, rows: Sequence[Row], tables: Sequence[Path]) -> str:
    """Say what may have been meant where all files have the same tag."""
    if tables:
        return ""
    tag, inside = rows[0].tags[0], sorted({row.group for row in rows if row.group})
    if inside:
        names = ", ".join(inside[:3])
        return f". If the folders in it are the tags ({names}, ...): {override('data.raw', raw / tag)}"
    others = sorted(file.name for file in raw.iterdir() if file.suffix.lower() in (".csv", ".tsv"))
    return f". {others[0]} is not read: a table is called {' or '.join(TABLES)}" if others else ""


def _given(rows: Sequence[Row]) -> list[str]:
    """Take the parts of a table's column `split`, which no group may cross."""
    part_of: dict[str, str] = {}
    parts = [row.part for row in rows]
    for row in rows:
        if row.group and (other := part_of.setdefault(row.group, row.part)) != row.part:
            raise CatalogError(f"group {row.group!r} is in {other!r} and, with {row.path!r}, in {row.part!r}")
    if empty := [part for part in PARTS if part not in parts]:
        raise CatalogError(f"the column split has no file in {empty[0]!r}: needed are {', '.join(PARTS)}")
    return parts


def _warn_of_copies(raw: Path, rows: Sequence[Row], parts: Sequence[str]) -> None:
    copies = list(same_audio(raw, [row.path for row in rows]))
    apart = [(one, two) for one, two in copies if parts[one] != parts[two]]
    contradicting = [(one, two) for one, two in copies if set(rows[one].tags) != set(rows[two].tags)]
    for pairs, what, advice in (
        (apart, "in another part of the split", "the same group in a table keeps them together"),
        (contradicting, "with other tags", "they contradict each other, keep one with all its tags"),
    ):
        if pairs:
            one, two = pairs[0]
            log.warning(
                "%s the same audio as one %s, such as %r and %r: %s",
                *(
                    counted(len(pairs), "file has", "files have"),
                    what,
                    rows[two].path,
                    rows[one].path,
                    advice,
                ),
            )
