"""Tags in music files: one field, nothing else, and back."""

import json
import os
import struct
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from samplecnn.errors import UserError
from samplecnn.inference import file_tags
from samplecnn.inference.file_tags import FIELD, undo

mutagen = pytest.importorskip("mutagen")

TAGS = ["rock", "dance; pop/soul", "日本"]
WHEN = 1_000_000_000
KINDS = ("mp3", "flac", "ogg", "opus", "wav", "aiff", "m4a")


def song(path: Path) -> Path:
    """A second of noise; of an M4A file the boxes alone, which is what has tags in it."""
    if path.suffix == ".m4a":
        kind = b"M4A \0\0\0\0M4A isom"
        path.write_bytes(struct.pack(">I", 8 + len(kind)) + b"ftyp" + kind + struct.pack(">I", 8) + b"moov")
    else:
        opus = path.suffix == ".opus"
        options = {"format": "OGG", "subtype": "OPUS"} if opus else {}
        noise = np.random.default_rng(0).uniform(-0.3, 0.3, 48_000)
        soundfile.write(path, noise, 48_000, **options)
    os.utime(path, (WHEN, WHEN))
    path.chmod(0o640)
    return path


def sound(path: Path) -> Any:
    return path.suffix == ".m4a" or soundfile.read(path)[0].tolist()


def put(path: Path, field: str, values: list[str], journal: Path) -> None:
    change = file_tags.change(path, field, values)
    assert change is not None
    file_tags.apply(change, journal)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", [FIELD, "genre", "My field"])
def test_written_and_taken_back(tmp_path: Path, kind: str, field: str) -> None:
    path, journal = song(tmp_path / f"a.{kind}"), tmp_path / "undo.jsonl"
    before, content = sound(path), path.read_bytes()
    put(path, field, TAGS, journal)
    assert file_tags.read(path, field) == TAGS
    assert file_tags.change(path, field, TAGS) is None
    put(path, field, TAGS[:1], journal)
    status = path.stat()
    assert (status.st_mtime, status.st_mode & 0o777) == (WHEN, 0o640)
    assert sound(path) == before
    for _ in range(2):
        assert list(undo(journal)) == [(str(path), None)]
        assert file_tags.read(path, field) == []
    if kind in ("mp3", "wav", "aiff"):  # others have a place for tags also where there are none
        assert path.read_bytes() == content
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name, "undo.jsonl"]


@pytest.mark.parametrize("kind", ["mp3", "flac", "m4a"])
def test_no_other_field_is_touched(tmp_path: Path, kind: str) -> None:
    path = song(tmp_path / f"a.{kind}")
    put(path, "genre", ["Krautrock"], tmp_path / "first.jsonl")
    put(path, "OTHER", ["kept"], tmp_path / "first.jsonl")
    put(path, FIELD, TAGS, tmp_path / "second.jsonl")
    assert file_tags.read(path, "genre") == ["Krautrock"]
    assert file_tags.read(path, "OTHER") == ["kept"]
    put(path, "genre", ["rock"], tmp_path / "third.jsonl")
    assert [reason for _, reason in undo(tmp_path / "third.jsonl")] == [None]
    assert file_tags.read(path, "genre") == ["Krautrock"]
    assert file_tags.read(path, FIELD) == TAGS


def test_version_2_3_stays_with_its_dates(tmp_path: Path) -> None:
    """Old players read no other, and mutagen would rewrite them."""
    from mutagen.id3 import ID3, TDAT, TIT2, TYER

    path = song(tmp_path / "a.mp3")
    old = ID3()
    old.add(TIT2(encoding=1, text="título"))
    old.add(TYER(encoding=0, text="1999"))
    old.add(TDAT(encoding=0, text="3112"))
    old.save(path, v2_version=3)
    put(path, FIELD, TAGS, tmp_path / "undo.jsonl")
    found = ID3(path, translate=False)
    assert found.version == (2, 3, 0)
    assert [str(found[name]) for name in ("TIT2", "TYER", "TDAT")] == ["título", "1999", "3112"]
    assert file_tags.read(path, FIELD) == TAGS


def test_what_was_changed_since_is_left(tmp_path: Path) -> None:
    path, journal = song(tmp_path / "a.mp3"), tmp_path / "undo.jsonl"
    put(path, FIELD, TAGS, journal)
    file_tags.write(path, FIELD, ["mine"])
    gone = song(tmp_path / "b.mp3")
    put(gone, FIELD, TAGS, journal)
    gone.unlink()
    (_, of_path), (_, of_gone) = undo(journal)
    assert of_gone is not None
    assert "No such file" in of_gone
    assert of_path == f"{path}: {FIELD} has been changed since, to ['mine']"
    assert file_tags.read(path, FIELD) == ["mine"]


def test_the_journal_is_there_before_the_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stops the change: what is in the journal can be taken back, and the file is whole."""
    path, journal = song(tmp_path / "a.flac"), tmp_path / "undo.jsonl"
    before = path.read_bytes()

    def full(*_: Any) -> None:
        assert json.loads(journal.read_text())["after"] == TAGS
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        patched.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            put(path, FIELD, TAGS, journal)
    assert path.read_bytes() == before
    assert [reason for _, reason in undo(journal)] == [None]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.flac", "undo.jsonl"]


def test_a_change_that_was_noted_but_not_made(tmp_path: Path) -> None:
    """The file is as an earlier change has left it, and is taken back all the same."""
    path, journal = song(tmp_path / "a.mp3"), tmp_path / "undo.jsonl"
    for values in (TAGS, TAGS[:1]):
        put(path, FIELD, values, journal)
    change = file_tags.change(path, FIELD, TAGS[1:])
    assert change is not None
    with journal.open("a") as file:
        file.write(json.dumps(asdict(change)) + "\n")
    assert [reason for _, reason in undo(journal)] == [None]
    assert file_tags.read(path, FIELD) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to others")
def test_the_owner_stays(tmp_path: Path) -> None:
    path = song(tmp_path / "a.mp3")
    os.chown(path, 12345, 54321)
    put(path, FIELD, TAGS, tmp_path / "undo.jsonl")
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321)


def test_a_link_stays_one(tmp_path: Path) -> None:
    path = song(tmp_path / "a.mp3")
    link = tmp_path / "link.mp3"
    link.symlink_to("a.mp3")
    put(link, FIELD, TAGS, tmp_path / "undo.jsonl")
    assert link.is_symlink()
    assert file_tags.read(path, FIELD) == TAGS


@pytest.mark.parametrize(("name", "content"), [("a.mp3", b"no music"), ("a.flac", b"fLaC"), ("a.txt", b"")])
def test_files_without_tags(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=name):
        file_tags.change(path, FIELD, TAGS)
    assert path.read_bytes() == content


def test_a_journal_that_was_cut_goes_on(tmp_path: Path) -> None:
    """The cut line is dropped; all changes before and behind it are taken back."""
    path, journal = song(tmp_path / "a.mp3"), tmp_path / "undo.jsonl"
    file_tags.begin_journal(journal)
    assert not journal.exists()
    put(path, FIELD, TAGS, journal)
    good = journal.read_text()
    for cut in (0, 1, 5, 40, len(good) - 1):
        journal.write_text(good + good[:cut])
        file_tags.begin_journal(journal)
        assert journal.read_text() == good
    put(path, FIELD, TAGS[:1], journal)
    assert [reason for _, reason in undo(journal)] == [None]
    assert file_tags.read(path, FIELD) == []


@pytest.mark.parametrize("content", [b"my notes", b"my notes\n", b'{"path": "a"}\n', b"\0" * 9])
def test_no_other_file_becomes_a_journal(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "notes"
    file.write_bytes(content)
    with pytest.raises(UserError, match="notes, line 1, is no change of a journal"):
        file_tags.begin_journal(file)
    assert file.read_bytes() == content


@pytest.mark.parametrize("field", ["", "music/", "song.mp3", "a=b", "TXXX:x", "é", "x" * 61])
def test_names_of_fields(field: str) -> None:
    with pytest.raises(UserError, match="is no name of a field"):
        file_tags.require_library(field)


@pytest.mark.parametrize(
    "line", ["no json", "[]", "{}", '{"path": "a", "field": "X", "before": [1], "after": []}']
)
def test_what_is_no_journal(tmp_path: Path, line: str) -> None:
    """Is said before anything is changed."""
    path, journal = song(tmp_path / "a.mp3"), tmp_path / "undo.jsonl"
    put(path, FIELD, TAGS, journal)
    good = journal.read_text()
    journal.write_text(f"{line}\n{good}")
    with pytest.raises(UserError, match="line 1"):
        list(undo(journal))
    assert file_tags.read(path, FIELD) == TAGS
    journal.write_text(good + good[: len(good) // 2])  # cut, and so without a change
    assert [reason for _, reason in undo(journal)] == [None]
