"""MTAT's annotations against the published lists, and everything that is refused."""

import csv
import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from samplecnn.data.catalog import Catalog, CatalogError, Clip, Split
from samplecnn.data.datasets import mtat

SHARED = Path(__file__).parents[3] / "shared/mtat"
needs_metadata = pytest.mark.skipif(
    not SHARED.exists(), reason="MTAT's metadata (shared/mtat) is not beside this checkout"
)
HEADER = "clip_id\tloud\tslow\tmp3_path"


def annotate(folder: Path, *lines: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "annotations_final.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def full() -> Catalog:
    return mtat.catalog(SHARED)


@needs_metadata
def test_top_tags_are_those_of_the_paper(full: Catalog) -> None:
    assert (len(full.clips), len(full.tags)) == (25_863, 188)
    order = np.argsort(-full.labels().sum(axis=0, dtype=int), kind="stable")
    top = [full.tags[column] for column in order[:50]]
    assert top[:5] == ["guitar", "classical", "slow", "techno", "strings"]
    assert top[5:10] == ["drums", "electronic", "rock", "fast", "piano"]
    assert top[-3:] == ["metal", "female voice", "choral"]


@needs_metadata
def test_clean_split_is_the_published_one(full: Catalog) -> None:
    labels = full.labels()
    order = np.argsort(-labels.sum(axis=0, dtype=int), kind="stable")
    tagged = labels[:, order[:50]].max(axis=1).tolist()
    by_rule = Counter(mtat._part(clip.path) for clip, tag in zip(full.clips, tagged, strict=True) if tag)
    assert by_rule == {"train": 15_250, "valid": 1_529, "test": 4_332}

    clean = full.splits["clean"]
    assert clean.drop_untagged
    ours = {
        (part, clip.path)
        for part, clip, tag in zip(clean.parts, full.clips, tagged, strict=True)
        if tag and part is not None
    }
    with (SHARED / "clean_split.csv").open(newline="") as file:
        published = {(row["split"], row["mp3_path"]) for row in csv.DictReader(file)}
    assert len(published) == 15_244 + 1_529 + 4_332
    assert ours == published


@needs_metadata
def test_pons_split_has_the_published_counts(full: Catalog) -> None:
    pons = full.splits["pons"]
    assert not pons.drop_untagged
    assert Counter(pons.parts) == {"train": 18_706, "valid": 1_825, "test": 5_329, None: 3}
    left_out = {clip.path for part, clip in zip(pons.parts, full.clips, strict=True) if part is None}
    assert left_out == mtat.UNDECODABLE


def test_small_folder(tmp_path: Path) -> None:
    annotate(
        tmp_path,
        'loud\t"mp3_path"\tclip_id\t"so ""slow"""\r',
        '1\t"0/a name, with commas.mp3"\t7\t"0"\r',
        "0\tc/ö.mp3\tx\t1\r",
        "1\tf/b.wav\ty\t1\r",
    )
    small = mtat.catalog(tmp_path, "small")
    assert small.name == "small"
    assert small.tags == ("loud", 'so "slow"')
    assert small.audio == tmp_path
    assert small.clips[0] == Clip("7", "0/a name, with commas.mp3", (0,))
    assert small.clips[2] == Clip("y", "f/b.wav", (0, 1))
    assert small.splits["clean"].parts == small.splits["pons"].parts == ("train", "valid", "test")
    np.testing.assert_array_equal(small.labels(), [[1, 0], [0, 1], [1, 1]])

    (tmp_path / "mp3").mkdir()
    assert mtat.catalog(tmp_path).audio == tmp_path / "mp3"


def test_compressed_annotations_give_the_same_catalogue(tmp_path: Path) -> None:
    plain = mtat.catalog(annotate(tmp_path, HEADER, "1\t0\t1\t0/a.mp3"))
    content = (tmp_path / "annotations_final.csv").read_bytes()
    (tmp_path / "annotations_final.csv").unlink()
    (tmp_path / "annotations_final.csv.gz").write_bytes(gzip.compress(content))
    assert mtat.catalog(tmp_path) == plain
    assert mtat.catalog(tmp_path).fingerprints() == plain.fingerprints()

    (tmp_path / "annotations_final.csv.gz").write_bytes(gzip.compress(content)[:-9])
    with pytest.raises(CatalogError, match="cannot be read"):
        mtat.catalog(tmp_path)


GOOD = "1\t0\t1\t0/a.mp3"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["id\tloud\tmp3_path", "1\t0\t0/a.mp3"], "line 1: no column 'clip_id'"),
        (["clip_id\tloud\tfile", "1\t0\t0/a.mp3"], "line 1: no column 'mp3_path'"),
        (["clip_id loud mp3_path", "1 0 0/a.mp3"], "line 1: no column 'clip_id' in the header"),
        (["clip_id\tmp3_path", "1\t0/a.mp3"], "line 1: no tag columns"),
        (["clip_id\tloud\tloud\tmp3_path", GOOD], "line 1: columns that appear twice: 'loud'"),
        (["clip_id\tloud\t\tmp3_path", GOOD], "tag ''"),
        ([HEADER], "no rows, only the header"),
        ([""], "no column 'clip_id'"),
        ([HEADER, GOOD, "1\t0\t1\t0/b.mp3"], "line 3: clip_id '1' is also on line 2"),
        ([HEADER, GOOD, "2\t0\t1\t0/a.mp3"], "line 3: mp3_path '0/a.mp3' is also on line 2"),
        ([HEADER, GOOD, "2\t0\t1"], "line 3: 3 columns, the header has 4"),
        ([HEADER, GOOD, "", "2\t0\t0/b.mp3"], "line 4: 3 columns"),
        ([HEADER, GOOD, "2\t0\t1\t0/b.mp3\t1"], "line 3: 5 columns"),
        ([HEADER, "1\t0\t2\t0/a.mp3"], "line 2, column 'slow': '2', allowed are 0 and 1"),
        ([HEADER, "1\t\t1\t0/a.mp3"], "line 2, column 'loud': '', allowed"),
        ([HEADER, GOOD, '2\t0\t1\t"0/b.mp3'], "line 3: not a tab-separated table"),
        *(
            ([HEADER, f"1\t0\t1\t{path}"], r"line 2: mp3_path .*: allowed is DIR/NAME")
            for path in ("0/../a.mp3", "../a.mp3", "0/..", "0/.", "/0/a.mp3", "g/a.mp3", "A/a.mp3", "a.mp3")
        ),
        *(
            ([HEADER, f"1\t0\t1\t{path}"], r"line 2: mp3_path .*: allowed is DIR/NAME")
            for path in ("00/a.mp3", "0/b/a.mp3", "0/", "", "0/a\0.mp3", "0/..\\a.mp3")
        ),
    ],
)
def test_bad_annotations_are_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(CatalogError, match=message) as caught:
        mtat.catalog(annotate(tmp_path, *lines))
    assert "annotations_final.csv" in str(caught.value) or message == "tag ''"


def test_line_numbers_count_lines_not_rows(tmp_path: Path) -> None:
    annotate(tmp_path, 'clip_id\t"a\nb"\tmp3_path', "1\t0\t0/a.mp3", "2\tx\t0/b.mp3")
    with pytest.raises(CatalogError, match="line 4, column"):
        mtat.catalog(tmp_path)


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "annotations_final.csv").write_bytes(f"{HEADER}\n1\t0\t1\t0/".encode() + b"\xe9.mp3\n")
    with pytest.raises(CatalogError, match="line 2: not UTF-8"):
        mtat.catalog(tmp_path)


def test_missing_folder_and_missing_annotations(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"no such data folder: .*nowhere"):
        mtat.catalog(tmp_path / "nowhere")
    with pytest.raises(CatalogError, match=r"looked for annotations_final\.csv and .*\.csv\.gz"):
        mtat.catalog(tmp_path)


def make(
    clips: tuple[Clip, ...] = (Clip("1", "a.wav", (0,)),),
    parts: tuple[str | None, ...] = ("train",),
    name: str = "x",
    tags: tuple[str, ...] = ("loud", "slow"),
) -> Catalog:
    return Catalog(name, Path("audio"), tags, clips, {"mine": Split(parts, drop_untagged=False)}, {})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "a/b"}, "name 'a/b': allowed are letters"),
        ({"name": ".."}, "name '..'"),
        ({"name": ""}, "name ''"),
        ({"clips": (), "parts": ()}, "no clips"),
        ({"tags": ()}, "no tags"),
        ({"tags": ("loud", "loud")}, "tag 'loud' appears twice"),
        ({"clips": (Clip("1", "a", ()), Clip("1", "b", ()))}, "clip id '1' appears twice"),
        ({"clips": (Clip("1", "a", ()), Clip("2", "a", ()))}, "path 'a' appears twice"),
        ({"clips": (Clip("1\t2", "a", ()),)}, "control characters"),
        ({"clips": (Clip("1", "\udce4.wav", ()),)}, r"path '\\udce4\.wav': has to be one line of text"),
        ({"clips": (Clip("1", "../a", ()),)}, r"path '\.\./a': allowed are paths below"),
        ({"clips": (Clip("1", "/a", ()),)}, "path '/a'"),
        ({"clips": (Clip("1", "./a", ()),)}, "path './a'"),
        ({"clips": (Clip("1", "a", (2,)),)}, r"tags \(2,\): allowed are 0 to 1"),
        ({"clips": (Clip("1", "a", (-1,)),)}, r"tags \(-1,\)"),
        ({"parts": ("train", "train")}, "split 'mine' is for 2 of 1 clips"),
        ({"parts": ("dev",)}, r"split 'mine' has parts \['dev'\]: allowed are .*train"),
    ],
)
def test_bad_catalogues_are_refused(wrong: dict[str, tuple[Clip, ...]], message: str) -> None:
    make()
    with pytest.raises(CatalogError, match=message):
        make(**wrong)  # type: ignore[arg-type]


def test_fingerprints_tell_what_differs() -> None:
    base = make().fingerprints()
    assert make().fingerprints() == base

    def different(**change: object) -> set[str]:
        other = make(**change).fingerprints()  # type: ignore[arg-type]
        return {piece for piece in base if other[piece] != base[piece]}

    assert different(name="y") == set()
    assert different(tags=("loud", "fast")) == {"tags"}
    assert different(clips=(Clip("1", "a.wav", (1,)),)) == {"clips"}
    assert different(parts=("valid",)) == {"splits"}
