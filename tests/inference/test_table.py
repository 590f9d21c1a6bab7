"""Tables of tagged files: rows whole or absent, gone on with, and no other file's end."""

import csv
import json
import os
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samplecnn.data.audio import AudioError
from samplecnn.errors import UserError
from samplecnn.files import locked
from samplecnn.inference.many import Heard, Stamp
from samplecnn.inference.table import ENDINGS, Source, open_table
from samplecnn.inference.timeline import Timeline

TAGS = ("=guitar", "path", "solo | loud")
SOURCE = Source("made", "ab" * 8, "1.0", "mean", 0.0, TAGS)


@pytest.fixture(params=ENDINGS)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == ".parquet":
        pytest.importorskip("pyarrow")
    return tmp_path / f"tags{request.param}"


def heard(path: Path, loud: float = 0.25, error: str | None = None, warning: str | None = None) -> Heard:
    stamp = Stamp.of(path)
    if error is not None:
        return Heard(path, stamp, error=AudioError(error, path))
    rows = np.array([[0.5, 1, loud], [0, 1, loud]], dtype=np.float32)
    envelope = np.zeros((2, 0), dtype=np.float32)
    return Heard(path, stamp, Timeline(TAGS, np.array([0, 2.5]), rows, 5.1234, 2.5, envelope), warning)


def lines_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.jsonl") if file.suffix == ".parquet" else file


def read(file: Path) -> list[tuple[Any, Any, Any]]:
    """Path, probability of the last tag, and error, as any program reads them."""
    if file.suffix == ".csv":
        with file.open(newline="") as text:
            rows = list(csv.DictReader(text))
        return [(row["path"], float(row[TAGS[2]]) if row[TAGS[2]] else None, row["error"]) for row in rows]
    if file.suffix == ".jsonl":
        lines = list(map(json.loads, file.read_text().splitlines()))
        return [(line["path"], line["tags"] and line["tags"][TAGS[2]], line["error"]) for line in lines]
    if file.suffix == ".sqlite":
        asked = (
            "SELECT path, probability, error FROM files "
            "LEFT JOIN probabilities ON file = id AND tag = ? ORDER BY id"
        )
        with sqlite3.connect(file) as database:
            found = list(database.execute(asked, (TAGS[2],)))
        database.close()
        return found
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(file).to_pylist()
    return [(row["path"], row[TAGS[2]], row["error"]) for row in table]


def song(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text(name)
    return path


def test_rows_stay_and_are_replaced(file: Path, tmp_path: Path) -> None:
    a, b, c = (song(tmp_path, name) for name in ('a é,".wav', "b.wav", "c.wav"))
    with open_table(file, SOURCE) as table:
        table.write(heard(a, 0.25))
        table.write(heard(b, error="holds no samples"))
    assert read(file) == [(str(a), 0.25, ""), (str(b), None, "holds no samples")]
    b.write_text("longer")
    with open_table(file, replace(SOURCE, samplecnn="2.0", model="moved")) as table:
        assert table.has(a)
        when = a.stat().st_mtime_ns
        os.utime(a, ns=(when, when + 10**9))  # of the same size
        assert not table.has(a)
        os.utime(a, ns=(when, when))
        assert not table.has(b)
        assert not table.has(c)
        table.write(heard(c, 0.75, warning="incomplete"))
        table.write(heard(b, 0.5))
        assert table.has(b)
    assert sorted(read(file)) == [(str(a), 0.25, ""), (str(b), 0.5, ""), (str(c), 0.75, "")]
    with open_table(file, SOURCE) as table:
        rows = {row.path: row for row in table.rows()}
    assert rows[str(a)].tags == {"=guitar": 0.25, "path": 1.0, "solo | loud": 0.25}
    assert rows[str(a)].stamp == Stamp.of(a)
    assert rows[str(c)].warning == "incomplete"
    assert not list(tmp_path.glob(".*lock"))


def test_rows_that_a_killed_run_had_replaced(tmp_path: Path) -> None:
    """Are gone when the table is opened: nobody reads what a file was before it changed."""
    song_file = song(tmp_path, "a.wav")
    for ending in (".csv", ".jsonl"):
        file = tmp_path / f"tags{ending}"
        table = open_table(file, SOURCE)
        opened = table.__enter__()
        opened.write(heard(song_file, 0.25))
        opened.write(heard(song_file, 0.75))
        assert len(read(file)) == 2  # as a kill would leave it
        copy = tmp_path / f"copy{ending}"
        copy.write_bytes(file.read_bytes())
        table.__exit__(None, None, None)
        with open_table(copy, SOURCE) as opened:
            assert [row.tags and row.tags["solo | loud"] for row in opened.rows()] == [0.75]
        assert read(file) == read(copy) == [(str(song_file), 0.75, "")]


def test_a_file_that_is_not_there(file: Path, tmp_path: Path) -> None:
    """Is not tried again until it is."""
    missing = tmp_path / "missing.wav"
    with open_table(file, SOURCE) as table:
        table.write(heard(missing, error="no such file"))
    with open_table(file, SOURCE) as table:
        assert table.has(missing)
        missing.write_text("here")
        assert not table.has(missing)


@pytest.mark.parametrize("keep", [0, 1, 5, 40, -30, -2, -1])
def test_a_cut_line_is_dropped(file: Path, tmp_path: Path, keep: int) -> None:
    """Wherever a full disk or a kill cut it; what is before it stays."""
    if file.suffix == ".sqlite":
        pytest.skip("has transactions")
    songs = [song(tmp_path, f"{number}.wav") for number in range(3)]
    with open_table(file, SOURCE) as table:
        for path in songs:
            table.write(heard(path))
    whole = read(file)
    data = lines_of(file).read_bytes()
    lines_of(file).write_bytes(data[:keep])
    with open_table(file, SOURCE) as table:
        left = [path for path in songs if not table.has(path)]
        assert left
        for path in left:
            table.write(heard(path))
    assert read(file) == whole
    assert lines_of(file).read_bytes() == data


@pytest.mark.parametrize(
    "other",
    [
        replace(SOURCE, model_hash="cd" * 8),
        replace(SOURCE, average="max"),
        replace(SOURCE, overlap=0.5),
        replace(SOURCE, tags=("=guitar", "path", "other")),
        replace(SOURCE, tags=TAGS[:2]),
    ],
    ids=["model", "average", "overlap", "tags", "fewer tags"],
)
def test_rows_of_another_source_are_refused(file: Path, tmp_path: Path, other: Source) -> None:
    with open_table(file, SOURCE) as table:
        table.write(heard(song(tmp_path, "a.wav")))
    before = lines_of(file).read_bytes()
    with pytest.raises(UserError, match=r"name another"), open_table(file, other):
        pass
    assert lines_of(file).read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"something else", b"path,tags\na,b\n", b'{"path": "a"}\n', b"\xff\n" * 9]
)
def test_no_other_file_is_written_over(file: Path, content: bytes) -> None:
    lines_of(file).write_bytes(content)
    with pytest.raises(UserError), open_table(file, SOURCE):
        pass
    assert lines_of(file).read_bytes() == content


@pytest.mark.parametrize(
    "changes",
    [
        {"size": "large"},
        {"size": True},
        {"size": 2**70},
        {"mtime": float("nan")},
        {"seconds": {}},
        {"overlap": None},
        {"model": 3},
        {"path": None},
        {"tags": []},
        {"tags": dict.fromkeys(TAGS, 2.0)},
        {"tags": dict.fromkeys(TAGS, 10**400)},
        {"tags": dict.fromkeys(TAGS, "0.5")},
    ],
    ids=str,
)
@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_rows_that_nobody_wrote(tmp_path: Path, ending: str, changes: dict[str, Any]) -> None:
    """Are refused with a sentence: the file may come from elsewhere."""
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    file = tmp_path / f"tags{ending}"
    with open_table(file, SOURCE) as table:
        table.write(heard(song(tmp_path, "a.wav")))
    line = json.loads(lines_of(file).read_text())
    with lines_of(file).open("a") as text:
        text.write(json.dumps({**line, "path": "b.wav", **changes}) + "\n")
    with pytest.raises(UserError, match="line 2, is no row of such a table"), open_table(file, SOURCE):
        pass


@pytest.mark.parametrize("change", ["files SET size = 'large'", "probabilities SET probability = 'high'"])
def test_rows_that_nobody_wrote_in_a_database(tmp_path: Path, change: str) -> None:
    file = tmp_path / "tags.sqlite"
    with open_table(file, SOURCE) as table:
        table.write(heard(song(tmp_path, "a.wav")))
    with sqlite3.connect(file) as database:
        database.execute(f"UPDATE {change}")
    database.close()
    with open_table(file, SOURCE) as table, pytest.raises(UserError, match="file 1, is no row of such"):
        list(table.rows())


@pytest.mark.parametrize(
    "line", [b'"abc\n', b"a,b\rc\n", b"x" * 200_000 + b"\n", b"\n", b"a\n"], ids=range(5)
)
def test_lines_that_are_no_csv(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "tags.csv"
    with open_table(file, SOURCE) as table:
        table.write(heard(song(tmp_path, "a.wav")))
    content = file.read_bytes() + line
    file.write_bytes(content)
    with pytest.raises(UserError, match="line 3, is no row of such a table"), open_table(file, SOURCE):
        pass
    assert file.read_bytes() == content


def test_a_database_that_cannot_be_written(tmp_path: Path) -> None:
    """Is said with the file's name, and what it holds stays: locked by another program, say."""
    file = tmp_path / "tags.sqlite"
    with open_table(file, SOURCE) as table:
        table.write(heard(song(tmp_path, "a.wav")))
        table._database.execute("PRAGMA busy_timeout = 0")  # type: ignore[attr-defined]
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UserError, match=r"tags\.sqlite cannot be used .*\(database is locked\)"):
            table.write(heard(song(tmp_path, "b.wav")))
        other.execute("ROLLBACK")
        other.close()
    assert [path for path, _, _ in read(file)] == [str(tmp_path / "a.wav")]
    (tmp_path / "folder.sqlite").mkdir()
    with (
        pytest.raises(UserError, match="unable to open database file"),
        open_table(tmp_path / "folder.sqlite", SOURCE),
    ):
        pass


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_a_line_without_an_end_is_not_taken_for_a_cut_one(tmp_path: Path, ending: str) -> None:
    """What is behind it would be gone with it."""
    file = tmp_path / f"tags{ending}"
    with open_table(file, SOURCE) as table:
        table.write(heard(song(tmp_path, "a.wav")))
    content = file.read_bytes() + b"x" * (5 << 20) + b"\n"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"longer than 4 MiB"), open_table(file, SOURCE):
        pass
    assert file.read_bytes() == content


def test_probabilities_have_six_digits(file: Path, tmp_path: Path) -> None:
    with open_table(file, SOURCE) as table:
        table.write(heard(song(tmp_path, "a.wav"), 0.12345678))
    [(_, probability, _)] = read(file)
    assert probability == pytest.approx(0.123457, abs=1e-8)


def test_a_database_of_something_else(tmp_path: Path) -> None:
    file = tmp_path / "tags.sqlite"
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE songs (path TEXT)")
    database.close()
    with pytest.raises(UserError, match="no such table"), open_table(file, SOURCE):
        pass


def test_a_parquet_file_without_its_lines(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "tags.parquet").write_bytes(b"PAR1")
    with (
        pytest.raises(UserError, match=r"tags\.parquet\.jsonl is not"),
        open_table(tmp_path / "tags.parquet", SOURCE),
    ):
        pass
    assert (tmp_path / "tags.parquet").read_bytes() == b"PAR1"


def test_two_processes_do_not_write_one_table(file: Path) -> None:
    with (
        locked(file.with_name(f".{file.name}.lock")),
        pytest.raises(UserError, match="another process is writing"),
        open_table(file, SOURCE),
    ):
        pass


def test_formats(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"allowed are \.csv, \.jsonl, \.sqlite, \.parquet"):
        open_table(tmp_path / "tags.txt", SOURCE).__enter__()
    with pytest.raises(UserError, match="there is no folder"):
        open_table(tmp_path / "none" / "tags.csv", SOURCE).__enter__()


def test_names_that_do_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spreadsheet and a terminal take no orders; a name that is no text is a row all the same."""
    monkeypatch.chdir(tmp_path)
    names = ["=1+1.wav", "esc\x1b[31m.wav", "no\udce9text.wav", "two\nlines.wav"]
    paths = [Path(name) for name in names]
    for path in paths:
        path.write_text("x")
    for ending in (".csv", ".jsonl", ".sqlite"):
        file = tmp_path / f"tags{ending}"
        for _ in range(2):
            with open_table(file, replace(SOURCE, model="=1+1")) as table:
                for path in paths:
                    if not table.has(path):
                        table.write(heard(path, warning="@odd"))
        found = [path for path, _, _ in read(file)]
        assert len(found) == len(set(found)) == 4
        if ending == ".jsonl":
            assert found == names
        if ending == ".csv":
            assert found[0] == "./=1+1.wav"
            assert file.read_text().count(",'@odd,'=1+1,") == 4
            assert "\x1b" not in file.read_text()
            assert "'=guitar" in file.read_text().splitlines()[0]
            assert "tag path" in file.read_text().splitlines()[0].split(",")
