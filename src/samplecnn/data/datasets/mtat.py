"""MagnaTagATune, and any folder laid out like it: `annotations_final.csv` and audio in directories 0 to f.

    raw/annotations_final.csv   tab-separated, quoted: clip_id, one 0/1 column per tag, mp3_path (.csv.gz too)
    raw/mp3/0/... raw/mp3/f/... or raw/0/... raw/f/...

The splits are by directory: 0-b train, c validation, d-f test. Two families, never to be mixed:

- `clean` (the paper, Won et al. 2020): clips without any of the tags in use are dropped. On MTAT with its top
  50 tags 15,244 / 1,529 / 4,332, the published lists of jongpillee/music_dataset_split.
- `pons` (Pons et al. 2018): untagged clips are kept. On MTAT 18,706 / 1,825 / 5,329.

`mtat_fetch.py` downloads both.
"""

import hashlib
import re
from pathlib import Path

from samplecnn.data.catalog import PARTS, Catalog, CatalogError, Clip, Split
from samplecnn.data.datasets.tables import read_bytes, read_table
from samplecnn.data.datasets.tags import warn_of_mistakes
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


def catalog(raw: str | Path, name: str = "mtat") -> Catalog:
    """Read the annotations of a folder in MTAT's layout; any number of tags and clips.

    Audio files are not looked at: those that are missing or cannot be decoded are skipped, and listed, when
    the store is prepared.

    Raises `CatalogError`, with the line's number where there is one, for a missing folder or annotation file
    and for annotations that are not in the format above: nothing is guessed or repaired.
    """
    raw = Path(raw)
    if not raw.is_dir():
        raise CatalogError(f"no such data folder: {raw} (data.raw names the folder with {ANNOTATIONS[0]})")
    file = next((raw / file for file in ANNOTATIONS if (raw / file).is_file()), None)
    if file is None:
        raise CatalogError(f"no annotations in {raw}: looked for {' and '.join(ANNOTATIONS)}")
    tags, clips = _read(file)

    def parts(excluded: frozenset[str]) -> tuple[str | None, ...]:
        return tuple(None if clip.path in excluded else _part(clip.path) for clip in clips)

    made = Catalog(
        name=name,
        audio=raw / "mp3" if (raw / "mp3").is_dir() else raw,
        tags=tags,
        clips=clips,
        splits={
            "clean": Split(parts(UNDECODABLE | NOT_IN_CLEAN), drop_untagged=True),
            "pons": Split(parts(UNDECODABLE), drop_untagged=False),
        },
        source={"layout": "mtat", "annotations_sha256": hashlib.sha256(read_bytes(file)).hexdigest()},
    )
    warn_of_mistakes(made)
    return made


def _part(path: str) -> str:
    return "train" if path[0] < "c" else "valid" if path[0] == "c" else "test"


def _read(file: Path) -> tuple[tuple[str, ...], tuple[Clip, ...]]:
    """Tags in column order and clips in row order, or a `CatalogError` that names the line."""
    table = read_table(file, ("clip_id", "mp3_path"))
    tags = tuple(column for column in table.header if column not in ("clip_id", "mp3_path"))
    if not tags:
        raise CatalogError(f"{file}, line 1: no tag columns beside clip_id and mp3_path")
    for column in ("clip_id", "mp3_path"):
        table.require_distinct(column)
    clips = []
    for where, cells in table:
        path = cells["mp3_path"]
        if not CLIP_PATH.fullmatch(path):
            raise CatalogError(f"{where}: mp3_path {path!r}: allowed is DIR/NAME with DIR one of 0-9 and a-f")
        for tag in tags:
            if cells[tag] not in ("0", "1"):
                raise CatalogError(f"{where}, column {tag!r}: {cells[tag]!r}, allowed are 0 and 1")
        clips.append(
            Clip(cells["clip_id"], path, tuple(i for i, tag in enumerate(tags) if cells[tag] == "1"))
        )
    return tags, tuple(clips)


def compare(store: Store) -> list[str]:
    """Put the counts of a store of MagnaTagATune beside the published ones, which are for the top 50 tags.

    Names every clip that may make a difference, with its reason. Of another data set in this layout nothing
    is published: no lines.
    """
    if (len(store.clip_ids) + len(store.skipped), len(store.tags)) != ORIGINAL:
        return []
    lines = []
    for name, counts in store.count_clips(top=50).items():
        lines.append(f"split {name}, top 50 tags, clips:")
        for part, count, published in zip(PARTS, counts, PUBLISHED[name], strict=True):
            lines.append(
                f"  {part:5} {count:7,}, published {published:7,}, difference {count - published:+,}"
            )
        excluded = UNDECODABLE | NOT_IN_CLEAN if name == "clean" else UNDECODABLE
        untagged = " (counts if it has one of these tags)" if store.splits[name].drop_untagged else ""
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
