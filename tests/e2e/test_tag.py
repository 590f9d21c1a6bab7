"""``samplecnn tag`` as people and scripts use it: folders, forms, pictures, exit statuses, long files."""

import csv
import fcntl
import io
import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile

import samplecnn
from e2e.conftest import World
from held import Place, as_block
from inference.models import checkpoint
from processes import descendants
from samplecnn.data import audio

RATES = (8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000)
FORMATS = ("wav", "flac", "ogg", "mp3", "aiff", "caf", "au", "w64", "opus")
GIGABYTE = 1 << 30


def noise(path: Path, seconds: float, rate: int = 16_000, channels: int = 1, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    frames = max(1, round(seconds * rate))
    container = {"format": "OGG", "subtype": "OPUS"} if path.suffix == ".opus" else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", rate, channels, **container) as file:
        for first in range(0, frames, rate):  # libsndfile's encoder of Vorbis crashes on long writes
            loudness = 0.05 + 0.45 * first / frames
            file.write(rng.uniform(-loudness, loudness, (min(rate, frames - first), channels)))
    return path


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with songs, one of them broken, and what is no music."""
    folder = tmp_path_factory.mktemp("music")  # not in the world's, which other files of tests fill too
    noise(folder / "b.wav", 9)
    noise(folder / "album" / "a.flac", 6, seed=1)
    noise(folder / "album" / "deep" / "c.ogg", 4, seed=2)
    (folder / "album" / "broken.mp3").write_bytes(b"\0" * 1000)
    (folder / "album" / "cover.jpg").write_bytes(b"\0")
    (folder / ".hidden").mkdir()
    noise(folder / ".hidden" / "d.wav", 1)
    return folder


def test_folders_are_searched(world: World, run: Path, music: Path) -> None:
    done = world.run("samplecnn", "tag", music, "--model", run, "--csv", status=3)
    head, *rows = csv.reader(io.StringIO(done.stdout))
    tagger = samplecnn.load(run)
    assert head == ["file", *tagger.tags, "model"]
    names = ["b.wav", "album/a.flac", "album/deep/c.ogg"]
    assert [row[0] for row in rows] == [str(music / name) for name in names]
    for row in rows:
        expected = tagger.predict_file(row[0])
        np.testing.assert_allclose([float(value) for value in row[1:-1]], expected, atol=2e-6)
        assert row[-1] == "first"
    assert "broken.mp3: cannot be decoded" in done.stderr
    assert "1 of 4 files could not be read" in done.stderr
    assert "2 files passed over: .jpg 1, hidden folders 1" in done.stderr


def test_over_time(world: World, run: Path, music: Path) -> None:
    arguments = (music / "b.wav", "--model", run, "--over-time", "--overlap", 0.5)
    timeline = samplecnn.load(run).timeline(music / "b.wav", overlap=0.5)
    lines = [
        json.loads(line) for line in world.run("samplecnn", "tag", *arguments, "--json").stdout.splitlines()
    ]
    head, *rows = csv.reader(io.StringIO(world.run("samplecnn", "tag", *arguments, "--csv").stdout))
    assert head[:3] == ["file", "start", "end"]
    assert len(lines) == len(rows) == len(timeline.starts) == 5
    for line, row, start, probabilities in zip(
        lines, rows, timeline.starts, timeline.probabilities, strict=True
    ):
        assert line["start"] == float(row[1]) == pytest.approx(start, abs=1e-3)
        assert line["end"] == float(row[2]) == pytest.approx(start + 59049 / 22050, abs=1e-3)
        np.testing.assert_allclose([line["tags"][tag] for tag in head[3:-1]], probabilities, atol=1e-6)
        np.testing.assert_allclose([float(value) for value in row[3:-1]], probabilities, atol=2e-6)
        assert list(line["tags"].values()) == sorted(line["tags"].values(), reverse=True)
    text = world.run("samplecnn", "tag", *arguments, "--top", 2).stdout.splitlines()
    assert [line.split()[0] for line in text[2:]] == ["0:00.0", "0:01.3", "0:02.6", "0:04.0", "0:05.3"]
    assert all(line.count("%") == 2 for line in text[2:])


def test_the_average_is_of_the_segments(world: World, run: Path, music: Path) -> None:
    done = world.run("samplecnn", "tag", music / "b.wav", "--model", run, "--average", "max", "--json")
    tags = json.loads(done.stdout)["tags"]
    tagger = samplecnn.load(run)
    largest = tagger.timeline(music / "b.wav").probabilities.max(axis=0)
    np.testing.assert_allclose([tags[tag] for tag in tagger.tags], largest, atol=1e-6)


def test_pictures(world: World, run: Path, music: Path) -> None:
    out = world.folder / "pictures"
    said = ("tag", music, music / "b.wav", "--model", run, "--plot", out, "--quiet")
    done = world.run("samplecnn", *said, status=3)
    assert done.stdout == ""
    names = ["album/a.flac.png", "album/deep/c.ogg.png", "b.wav.png"]
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == names
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in names)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--overlap", "1"], 1, "overlap is 1.0; allowed is a share of a segment from 0 to 0.95"),
        (["--csv", "--json"], 2, "not allowed with"),
        (["--average", "sum"], 2, "invalid choice"),
        (["--model", "no-such-model"], 1, "no-such-model"),
    ],
)
def test_what_cannot_be_carried_out(
    world: World, run: Path, music: Path, arguments: list[str], status: int, words: str
) -> None:
    done = world.run("samplecnn", "tag", music, *arguments, status=status)
    assert words in done.stderr
    assert done.stdout == ""


def test_a_folder_without_music(world: World, run: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("la la la")
    done = world.run("samplecnn", "tag", tmp_path, "--model", run, status=1)
    assert f"no audio file in the folder {tmp_path}; counted are .3gp, " in done.stderr


def test_a_reader_that_has_seen_enough(world: World, run: Path, music: Path) -> None:
    with world.start("samplecnn", "tag", *[music / "b.wav"] * 200, "--model", run, "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)  # bytes: it cannot say all before it is read
        assert "b.wav" in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_a_file_that_was_cut(world: World, run: Path, tmp_path: Path) -> None:
    """What there is is tagged, with a warning; not if only whole files will do."""
    whole, cut = noise(tmp_path / "whole.wav", 6), noise(tmp_path / "cut.wav", 6)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    done = world.run("samplecnn", "tag", cut, whole, "--model", run, "--json")
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["warning"].startswith("incomplete: 3.00 s decoded, its header promises 6.00 s")
    assert f"{cut}: incomplete" in done.stderr
    assert "warning" not in second
    assert len(first["tags"]) == len(second["tags"])
    done = world.run("samplecnn", "tag", cut, whole, "--model", run, "--json", "--strict", status=3)
    first, second = map(json.loads, done.stdout.splitlines())
    assert "incomplete" in first["error"]
    assert "tags" in second


def test_names_that_do_harm(run: Path, tmp_path: Path) -> None:
    """Neither a terminal nor a spreadsheet takes orders from the name of a file."""
    names = ["=1+1.wav", "@x.wav", "esc\x1b[31m.wav", "\x9b31m.wav", "\u202egnp.wav", "\u3000\u00e9.wav"]
    for name in names:
        noise(tmp_path / name, 0.1)
    (tmp_path / "z\x1b[2J.mp3").write_bytes(b"no music")
    (tmp_path / "z.\x1b[2J").write_bytes(b"no music")
    found: dict[str, str] = {}
    for form in ("--csv", "--json", "--top=1"):
        done = World(tmp_path).run("samplecnn", "tag", ".", "--model", run, form, status=3)
        found[form] = done.stdout
        assert not any(bad in done.stdout + done.stderr for bad in "\x1b\x9b\u202e")
    rows = [row[0] for row in csv.reader(io.StringIO(found["--csv"]))][1:]
    assert rows[:2] == ["./=1+1.wav", "./@x.wav"]
    assert "\u3000\u00e9.wav" in rows  # spaces of other scripts are no harm
    lines = [json.loads(line)["file"] for line in found["--json"].splitlines()]
    assert sorted(lines) == sorted([*names, "z\x1b[2J.mp3"])  # exact


def test_one_files_trouble_does_not_stop_the_others(world: World, run: Path, tmp_path: Path) -> None:
    music, out = tmp_path / "music", tmp_path / "pictures"
    noise(music / ("a" * 251 + ".wav"), 1)
    noise(music / "b.wav", 1)
    noise(music / "c.wav", 1)
    (out / "b.wav.png").mkdir(parents=True)  # cannot be written
    (music / "d.wav").symlink_to("/nowhere.wav")
    done = world.run("samplecnn", "tag", music, "--model", run, "--plot", out, "--json", status=3)
    assert len(list(out.glob("*.png"))) == 3
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(line["file"]).name[0] for line in lines if "tags" in line] == ["a", "b", "c"]
    assert "d.wav: no such file" in done.stderr
    assert "2 of 4 files could not be read or drawn" in done.stderr


def test_albums_do_not_overwrite_each_others_pictures(world: World, run: Path, tmp_path: Path) -> None:
    songs = [noise(tmp_path / album / "01.wav", 1) for album in ("albA", "albB")]
    out = tmp_path / "pictures"
    world.run("samplecnn", "tag", *songs, "--model", run, "--plot", out, "--quiet")
    names = ["albA/01.wav.png", "albB/01.wav.png"]
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.png")) == names


def test_a_file_that_crashes_the_decoder(world: World, run: Path, tmp_path: Path) -> None:
    """As a fault in libsndfile would: the process that has the file open dies."""
    culprit, other = noise(tmp_path / "a.flac", 600), noise(tmp_path / "b.wav", 3)
    place = Place(str(tmp_path / "held"))
    there = World(world.folder, place.environment(world.folder))
    command = ("tag", culprit, other, "--model", run, "--json", "--workers", 1, *as_block())
    with there.start("samplecnn", *command) as process:
        while not place.reached():  # the network has heard the first of it, and pipes hold no more
            assert process.poll() is None
        (at_work,) = (pid for pid in descendants(process.pid) if has_open(pid, culprit))
        os.kill(int(at_work), signal.SIGSEGV)
        place.leave()
        out, err = process.communicate()
    assert process.returncode == 3
    first, second = map(json.loads, out.splitlines())
    assert first == {"file": str(culprit), "error": f"{culprit}: crashes the decoder (SIGSEGV)"}
    assert second["file"] == str(other)
    assert len(second["tags"]) > 0
    assert f"{culprit}: crashes the decoder (SIGSEGV)" in err


def has_open(pid: str, path: Path) -> bool:
    try:
        return any(link.readlink() == path for link in Path(f"/proc/{pid}/fd").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
def test_a_hundred_files_of_all_kinds(world: World, tmp_path: Path) -> None:
    """Formats, rates, channels and lengths from 0.1 s to 2 h, five of them broken."""
    model = checkpoint(tmp_path / "made.ckpt")
    folder = tmp_path / "music"
    rng = np.random.default_rng(0)
    for number in range(94):
        suffix = FORMATS[number % len(FORMATS)]
        rates = {"opus": (8_000, 16_000, 48_000), "mp3": (16_000, 22_050, 44_100)}.get(suffix, RATES)
        seconds = 0.1 if number < 9 else float(rng.uniform(0.2, 40))
        rate, channels = int(rng.choice(rates)), int(rng.integers(1, 3))
        noise(folder / f"{number:02}.{suffix}", seconds, rate, channels, seed=number)
    noise(folder / "94.flac", 7200, 8_000)
    nan = np.zeros(22050, dtype=np.float32)
    nan[11025] = np.nan
    soundfile.write(folder / "95-nan.wav", nan, 22050, subtype="FLOAT")
    (folder / "96-text.mp3").write_text("not music")
    (folder / "97-empty.ogg").write_bytes(b"")
    (folder / "98-cut.flac").write_bytes((folder / "91.flac").read_bytes()[: -(1 << 15)])
    (folder / "99-noise.wav").write_bytes(rng.bytes(10_000))
    broken = sorted(str(path) for path in folder.iterdir() if "-" in path.name)
    assert len(list(folder.iterdir())) == 100

    done = world.run("samplecnn", "tag", folder, "--model", model, "--json", "--strict", status=3)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(line["file"]).name[:2] for line in lines] == [f"{number:02}" for number in range(100)]
    assert [line["file"] for line in lines if "error" in line] == broken
    tagger = samplecnn.load(model)
    for line in lines:
        if "tags" in line:
            expected = tagger.predict(*audio.decode(line["file"]))
            found = [line["tags"][tag] for tag in tagger.tags]
            np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=line["file"])


@pytest.mark.slow
def test_ten_hours_in_less_than_a_gigabyte(world: World, tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "made.ckpt", width=2)  # the paper's needs 0.3 GB more
    hour = np.random.default_rng(0).integers(-(1 << 14), 1 << 14, 3600 * 8_000, dtype=np.int16)
    with soundfile.SoundFile(tmp_path / "mix.flac", "w", 8_000, 1) as mix:
        for _ in range(10):
            mix.write(hour)
    arguments = (tmp_path / "mix.flac", "--model", model, "--over-time", "--json")
    with world.start("samplecnn", "tag", *arguments) as process:
        assert process.stdout is not None
        process.stdout.readline()  # all has been heard by now
        status = Path(f"/proc/{process.pid}/status").read_text()
        lines = 1 + sum(1 for _ in process.stdout)
    assert process.returncode == 0
    assert lines == 36_000 * 22_050 // 59_049
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    assert int(peak) * 1024 < GIGABYTE
