"""Playlists that players and other systems read."""

import os
from pathlib import Path

from samplecnn.inference.playlists import write_playlists


def test_playlists(tmp_path: Path) -> None:
    """Paths are relative and exact; names fit any file system and are told apart."""
    music, folder = tmp_path / "müsic", tmp_path / "lists" / "here"
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/lists/here/#no\xe9.mp3"))
    songs = {
        music / "a.mp3": {"rock": 0.6, "Rock": 0.5, "r&b/soul": 0.9},
        music / "b.mp3": {"rock": 0.9},
        odd: {"rock": 0.3, "..": 0.9},
        music / "two\nlines.mp3": {"rock": 0.9},
        music / "none.mp3": {},
    }
    folder.mkdir(parents=True)
    (folder / "mine.m3u8").write_text("mine")
    written = write_playlists(songs, folder)
    assert sorted(file.name for file in written) == ["Rock.m3u8", "_..m3u8", "r&b_soul.m3u8", "rock (2).m3u8"]
    rock = (folder / "rock (2).m3u8").read_bytes().split(b"\n")
    assert rock[:2] == [b"#EXTM3U", b"#PLAYLIST:rock"]
    assert rock[2:] == ["../../müsic/b.mp3".encode(), "../../müsic/a.mp3".encode(), b"./#no\xe9.mp3", b""]
    assert (folder / "mine.m3u8").read_text() == "mine"


def test_long_names(tmp_path: Path) -> None:
    """Are cut to what file systems take, which count bytes, and stay different."""
    tags = dict.fromkeys(("音" * 120 + "a", "音" * 120 + "b"), 0.5)
    written = write_playlists({tmp_path / "a.mp3": tags}, tmp_path)
    assert [file.name for file in written] == [f"{'音' * 66}.m3u8", f"{'音' * 66} (2).m3u8"]
