"""MagnaTagATune, and any folder laid out like it: `annotations_final.csv` and audio in directories 0 to f.

    raw/annotations_final.csv   tab-separated, quoted: clip_id, one 0/1 column per tag, mp3_path (.csv.gz too)
    raw/mp3/0/... raw/mp3/f/... or raw/0/... raw/f/...

The splits are by directory: 0-b train, c validation, d-f test. Two families, never to be mixed:

- `clean` (the paper, Won et al. 2020): clips without any of the tags in use are dropped. On MTAT with its top
  50 tags 15,244 / 1,529 / 4,332, the published lists of jongpillee/music_dataset_split.
- `pons` (Pons et al. 2018): untagged clips are kept. On MTAT 18,706 / 1,825 / 5,329.

Without a folder of one's own both are fetched and unpacked (`fetch_raw`); docs/data.md says from where.
"""

import csv
import gzip
import hashlib
import io
import re
import zlib
from pathlib import Path

import numpy as np

from samplecnn.data.catalog import PARTS, Catalog, CatalogError, Clip, Split
from samplecnn.data.datasets.mtat_fetch import SOURCE, Source, fetch_raw
from samplecnn.data.store import Store

ANNOTATIONS = ("annotations_final.csv", "annotations_final.csv.gz")
CLIP_PATH = re.compile(r"[0-9a-f]/(?!\.{1,2}$)[^/\\\x00-\x1f\x7f]+")

# Files of the original that no decoder reads; both published families are without them.
UNDECODABLE = frozenset(
    {
        "6/norine_braun-now_and_zen-08-gently-117-146.mp3",
        "8/jacob_heringman-josquin_des_prez_lute_settings-19-gintzler__pater_noster-204-233.mp3",
        "9/american_baroque-dances_and_suites_of_rameau_and_couperin-25-le_petit_rien_xiveme_ordre_couperin-88-117.mp3",
    }
)
# The first three tagged clips of directory 0: sound, but not in the published clean list, whose readme says
# that clips under 29.1 s were left out. Kept by `pons`.
_BWV_18 = "0/american_bach_soloists-j_s__bach__cantatas_volume_v"
_RECITATIVE = (
    "03-gleichwie_der_regen_und_schnee_vom_himmel_fallt_bwv_18_iii_recitative_and_litany"
    "__mein_gott_hier_wird_mein_herze_sein"
)
NOT_IN_CLEAN = frozenset(
    {
        f"{_BWV_18}-01-gleichwie_der_regen_und_schnee_vom_himmel_fallt_bwv_18_i_sinfonia-117-146.mp3",
        f"{_BWV_18}-{_RECITATIVE}-204-233.mp3",
        f"{_BWV_18}-{_RECITATIVE}-233-262.mp3",
    }
)

ORIGINAL = (25_863, 188)  # clips and tags of MagnaTagATune itself
PUBLISHED = {"clean": (15_244, 1_529, 4_332), "pons": (18_706, 1_825, 5_329)}  # top 50 tags


def catalog(
    raw: str | Path | None,
    name: str = "mtat",
    *,
    download: str | Path | None = None,
    source: Source = SOURCE,
    progress: bool = True,
) -> Catalog:
    """Read the annotations of a folder in MTAT's layout; any number of tags and clips.

    Where `raw` is None, the data set is fetched into the folder `download` first, if it is not there yet.
    Audio files are not looked at: those that are missing or cannot be decoded are skipped, and listed, when
    the store is prepared.

    Raises `CatalogError`, with the line's number where there is one, for a missing folder or annotation file
    and for annotations that are not in the format above: nothing is guessed or repaired. Raises what
    `fetch_raw` raises.
    """
    if raw is None:
        if download is None:
            raise CatalogError("data.raw is null: it has to name the folder with annotations and audio")
        fetch_raw(Path(download), source, progress=progress)
        raw = download
    raw = Path(raw)
    if not raw.is_dir():
        raise CatalogError(f"no such data folder: {raw} (data.raw names the folder with {ANNOTATIONS[0]})")
    file = next((raw / file for file in ANNOTATIONS if (raw / file).is_file()), None)
    if file is None:
        raise CatalogError(f"no annotations in {raw}: looked for {' and '.join(ANNOTATIONS)}")
    content = _read(file)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CatalogError(f"{file}, line {line}: not UTF-8 ({error.reason})") from error
    tags, clips = _parse(text, file)

    def parts(excluded: frozenset[str]) -> tuple[str | None, ...]:
        return tuple(None if clip.path in excluded else _part(clip.path) for clip in clips)

    return Catalog(
        name=name,
        audio=raw / "mp3" if (raw / "mp3").is_dir() else raw,
        tags=tags,
        clips=clips,
        splits={
            "clean": Split(parts(UNDECODABLE | NOT_IN_CLEAN), drop_untagged=True),
            "pons": Split(parts(UNDECODABLE), drop_untagged=False),
        },
        source={"layout": "mtat", "annotations_sha256": hashlib.sha256(content).hexdigest()},
    )


def _part(path: str) -> str:
    return "train" if path[0] < "c" else "valid" if path[0] == "c" else "test"


def _read(file: Path) -> bytes:
    try:
        content = file.read_bytes()
        return gzip.decompress(content) if file.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise CatalogError(f"{file}: cannot be read ({error})") from error


def _parse(text: str, file: Path) -> tuple[tuple[str, ...], tuple[Clip, ...]]:
    """Tags in column order and clips in row order, or a `CatalogError` that names the line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t", strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise CatalogError(f"{file}, line {reader.line_num}: not a tab-separated table ({error})") from error
    header = rows[0][1] if rows else []
    for column in ("clip_id", "mp3_path"):
        if column not in header:
            raise CatalogError(f"{file}, line 1: no column {column!r} among {len(header)} tab-separated ones")
    if repeated := sorted({column for column in header if header.count(column) > 1}):
        raise CatalogError(f"{file}, line 1: columns that appear twice: {', '.join(map(repr, repeated))}")
    id_column, path_column = header.index("clip_id"), header.index("mp3_path")
    tag_columns = [i for i in range(len(header)) if i not in (id_column, path_column)]
    if not tag_columns:
        raise CatalogError(f"{file}, line 1: no tag columns beside clip_id and mp3_path")
    if len(rows) == 1:
        raise CatalogError(f"{file}: no clips, only the header line")

    clips = []
    first_line: dict[tuple[str, str], int] = {}
    for line, row in rows[1:]:
        where = f"{file}, line {line}"
        if len(row) != len(header):
            raise CatalogError(f"{where}: {len(row)} columns, the header has {len(header)}")
        clip_id, path = row[id_column], row[path_column]
        for what, value in (("clip_id", clip_id), ("mp3_path", path)):
            if (earlier := first_line.setdefault((what, value), line)) != line:
                raise CatalogError(f"{where}: {what} {value!r} is also on line {earlier}")
        if not CLIP_PATH.fullmatch(path):
            raise CatalogError(f"{where}: mp3_path {path!r}: allowed is DIR/NAME with DIR one of 0-9 and a-f")
        cells = [row[i] for i in tag_columns]
        if not {"0", "1"}.issuperset(cells):
            tag, cell = next((header[i], row[i]) for i in tag_columns if row[i] not in ("0", "1"))
            raise CatalogError(f"{where}, column {tag!r}: {cell!r}, allowed are 0 and 1")
        clips.append(Clip(clip_id, path, tuple(i for i, cell in enumerate(cells) if cell == "1")))
    return tuple(header[i] for i in tag_columns), tuple(clips)


def counts(store: Store, top: int | None = 50) -> list[str]:
    """Say how many clips each part of each split has; of MagnaTagATune itself, beside the published numbers.

    Those are for the top 50 tags. Every clip that may make a difference is named, with its reason.
    """
    original = (len(store.clip_ids) + len(store.skipped), len(store.tags)) == ORIGINAL
    top = 50 if original else top
    columns = np.argsort(-store.tag_counts, kind="stable")[:top]
    tagged = store.labels[:, columns].any(axis=1)
    lines = []
    for name, split in store.splits.items():
        counted = tagged | (not split.drop_untagged)
        ours = [int(np.sum(counted & (np.array(split.parts, dtype=object) == part))) for part in PARTS]
        lines.append(f"split {name}, {'top ' + str(top) if top else 'all'} tags, clips:")
        if not original or name not in PUBLISHED:
            lines += [f"  {part:5} {count:7,}" for part, count in zip(PARTS, ours, strict=True)]
            continue
        for part, count, published in zip(PARTS, ours, PUBLISHED[name], strict=True):
            lines.append(
                f"  {part:5} {count:7,}, published {published:7,}, difference {count - published:+,}"
            )
        excluded = UNDECODABLE | NOT_IN_CLEAN if name == "clean" else UNDECODABLE
        untagged = " (counts if it has one of these tags)" if split.drop_untagged else ""
        lines += [
            f"  {_part(clip['path'])}: {clip['path']}: {clip['reason']}{untagged}"
            for clip in store.skipped
            if clip["path"] not in excluded
        ]
        lines.append(f"  excluded by name, and not in the published numbers: {len(excluded)} clips of train")
        lines += [
            f"    {path}: {'cannot be decoded' if path in UNDECODABLE else 'not in the published list'}"
            for path in sorted(excluded)
        ]
    return lines
