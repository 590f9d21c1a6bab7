"""MTG-Jamendo: full-length tracks with the 50 most frequent tags, in the five splits of its repository.

    raw/data/splits/split-0/autotagging_top50tags-train.tsv, -validation.tsv, -test.tsv (or raw/splits/...)
    raw/audio/00/7400.mp3 or raw/00/7400.mp3; 7400.low.mp3 of the low-quality release serves as well

Every split whose files are there, `split-0` to `split-4`, is a split of the one store.
"""

import re
from pathlib import Path

from samplecnn.data.catalog import Catalog, CatalogError, Clip, Split
from samplecnn.data.datasets.tables import read_table

PARTS = {"train": "train", "validation": "valid", "test": "test"}  # theirs -> ours
SPLITS = tuple(f"split-{number}" for number in range(5))
COLUMNS = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")
TRACK_PATH = re.compile(r"[0-9]{2}/[0-9]+\.mp3")


def catalog(
    raw: str | Path,
    *,
    name: str = "jamendo",
    excerpt_seconds: float | None = 29,
    excerpt_start: str = "middle",
) -> Catalog:
    """Read the splits that are there; tags keep their full names (`genre---rock`, `mood/theme---happy`).

    Tracks without audio are skipped, and listed, when the store is prepared.

    Raises `CatalogError`, with the line where there is one, for a missing folder, a split with a file
    missing, rows in another format, a track twice in one split, and a track that two splits describe
    differently (from different releases).
    """
    raw = Path(raw)
    if not raw.is_dir():
        raise CatalogError(f"no such data folder: {raw} (data.raw names the folder with audio and splits)")
    folders = [folder for folder in (raw / "data/splits", raw / "splits") if folder.is_dir()]
    there = [split for split in SPLITS if folders and (folders[0] / split).is_dir()]
    if not there:
        raise CatalogError(f"{raw} has neither data/splits/{SPLITS[0]} nor splits/{SPLITS[0]}")

    tracks: dict[str, tuple[str, list[str]]] = {}  # path, tags
    parts = {split: _read(folders[0] / split, tracks) for split in there}
    tags = sorted({tag for _, track_tags in tracks.values() for tag in track_tags})
    column = {tag: index for index, tag in enumerate(tags)}
    audio = raw / "audio" if (raw / "audio").is_dir() else raw
    present = {file.relative_to(audio).as_posix() for file in audio.glob("[0-9][0-9]/*.mp3")}

    def audio_path(path: str) -> str:
        low = path.removesuffix(".mp3") + ".low.mp3"
        return low if low in present and path not in present else path

    ids = sorted(tracks)
    return Catalog(
        name=name,
        audio=audio,
        tags=tuple(tags),
        clips=tuple(
            Clip(track, audio_path(tracks[track][0]), tuple(column[tag] for tag in tracks[track][1]))
            for track in ids
        ),
        splits={
            split: Split(tuple(part_of.get(track) for track in ids), drop_untagged=False)
            for split, part_of in parts.items()
        },
        source={"layout": "jamendo", "tags": "autotagging_top50tags"},
        excerpt_seconds=excerpt_seconds,
        excerpt_start=excerpt_start,
    )


def _read(folder: Path, tracks: dict[str, tuple[str, list[str]]]) -> dict[str, str]:
    """Add the tracks of a split to `tracks`; return the part of each."""
    part_of: dict[str, str] = {}
    for theirs, part in PARTS.items():
        file = folder / f"autotagging_top50tags-{theirs}.tsv"
        if not file.is_file():
            raise CatalogError(f"{file} is not there: a split is three files")
        for where, cells in read_table(file, COLUMNS, tail="TAGS"):
            track, path, tags = cells["TRACK_ID"], cells["PATH"], sorted(cells["TAGS"].split("\t"))
            if not TRACK_PATH.fullmatch(path):
                raise CatalogError(f"{where}: path {path!r}, expected one like 00/7400.mp3")
            if not all(tags) or len(set(tags)) != len(tags):
                raise CatalogError(f"{where}: tags {tags}: each needs a name and appears once")
            if track in part_of:
                raise CatalogError(f"{where}: {track!r} is in {folder.name} before ({part_of[track]})")
            if (known := tracks.setdefault(track, (path, tags))) != (path, tags):
                raise CatalogError(
                    f"{where}: {track!r} has {path} {tags}, in another split {known[0]} {known[1]}:"
                    " take all splits from one release, or keep the folder of one split only"
                )
            part_of[track] = part
    return part_of
