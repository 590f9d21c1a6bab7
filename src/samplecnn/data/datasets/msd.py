"""The Million Song Dataset with Last.fm's tags: you bring the audio, which nobody may hand out.

    raw/lastfm_tags.db     Last.fm's tag database, or a table of your own: tags.csv, tags.tsv (track_id, tags)
    raw/filtered_list_train.cP, filtered_list_test.cP of jongpillee/music_dataset_split, or your own
    raw/train.txt, valid.txt, test.txt (one track id per line)
    raw/audio/... or raw/...   any folders and formats, with the track id in the file's name

The split `published` is that of Lee et al. 2017 and of the paper: 201,680 / 11,774 / 28,435 tracks.
"""

import logging
import pickletools
import re
import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from samplecnn.data.catalog import PARTS, Catalog, CatalogError, Clip, Split
from samplecnn.data.datasets.files import audio_files
from samplecnn.data.datasets.tables import decode, read_bytes, read_table
from samplecnn.data.datasets.tags import split_tags, warn_of_mistakes
from samplecnn.data.lastfm import PUBLISHED_TAGS

log = logging.getLogger(__name__)

TRACK = re.compile(r"TR[A-Z]{5}[0-9A-F]{11}")
IN_NAME = re.compile(rf"(?<![A-Z0-9]){TRACK.pattern}(?![A-Z0-9])")
DATABASE = "lastfm_tags.db"
TABLES = ("tags.csv", "tags.tsv")
PICKLED_LISTS = ("filtered_list_train.cP", "filtered_list_test.cP")
MAX_LIST_BYTES = 20_000_000  # the longer one of the published has 7 MB

# What a pickled list of texts consists of: nothing that could name a class or call it.
TEXT_OPCODE = re.compile("(SHORT_)?(BIN)?(STRING|UNICODE|BYTES)8?")
OTHER_OPCODE = re.compile("PROTO|FRAME|MARK|(EMPTY_)?LIST|APPENDS?|((LONG_)?BIN)?PUT|MEMOIZE|STOP")


def catalog(
    raw: str | Path,
    *,
    name: str = "msd",
    vocabulary: str | int = "published",
    threshold: float = 50,
    separator: str | None = None,
    train_tracks: int = 201_680,  # of the pickled training list; the rest of it is for validation
    excerpt_seconds: float | None = 29,
    excerpt_start: str = "start",
) -> Catalog:
    """Read split lists and tags, and look for the audio of every track.

    `vocabulary` is "published" (`PUBLISHED_TAGS`) or a number: that many tags, the most frequent over the
    tracks of the lists. A tag of Last.fm's counts where its value, 0 to 100, is above `threshold` (Choi et
    al.: 50). `separator` of a table's tags: see `split_tags`. Tracks of the lists without a file are skipped,
    and listed, when the store is prepared.

    Raises `CatalogError` for a missing folder, list or tag source; lists that hold anything but track ids, or
    one twice; a database that is damaged or not Last.fm's; no audio at all; and for impossible options.
    """
    raw = Path(raw)
    if not raw.is_dir():
        raise CatalogError(f"no such data folder: {raw} (data.raw names the one with audio, lists and tags)")
    if vocabulary != "published" and not (isinstance(vocabulary, int) and vocabulary >= 1):
        raise CatalogError(f"vocabulary is {vocabulary!r}: allowed are 'published' and 1, 2, ... tags")
    if not 0 <= threshold < 100:
        raise CatalogError(f"threshold is {threshold}: allowed are 0 up to, but not including, 100")
    part_of = _parts(raw, train_tracks)
    file = _tag_source(raw)
    if file.name == DATABASE:
        tracks_of = _from_database(file, part_of, threshold)
    else:
        tracks_of = _from_table(file, part_of, separator)
    tags = _choose(tracks_of, vocabulary, file)
    tags_of: dict[str, list[int]] = defaultdict(list)
    for index, tag in enumerate(tags):
        for track in tracks_of.get(tag, ()):
            tags_of[track].append(index)
    audio = raw / "audio" if (raw / "audio").is_dir() else raw
    path_of = _find_audio(audio, part_of)
    made = Catalog(
        name=name,
        audio=audio,
        tags=tuple(tags),
        # Without a file a track keeps its place, so that what is missing shows, and the counts of the tags
        # do not depend on it.
        clips=tuple(
            Clip(track, path_of.get(track, f"{track}.mp3"), tuple(tags_of[track])) for track in part_of
        ),
        splits={"published": Split(tuple(part_of.values()), drop_untagged=True)},
        source={"layout": "msd", "tags": file.name, "vocabulary": vocabulary, "threshold": threshold},
        excerpt_seconds=excerpt_seconds,
        excerpt_start=excerpt_start,
    )
    warn_of_mistakes(made)
    return made


def _tag_source(raw: Path) -> Path:
    """Return the one file that has the tags."""
    sources = [source for source in (DATABASE, *TABLES) if (raw / source).is_file()]
    if len(sources) != 1:
        found = " and ".join(sources) or "none of them"
        raise CatalogError(f"{raw}: needs one of {', '.join((DATABASE, *TABLES))}, there is {found}")
    return raw / sources[0]


def _parts(raw: Path, train_tracks: int) -> dict[str, str]:
    """Read the split lists, the text files if there are any: the part of every track."""
    texts = [raw / f"{part}.txt" for part in PARTS]
    pickles = [raw / file for file in PICKLED_LISTS]
    if all(file.is_file() for file in texts):
        lists = {file: decode(read_bytes(file), file).split() for file in texts}
        divided = list(lists.values())
    elif all(file.is_file() for file in pickles):
        lists = {file: read_pickled_list(file) for file in pickles}
        train, test = lists.values()
        if not 0 < train_tracks < len(train):
            raise CatalogError(
                f"{pickles[0]}: {len(train)} tracks, of which the first {train_tracks} are the training part:"
                " nothing is left for the validation part"
            )
        divided = [train[:train_tracks], train[train_tracks:], test]
    else:
        names = [" and ".join(file.name for file in files) for files in (pickles, texts)]
        raise CatalogError(f"no split lists in {raw}: looked for {', or '.join(names)}")
    for file, tracks in lists.items():
        for number, track in enumerate(tracks, 1):
            if not TRACK.fullmatch(track):
                raise CatalogError(f"{file}, entry {number}: {track!r} is no track id (TRAAAAW128F429D538)")
    part_of: dict[str, str] = {}
    for part, tracks in zip(PARTS, divided, strict=True):
        for track in tracks:
            if track in part_of:
                raise CatalogError(f"track {track} is listed twice, in {part_of[track]!r} and in {part!r}")
            part_of[track] = part
    return part_of


def read_pickled_list(file: Path) -> list[str]:
    """Read a pickled list of texts without unpickling: no class is looked up and no code can run.

    Raises `CatalogError` for a file that holds anything else, is damaged, or has over 20 MB.
    """
    texts: list[str] = []
    lists = 0
    try:
        if file.stat().st_size > MAX_LIST_BYTES:
            raise ValueError(f"it has more than {MAX_LIST_BYTES:,} bytes")
        for opcode, value, _ in pickletools.genops(file.read_bytes()):
            if TEXT_OPCODE.fullmatch(opcode.name):
                texts.append(value.decode() if isinstance(value, bytes) else str(value))
            elif not OTHER_OPCODE.fullmatch(opcode.name):
                raise ValueError(f"it holds {opcode.name}")
            lists += opcode.name in ("LIST", "EMPTY_LIST")
        if lists != 1:
            raise ValueError(f"it holds {lists} lists")
    except (OSError, ValueError) as error:
        raise CatalogError(f"{file}: cannot be read ({error}), allowed is one plain list of texts") from error
    return texts


def _from_database(file: Path, part_of: Mapping[str, str], threshold: float) -> dict[str, list[str]]:
    """Look up the listed tracks of each tag in Last.fm's database."""
    name_of = {track: track for track in part_of}  # one text for each track, of millions that are read
    tracks_of: dict[str, list[str]] = defaultdict(list)
    try:
        # Immutable: no journal is looked for or made, so that the folder may be read-only.
        uri = f"{file.resolve().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            database.text_factory = lambda text: text.decode("utf-8", "replace")
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute("PRAGMA temp_store = MEMORY")
            names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if missing := {"tids", "tags", "tid_tag"} - {row[0] for row in names}:
                raise CatalogError(f"{file}: no table {min(missing)!r}, it is not Last.fm's tag database")
            rows = database.execute(
                "SELECT DISTINCT tids.tid, CAST(tags.tag AS TEXT) FROM tid_tag JOIN tids"
                " ON tids.rowid = tid_tag.tid JOIN tags ON tags.rowid = tid_tag.tag WHERE tid_tag.val > ?",
                (threshold,),
            )
            for track, tag in rows:
                if track in name_of:
                    tracks_of[tag].append(name_of[track])
    except sqlite3.Error as error:
        raise CatalogError(f"{file}: cannot be read as Last.fm's tag database ({error})") from error
    return tracks_of


def _from_table(file: Path, part_of: Mapping[str, str], separator: str | None) -> dict[str, list[str]]:
    """Look up the listed tracks of each tag in a table."""
    table = read_table(file, ("track_id", "tags"))
    table.require_distinct("track_id")
    tags_of = split_tags([(where, cells["tags"]) for where, cells in table], separator)
    tracks_of: dict[str, list[str]] = defaultdict(list)
    for (_, cells), tags in zip(table, tags_of, strict=True):
        for tag in tags if cells["track_id"] in part_of else ():
            tracks_of[tag].append(cells["track_id"])
    return tracks_of


def _choose(tracks_of: Mapping[str, Sequence[str]], vocabulary: str | int, file: Path) -> Sequence[str]:
    """Choose the tags of the catalogue: the published ones, or the most frequent of those that occur."""
    ranked = sorted(tracks_of, key=lambda tag: (-len(tracks_of[tag]), tag))
    chosen = ranked[:vocabulary] if isinstance(vocabulary, int) else PUBLISHED_TAGS
    absent = sorted(set(chosen) - set(ranked))
    if len(absent) == len(chosen):
        raise CatalogError(
            f"{file}: no listed track has one of the tags to use ({len(ranked)} others occur; of tags of your"
            " own, say how many to use: data.vocabulary=50)"
        )
    if absent:
        log.warning("%d of the published tags have no track here: %s", len(absent), ", ".join(absent))
    return chosen


def _find_audio(audio: Path, part_of: Mapping[str, str]) -> dict[str, str]:
    """Find the file of each listed track; of several, the first in sorted order."""
    path_of: dict[str, str] = {}
    spare: list[str] = []
    for path in audio_files(audio):
        found = IN_NAME.search(path.rpartition("/")[2])
        if found and found[0] in part_of and path_of.setdefault(found[0], path) != path:
            spare.append(path)
    if not path_of:
        raise CatalogError(f"no audio of the split lists below {audio}: a track's id is in its file's name")
    log.info("%d of %d tracks of the split lists have audio below %s", len(path_of), len(part_of), audio)
    if spare:
        log.warning("%d tracks' files are second ones and not used, such as %s", len(spare), spare[0])
    return path_of
