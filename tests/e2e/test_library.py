"""A library of songs: tagged into a table by commands that are killed, interrupted and repeated."""

import csv
import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import warm
from e2e.conftest import World
from e2e.test_tag import noise
from inference.models import checkpoint
from processes import descendants, ended

SONGS = 60
LENGTHS = (0.5, 12, 40)  # seconds
HELD = (20, 50)  # songs that are not read while a file with ".held" behind their name is there
FFPROBE = """#!/bin/sh
for last; do :; done
while [ -e "${last#file:}.held" ]; do sleep 0.01; done
exit 1
"""
Started = subprocess.Popen[str] | warm.Process


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Songs of three lengths, three that cannot be read, and a model."""
    return made(tmp_path_factory.mktemp("library"), SONGS, HELD)


def made(folder: Path, songs: int, to_hold: Iterable[int], lengths: tuple[float, ...] = LENGTHS) -> World:
    (folder / "home").mkdir()
    checkpoint(folder / "made.ckpt")
    fill(folder / "music", songs, lengths)
    for number in to_hold:
        (folder / f"music/{number:04}.wav").unlink()
        (folder / f"music/{number:04}.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    (folder / "bin").mkdir()
    for program in ("ffprobe", "ffmpeg"):
        (folder / "bin" / program).write_text(FFPROBE)
        (folder / "bin" / program).chmod(0o755)
    return World(folder, {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"})


@contextmanager
def held(library: World, number: int) -> Iterator[None]:
    """Keep a tagging from going on behind a song: rows come in the order of the songs."""
    file = library.folder / f"music/{number:04}.m4a.held"
    file.touch()
    yield
    file.unlink()


def fill(music: Path, songs: int, lengths: tuple[float, ...] = LENGTHS) -> None:
    music.mkdir()
    for number in range(songs - 1):
        path = music / f"{number:04}.wav"
        if number < len(lengths):
            noise(path, lengths[number], seed=number)
        else:
            os.link(music / f"{number % len(lengths):04}.wav", path)
    (music / "broken.mp3").write_text("no music")


def rows(file: Path) -> list[dict[str, Any]]:
    """What is in a table, also while it is written."""
    if file.suffix == ".sqlite":
        with closing(sqlite3.connect(file)) as database:
            asked = "SELECT * FROM files LEFT JOIN probabilities ON file = id ORDER BY id, tag"
            found = database.execute(asked)
            return [dict(zip([name for name, *_ in found.description], row, strict=True)) for row in found]
    text = file.read_text()
    whole = text[: text.rfind("\n") + 1]
    if file.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(whole)))
    return [json.loads(line) for line in whole.splitlines()]


def paths(file: Path) -> list[str]:
    return list(dict.fromkeys(row["path"] for row in rows(file)))


def stop(process: Started, file: Path, count: int, number: int) -> None:
    """Send a signal once there are so many rows."""
    wait(process, file, count)
    process.send_signal(number)


def wait(process: Started, file: Path, count: int) -> None:
    while not file.exists() or len(begun(file)) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def begun(file: Path) -> list[str]:
    try:
        return paths(file)
    except sqlite3.Error:  # it is being made, or a slow disk keeps the writer's lock
        return []


@pytest.mark.parametrize("ending", [".csv", ".sqlite", pytest.param(".jsonl", marks=pytest.mark.slow)])
def test_killed_it_goes_on(library: World, ending: str) -> None:
    """To the same rows as without kills, each once, whatever the number of workers."""
    whole, killed = library.folder / f"whole{ending}", library.folder / f"killed{ending}"
    command = ("tag", "music", "--model", "made.ckpt", "--out")
    done = library.run("samplecnn", *command, whole, "--workers", 1, status=3)
    assert "broken.mp3: cannot be decoded" in done.stderr
    assert f"{SONGS} files, 0.26 hours of audio in" in done.stderr
    assert done.stdout == ""
    before = 0
    for count, at in zip((1, 25), HELD, strict=True):
        with held(library, at):
            process = library.start_warm("samplecnn", *command, killed, "--workers", 2)
            stop(process, killed, count, signal.SIGKILL)
            process.communicate()
        assert before < count <= len(paths(killed)) <= at
        before = len(paths(killed))
    done = library.run("samplecnn", *command, killed, status=3)
    assert f"{before} of {SONGS} files are in {killed} and have not changed" in done.stderr
    assert rows(killed) == rows(whole)
    assert len(paths(killed)) == SONGS


def test_the_table_has_what_tagging_says(library: World) -> None:
    file = library.folder / "said.jsonl"
    some = sorted((library.folder / "music").glob("000*.wav"))
    library.run("samplecnn", "tag", *some, "--model", "made.ckpt", "--out", file)
    done = library.run("samplecnn", "tag", *some, "--model", "made.ckpt", "--json")
    for row, line in zip(rows(file), map(json.loads, done.stdout.splitlines()), strict=True):
        assert row["path"] == line["file"]
        assert row["tags"] == pytest.approx(line["tags"], abs=1e-5)
        assert row["model"] == line["model"] == "made"
        status = Path(row["path"]).stat()
        assert (row["size"], row["mtime"]) == (status.st_size, status.st_mtime)


def test_what_changed_and_what_is_new(library: World) -> None:
    music, file = library.folder / "some", library.folder / "some.csv"
    fill(music, 6)
    command = ("tag", "some", "--model", "made.ckpt", "--out", file)
    library.run("samplecnn", *command, status=3)
    first = rows(file)
    noise(music / "0001.wav", 6, seed=9)  # and the one that it is a link to
    noise(music / "new.wav", 1, seed=10)
    noise(music / "broken.mp3", 3)
    done = library.run("samplecnn", *command)
    assert "3 of 7 files are in" in done.stderr
    second = {row["path"]: row for row in rows(file)}
    assert len(second) == len(rows(file)) == 7
    for row in first:
        changed = row["path"] in ("some/0001.wav", "some/0004.wav", "some/broken.mp3")
        assert (second[row["path"]] != row) == changed
    assert second["some/broken.mp3"]["error"] == ""
    done = library.run("samplecnn", *command, "--again")
    assert "7 files, " in done.stderr
    assert {row["path"]: row for row in rows(file)} == second


def test_interrupted(library: World) -> None:
    """Ctrl-C: what is done stays, all processes end, and the status says so."""
    file = library.folder / "interrupted.jsonl"
    command = ("tag", "music", "--model", "made.ckpt", "--out", file, "--workers", 2)
    with held(library, HELD[-1]):
        process = library.start_warm("samplecnn", *command)
        stop(process, file, 5, signal.SIGINT)
        children = descendants(process.pid)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "files are done; the same command goes on" in said
    assert "Traceback" not in said
    while not all(map(ended, children)):
        time.sleep(0.01)  # or the test's time is up
    assert file.read_text().endswith("\n")
    assert 5 <= len(paths(file)) < SONGS
    library.run("samplecnn", *command, status=3)
    assert len(rows(file)) == SONGS


@pytest.mark.slow
def test_two_thousand_files(tmp_path: Path) -> None:
    """Twice, once with kills in between, and in memory that does not grow with them."""
    world = made(tmp_path, 2000, [1900], (0.5, 3, 9))
    whole, killed = tmp_path / "whole.sqlite", tmp_path / "killed.sqlite"
    command = ("tag", "music", "--model", "made.ckpt", "--out")
    with world.start("samplecnn", *command, whole) as process:
        peaks = []
        with held(world, 1900):
            for count in (300, 1800):
                wait(process, whole, count)
                status = Path(f"/proc/{process.pid}/status").read_text()
                peaks += [int(kilobytes) for kilobytes in re.findall(r"VmHWM:\s+(\d+) kB", status)]
        process.communicate()
    assert peaks[1] - peaks[0] < 64 << 10
    for count in (100, 700, 1500):
        with held(world, 1900), world.start("samplecnn", *command, killed) as process:
            stop(process, killed, count, signal.SIGKILL)
            process.communicate()
    world.run("samplecnn", *command, killed, status=3)
    assert rows(killed) == rows(whole)
    assert len(paths(killed)) == 2000
