"""The walk through folders of music: what counts, what is left out and said."""

import os
from collections import Counter
from pathlib import Path

import pytest
import soundfile

from samplecnn.data.audio_files import ENDINGS, passed_over, walk


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def relative(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in walk(folder).files]


def test_audio_in_order_and_the_rest_counted(tmp_path: Path) -> None:
    put(tmp_path, "b.WAV", "a.m4a", "c/z.webm", "c/a.snd", "c/d/x.wave", "cover.jpg", "c/cover.jpg", "README")
    put(tmp_path, "._a.mp3", ".git/x.wav")
    assert relative(tmp_path) == ["a.m4a", "b.WAV", "c/a.snd", "c/z.webm", "c/d/x.wave"]
    counts = walk(tmp_path).passed_over
    assert counts == {".jpg": 2, "no ending": 1, "hidden": 1, "hidden folders": 1}
    said = "5 files passed over: .jpg 2, hidden 1, hidden folders 1, no ending 1"
    assert passed_over(counts) == said


def test_links_are_followed_once(tmp_path: Path) -> None:
    put(tmp_path / "music", "rock/a.wav")
    put(tmp_path / "elsewhere", "b.wav")
    (tmp_path / "music/far").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "music/rock/loop").symlink_to("..")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "music")
    (tmp_path / "music/gone.mp3").symlink_to("/nowhere.mp3")
    assert relative(tmp_path / "music") == ["gone.mp3", "far/b.wav", "rock/a.wav"]
    assert walk(tmp_path / "music").passed_over == {"links to folders that are there already": 2}


def test_folders_that_cannot_be_read_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.wav", "secret/b.wav")
    scan = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("secret"):  # root may read everything
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert relative(tmp_path) == ["a.wav"]
    assert walk(tmp_path).passed_over == {"unreadable folders": 1}


def test_many_kinds_are_summed_up_and_odd_ones_are_escaped() -> None:
    counts = Counter({f".{i}": 10 - i for i in range(8)})
    assert passed_over(counts).endswith(".5 5, others 7")
    assert passed_over(Counter({".x\x1b[31m": 1})) == "1 file passed over: '.x\\x1b[31m' 1"


@pytest.mark.parametrize("name", ["wav", "flac", "ogg", "mp3", "aiff", "au", "caf", "w64", "rf64", "opus"])
def test_what_soundfile_writes_has_an_ending_that_counts(tmp_path: Path, name: str) -> None:
    kind = {"opus": "OGG"}.get(name, name.upper())
    assert kind in soundfile.available_formats()
    assert f".{name}" in ENDINGS
