"""Files that are whole or not there, and folders that are not left behind."""

from pathlib import Path

import pytest

from samplecnn.files import remove_empty, remove_unfinished, write, writing


def fail(path: Path, error: OSError) -> None:
    with writing(path) as file:
        file.write(b"half")
        raise error


def test_an_error_names_the_file_that_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"before")
    with pytest.raises(OSError, match=rf"No space left: '{path}'"):
        fail(path, OSError(28, "No space left"))
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"before"]


def test_a_folder_that_is_not_there_is_said_by_the_file_s_name(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "a"
    with pytest.raises(FileNotFoundError) as caught:
        write(path, "text")
    assert str(caught.value) == f"[Errno 2] No such file or directory: '{path}'"


def test_what_killed_writers_have_left_is_removed(tmp_path: Path) -> None:
    for name in ("results.json", "results.json.123.tmp", "notes.tmp"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.tmp", "results.json"]


def test_empty_folders_are_removed_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for folder in (here / "runs" / "day" / "a", here / "kept" / "b", elsewhere / "day" / "c"):
        folder.mkdir(parents=True)
    (here / "kept" / "file").touch()
    monkeypatch.chdir(here)
    for folder in (Path("runs/day/a"), Path("kept/b"), elsewhere / "day" / "c", Path("kept")):
        remove_empty(folder)
    assert sorted(tmp_path.rglob("*")) == [
        elsewhere,
        elsewhere / "day",
        here,
        here / "kept",
        here / "kept/file",
    ]
