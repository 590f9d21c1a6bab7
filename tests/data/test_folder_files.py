"""The files of your own music: links, copies, names that a table has otherwise, and what is no audio."""

import filecmp
import os
import shutil
from pathlib import Path

import pytest

from data.music import parts_of, table
from data.shaped import write_audio
from samplecnn.data.catalog import CatalogError
from samplecnn.data.datasets import folder


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    for number in range(4):
        write_audio(tmp_path / f"elsewhere/{number}.wav", 0.1)
    raw = tmp_path / "raw"
    write_audio(raw / "rock/loud.wav", 0.1, seed=1)
    (raw / "jazz").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/circle").symlink_to(raw)
    paths = [clip.path for clip in folder.catalog(raw).clips]
    assert paths == [*(f"jazz/{number}.wav" for number in range(4)), "rock/loud.wav"]


def test_one_file_under_several_tags_by_links_is_one_clip(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(6):
        write_audio(tmp_path / f"all/{number}.wav", 0.1, seed=number)
        for tag in ("jazz", "slow")[: 1 + number % 2]:
            (tmp_path / tag).mkdir(exist_ok=True)
            (tmp_path / f"{tag}/{number}.wav").symlink_to(f"../all/{number}.wav")
    os.link(tmp_path / "all/0.wav", tmp_path / "slow/hard link.wav")
    catalog = folder.catalog(tmp_path)
    names = {clip.id: [catalog.tags[tag] for tag in clip.tags] for clip in catalog.clips}
    jazz, both = ["all", "jazz"], ["all", "jazz", "slow"]
    assert names == {f"all/{n}.wav": both if n % 2 or n == 0 else jazz for n in range(6)}
    assert "10 files have several names by links" in caplog.text
    assert "tags that are on every clip: 'all', 'jazz'" in caplog.text

    rows = [f"all/{n}.wav,{'xy'[n % 2]},{'G' if n == 5 else ''}" for n in range(6)]
    table(tmp_path, "path,tags,group", *rows, "slow/1.wav,z,G")  # the group of any of its names
    for seed in range(8):
        parts = parts_of(folder.catalog(tmp_path, seed=seed))
        assert parts["all/1.wav"] == parts["all/5.wav"]

    lines = [f"all/{n}.wav,{'xy'[n % 2]},{('train', 'valid', 'test')[n % 3]}" for n in range(6)]
    table(tmp_path, "path,tags,split", *lines, "jazz/1.wav,z,test")
    with pytest.raises(
        CatalogError, match=r"'all/1\.wav' and 'jazz/1\.wav' are one file by a link, in 'valid'"
    ):
        folder.catalog(tmp_path)


def test_the_same_audio_in_two_parts_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(6):  # all of one size
        write_audio(tmp_path / f"{number}.wav", 2.8, seed=number)
    shutil.copy(tmp_path / "0.wav", tmp_path / "copy.wav")
    content = bytearray((tmp_path / "0.wav").read_bytes())
    content[1000] ^= 1  # beside the middle
    (tmp_path / "other.wav").write_bytes(content)
    for name in ("empty", "nothing"):
        (tmp_path / f"{name}.wav").touch()
    rows = [f"{n}.wav,{'xy'[n % 2]},{('train', 'valid', 'test')[n % 3]}" for n in range(6)]
    rows += ["other.wav,y,test", "empty.wav,x,train", "nothing.wav,y,test"]
    folder.catalog(table(tmp_path, "path,tags,split", *rows))
    assert not caplog.records
    folder.catalog(table(tmp_path, "path,tags,split", *rows, "copy.wav,x,train"))
    assert not caplog.records
    folder.catalog(table(tmp_path, "path,tags,split", *rows, "copy.wav,x,test"))
    (record,) = caplog.records
    assert (
        "1 file has the same audio as one in another part of the split, such as '0.wav' and 'copy.wav'"
        in (record.getMessage())
    )
    caplog.clear()
    folder.catalog(table(tmp_path, "path,tags,split", *rows, "copy.wav,y,train"))
    (record,) = caplog.records
    assert "the same audio as one with other tags" in record.getMessage()


def test_files_that_cannot_be_read_are_left_to_the_preparation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        write_audio(tmp_path / f"{'xy'[number % 2]}/{number}.wav", 0.1)  # the same audio

    def refuse(*files: Path, **_: object) -> bool:
        raise PermissionError(13, "Permission denied", str(files[0]))

    monkeypatch.setattr(filecmp, "cmp", refuse)  # root may read everything
    assert len(folder.catalog(tmp_path).clips) == 6


def test_names_that_differ_from_those_on_the_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In Unicode form alone: found. In case, ending or spaces: skipped, and said with what may be meant."""
    for name in ("u\u0308ber", "b", "c", "d e"):
        write_audio(tmp_path / f"{name}.wav", 0.1, seed=len(name))
    catalog = folder.catalog(
        table(tmp_path, "path,tags", "\u00fcber.wav,x", "b.wav,y", "c.wav,x", "d e.wav,y")
    )
    assert catalog.clips[0].path == "u\u0308ber.wav"
    assert all((tmp_path / clip.path).is_file() for clip in catalog.clips)
    assert "not there" not in caplog.text
    for wrong, meant in (("B.WAV", "b.wav"), ("b", "b.wav"), ("b.mp3", "b.wav"), ("de.wav", "d e.wav")):
        caplog.clear()
        folder.catalog(table(tmp_path, "path,tags", "gone.wav,x", f"{wrong},x", "c.wav,y"))
        assert f"2 of 3 files of {tmp_path / 'tags.csv'} are not there" in caplog.text
        assert f"such as {wrong!r}; is {meant!r} meant?" in caplog.text


def test_a_name_that_is_no_text_beside_a_table_does_not_matter(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_audio(tmp_path / f"{name}.wav", 0.1)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe4.wav")).touch()
    rows = [f"{name}.wav,{'xy'[index % 2]}" for index, name in enumerate(("a", "b", "c", "gone"))]
    assert len(folder.catalog(table(tmp_path, "path,tags", *rows)).clips) == 4


def test_what_is_left_out_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(4):
        write_audio(tmp_path / f"{('jazz', 'rock')[number % 2]}/{number}.wav", 0.1, seed=number)
    for name in ("jazz/cover.jpg", "rock/cover.JPG", "jazz/notes.txt", "jazz/._1.wav"):
        (tmp_path / name).touch()
    write_audio(tmp_path / "loose.wav", 0.1)
    assert len(folder.catalog(tmp_path).clips) == 4
    assert "4 files passed over: .jpg 2, .txt 1, hidden 1" in caplog.text
    assert "1 file is left out, without a tag, for lying beside the folders, such as loose.wav" in caplog.text
