"""Tables as spreadsheets and scripts write them: one reader, the same rows out of every kind."""

import gzip
from pathlib import Path

import pytest

from samplecnn.data.catalog import CatalogError
from samplecnn.data.datasets import folder, mtat, tables
from samplecnn.data.datasets.tables import read_table

PLAIN = "path,tags\na.wav,rock; pop\nb.wav,jazz\n"
ROWS = [{"path": "a.wav", "tags": "rock; pop"}, {"path": "b.wav", "tags": "jazz"}]


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode(),
        PLAIN.encode("utf-8-sig"),
        PLAIN.replace("\n", "\r\n").encode("utf-8-sig"),
        PLAIN.replace("\n", "\r").encode(),
        PLAIN.encode("utf-16"),
        PLAIN.encode("utf-16-le"),
        b"\xfe\xff" + PLAIN.encode("utf-16-be"),
        PLAIN.replace(",", "\t").encode(),
        b'path;tags\na.wav;"rock; pop"\nb.wav;jazz\n',
        b'"path";"tags"\n"a.wav";"rock; pop"\n"b.wav";"jazz"\n',
        PLAIN.replace("path,tags", " Path ,TAGS").encode(),
        PLAIN.replace(",", " , ").encode(),
        f"\n , \n{PLAIN}\n,\n,,,\n".encode(),
        PLAIN.replace("\n", ",\n").encode(),
        PLAIN.replace("pop\n", "pop,,,\n").encode(),
        PLAIN.rstrip().encode(),
    ],
)
def test_the_same_rows_from_every_kind(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "tags.csv"
    file.write_bytes(content)
    assert [cells for _, cells in read_table(file, ("path", "tags"))] == ROWS


def test_the_columns_that_are_needed_tell_the_separator(tmp_path: Path) -> None:
    file = tmp_path / "tags.csv"
    file.write_text("path;tags;one, two, three, four\na.wav;rock;x\n")
    assert read_table(file, ("path", "tags")).header == ["path", "tags", "one, two, three, four"]


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "tags.csv"
    file.write_text('path,tags\n\n"a\nb.wav",rock\n\nc.wav,jazz\n')
    places = [where for where, _ in read_table(file, ("path", "tags"))]
    assert places == [f"{file}, line 4", f"{file}, line 6"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,tags\na.wav,früh\n".encode("cp1252"), r"line 2: not UTF-8 .*save it as UTF-8 .*'CSV UTF-8'"),
        (PLAIN.encode("utf-16")[:-1], r"tags\.csv, line .*: not UTF-8"),
        (b"\x1f\x8b\x08 no text", "line 1: not UTF-8"),
        (
            b"path,tags\na.wav,rock,pop\n",
            "line 2: 3 columns, the header has 2, separated by commas: a cell that holds one has",
        ),
        (
            b"path,tags\na.wav\trock\n",
            "line 2: 1 columns, the header has 2, separated by commas: so has every line",
        ),
        (b'path,tags\n"Heroes" live.wav,rock\n', 'line 2: not a comma-separated table.*"""Heroes"" live'),
        (b"# made by me\npath,tags\n", "line 1: no column 'path' in the header, which has '# made by me'"),
        (b"path,rock,jazz,a,b,c,d,e\n", r"which has 'path', .* and 2 more .*needed are path, tags"),
        (b"Path,tags,path\nx,y,z\n", "columns that appear twice: 'path'"),
        (b"path,tags\n\n,\n", "no rows, only the header"),
        (b"", "the header, which has nothing"),
        (b"path,tags\na.wav," + b"x" * 200_000, "not a comma-separated table .*field larger"),
    ],
)
def test_what_is_no_table_is_a_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "tags.csv"
    file.write_bytes(content)
    with pytest.raises(CatalogError, match=message):
        read_table(file, ("path", "tags"))


def test_sizes_are_checked_before_all_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_BYTES", 1000)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(bytes(10_000_000)))
    (tmp_path / "a.csv").write_bytes(bytes(1001))
    for name in ("a.csv", "a.csv.gz"):
        with pytest.raises(CatalogError, match="more than 1,000 bytes"):
            read_table(tmp_path / name, ("path",))


def test_every_catalogue_reads_every_kind(tmp_path: Path) -> None:
    """What one takes, the others take as well."""
    header, rows = "clip_id\trock\tmp3_path\n", "".join(f"{d}\t{int(d, 16) % 2}\t{d}/x.mp3\n" for d in "1cf")
    for content in (
        (header + rows).encode("utf-8-sig"),
        (header + rows).replace("\n", "\r\n").encode(),
        (header + rows + "\n").encode(),
        (header + rows).replace("\t", ",").encode(),
        (header + rows).encode("utf-16"),
    ):
        (tmp_path / "annotations_final.csv").write_bytes(content)
        made = mtat.catalog(tmp_path)
        assert [clip.id for clip in made.clips] == ["1", "c", "f"]
        assert made.tags == ("rock",)
    (tmp_path / "tags.csv").write_bytes("path\ttags\na.wav\tx\nb.wav\ty\nc.wav\tx\n".encode("utf-16"))
    assert folder.catalog(tmp_path).tags == ("x", "y")
