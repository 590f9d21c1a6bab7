"""The built-in data set: its layout, its promises about tags and splits, and how it is rendered."""

import csv
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pretty_midi
import pytest
import soundfile
from numpy.typing import NDArray

from samplecnn.errors import UserError
from samplecnn.mini import catalog, render_mini
from samplecnn.mini.compose import BASS, PLAYERS, compose
from samplecnn.mini.plan import BASS_PROGRAMS, PROGRAMS, SPLITS, TAGS, Clip, plan_clips

CLIPS = 32
DIRECTORIES = set("0123456789abcdef")


@pytest.fixture(scope="module")
def finished(shared: Path) -> Path:
    """The set that tests/e2e train on as well, rendered once for all."""
    raw = shared / "data" / "raw" / "mini"
    render_mini(raw, clips=CLIPS, seed=0, workers=2)
    return raw


@pytest.fixture(scope="module")
def rows(finished: Path) -> list[dict[str, str]]:
    with (finished / "annotations_final.csv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture(scope="module")
def audio(finished: Path, rows: list[dict[str, str]]) -> list[NDArray[np.float32]]:
    return [soundfile.read(finished / "mp3" / row["mp3_path"], dtype="float32")[0] for row in rows]


def contents(raw: Path) -> dict[str, bytes]:
    """Everything in a folder but the lock file."""
    files = (path for path in raw.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(raw)): path.read_bytes() for path in files}


def interrupted(finished: Path, raw: Path, missing: int) -> Path:
    """A copy of the finished set as an interruption leaves it: without annotations and `missing` files."""
    shutil.copytree(finished, raw)
    (raw / "annotations_final.csv").unlink()
    for path in sorted(raw.rglob("*.mp3"))[:: CLIPS // missing][:missing]:
        path.unlink()
    return raw


def separation(values: list[float], rows: list[dict[str, str]], tag: str, other: str | None = None) -> float:
    """How well a statistic tells `tag` from `other` (default: all else): the area under the ROC curve."""
    pairs = list(zip(values, rows, strict=True))
    high = np.array([value for value, row in pairs if row[tag] == "1"])
    low = np.array([value for value, row in pairs if (row[other] == "1" if other else row[tag] == "0")])
    return float(np.mean(high[:, None] > low))


def power(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Power spectrogram `(frames, 257)`, windows of 512 samples (32 ms), bins of 31.25 Hz."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 512)[::256]
    return np.abs(np.fft.rfft(frames * np.hanning(512))) ** 2


def onsets(spectrum: NDArray[np.float64]) -> float:
    """How many peaks the spectral flux has."""
    flux = np.diff(np.log(spectrum / spectrum.mean() + 1e-3), axis=0).clip(0).mean(axis=1)
    peaks = (flux[1:-1] > flux[:-2]) & (flux[1:-1] >= flux[2:]) & (flux[1:-1] > flux.mean() + flux.std())
    return float(peaks.sum())


def running(group: int) -> list[str]:
    """The processes of a group that are alive."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().rpartition(")")
        except OSError:  # ended meanwhile
            continue
        state, _, process_group, *_ = rest.split()
        if int(process_group) == group and state not in "ZX":
            found.append(name)
    return found


# Layout


def test_annotations_are_in_mtat_s_dialect(finished: Path) -> None:
    text = (finished / "annotations_final.csv").read_text()
    header, *lines = text.removesuffix("\n").split("\n")
    assert header == "\t".join(f'"{name}"' for name in ("clip_id", *TAGS, "mp3_path"))
    assert len(lines) == CLIPS
    name = r"[a-z_]+-[a-z0-9_]+-\d\d-[a-z_]+-\d+-\d+\.mp3"
    line = re.compile(rf'"\d+"(\t"[01]"){{{len(TAGS)}}}\t"[0-9a-f]/{name}"')
    assert all(line.fullmatch(text) for text in lines)


def test_every_annotated_file_is_there_and_no_other(finished: Path, rows: list[dict[str, str]]) -> None:
    assert len({row["clip_id"] for row in rows}) == CLIPS
    expected = {f"mp3/{row['mp3_path']}" for row in rows} | {"annotations_final.csv", "mini.json"}
    assert set(contents(finished)) == expected


def test_clips_are_as_long_as_mtat_s(
    finished: Path, rows: list[dict[str, str]], audio: list[NDArray[np.float32]]
) -> None:
    for row, samples in zip(rows, audio, strict=True):
        info = soundfile.info(finished / "mp3" / row["mp3_path"])
        assert (info.samplerate, info.channels, info.format) == (16_000, 1, "MP3")
        assert 464_000 <= len(samples) <= 467_000


def test_it_goes_through_the_same_door_as_mtat(finished: Path) -> None:
    read = catalog(finished, clips=CLIPS, seed=0)
    assert read.tags == TAGS
    assert read.labels().shape == (CLIPS, len(TAGS))
    assert set(read.splits["clean"].parts) == {"train", "valid", "test"}
    assert all((read.audio / clip.path).is_file() for clip in read.clips)


# The plan


@pytest.mark.parametrize("clips", [16, 17, 31, 48, 240, 1000])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_songs_stay_in_one_directory_and_fill_all(clips: int, seed: int) -> None:
    plan = plan_clips(clips, seed)
    assert len(plan) == clips == len({clip.path for clip in plan})
    assert {clip.song.directory for clip in plan} == DIRECTORIES
    directories = defaultdict(set)
    for clip in plan:
        directories[clip.path[2:].rsplit("-", 2)[0]].add(clip.path[0])
    assert all(len(found) == 1 for found in directories.values())
    assert len(directories) == len({clip.song.index for clip in plan}) == max(16, round(clips / 3))


@pytest.mark.parametrize("clips", [16, 240, 1000])
def test_two_to_five_tags_per_clip(clips: int) -> None:
    assert {len(clip.tags) for clip in plan_clips(clips, 0)} <= {2, 3, 4, 5}


@pytest.mark.parametrize("clips", [240, 1000])
@pytest.mark.parametrize("seed", range(10))
def test_every_split_has_every_tag_with_and_without(clips: int, seed: int) -> None:
    for split in ("train", "valid", "test"):
        tags = [clip.tags for clip in plan_clips(clips, seed) if SPLITS[clip.song.directory] == split]
        counts = Counter(tag for found in tags for tag in found)
        assert all(3 <= counts[tag] <= len(tags) - 3 for tag in TAGS), (split, counts)


def test_seeds_give_different_sets() -> None:
    assert plan_clips(CLIPS, 0) == plan_clips(CLIPS, 0) != plan_clips(CLIPS, 1)


# Tags are true


@pytest.mark.parametrize("clip", plan_clips(240, 5)[::6], ids=lambda clip: "+".join(sorted(clip.tags)))
def test_the_notes_are_what_the_tags_say(clip: Clip) -> None:
    midi = pretty_midi.PrettyMIDI(io.BytesIO(compose(clip, 31.0, np.random.default_rng(0))))
    heard = set()
    for part in midi.instruments:
        starts = [note.start for note in part.notes]
        assert np.diff([0.0, *sorted(starts), 31.0]).max() < 6  # silent for a bar at most
        pitches = {note.pitch for note in part.notes}
        if part.is_drum:
            heard.add("drums")
        elif part.program in BASS_PROGRAMS:
            heard.add("bass")
            assert min(pitches) >= BASS.low
            assert max(pitches) <= BASS.high
        else:
            (tag,) = (tag for tag, programs in PROGRAMS.items() if part.program in programs)
            heard.add(tag)
            assert min(pitches) >= PLAYERS[tag].low
            assert max(pitches) <= PLAYERS[tag].high
    assert heard == clip.tags & {*PROGRAMS, "bass", "drums"}
    assert ("no drums" in clip.tags) == ("drums" not in heard)
    assert ("solo" in clip.tags) == (len(midi.instruments) == 1 and bool(heard & set(PROGRAMS)))
    assert ("fast" in clip.tags, "slow" in clip.tags) == (clip.song.tempo > 140, clip.song.tempo < 75)


def test_nothing_is_silent_or_clipped(audio: list[NDArray[np.float32]]) -> None:
    for samples in audio:
        pieces = [float(np.sqrt(np.mean(piece**2))) for piece in np.array_split(samples, 10)]
        assert min(pieces) > 10 ** (-42 / 20)
        assert np.mean(np.abs(samples) >= 1) < 1e-4
        assert abs(float(samples.mean())) < 1e-3


def test_loud_is_louder_than_quiet(rows: list[dict[str, str]], audio: list[NDArray[np.float32]]) -> None:
    level = [20 * float(np.log10(np.sqrt(np.mean(samples**2)))) for samples in audio]
    of = {
        tag: [x for x, row in zip(level, rows, strict=True) if row[tag] == "1"] for tag in ("loud", "quiet")
    }
    assert min(of["loud"]) > max(of["quiet"]) + 6
    assert min(of["quiet"]) < max(of["quiet"]) - 2  # not all alike


def test_drums_bass_and_tempo_are_heard(rows: list[dict[str, str]], audio: list[NDArray[np.float32]]) -> None:
    spectra = [power(samples) for samples in audio]
    # Strokes: how much the band above 6 kHz changes from window to window.
    treble = [np.log(spectrum[:, 192:].sum(axis=1) + 1e-6) for spectrum in spectra]
    assert separation([float(np.diff(x).std()) for x in treble], rows, "drums") > 0.75
    bass = [float(spectrum[:, 1:4].sum() / spectrum.sum()) for spectrum in spectra]  # 30-110 Hz
    assert separation(bass, rows, "bass") > 0.7
    assert separation([onsets(spectrum) for spectrum in spectra], rows, "fast", "slow") > 0.85


# Rendering


@pytest.mark.parametrize("workers", [1, 3])
def test_goes_on_where_it_stopped_with_the_same_bytes(finished: Path, tmp_path: Path, workers: int) -> None:
    raw = interrupted(finished, tmp_path / "raw", missing=4)
    kept = {path: path.stat().st_mtime_ns for path in raw.rglob("*.mp3")}
    render_mini(raw, clips=CLIPS, seed=0, workers=workers)
    assert contents(raw) == contents(finished)
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items())


def test_a_finished_set_is_left_alone(finished: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(finished, raw)
    before = {path: path.stat().st_mtime_ns for path in raw.rglob("*")}
    render_mini(raw, clips=CLIPS, seed=0)
    assert {path: path.stat().st_mtime_ns for path in raw.rglob("*")} == before


def test_a_file_missing_from_a_finished_set_is_rendered_again(finished: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(finished, raw)
    min(raw.rglob("*.mp3")).unlink()
    render_mini(raw, clips=CLIPS, seed=0)
    assert contents(raw) == contents(finished)


# A script, because workers import it too. Its arguments: the folder, and a file; while that is there, a clip
# whose name comes behind it is not written.
RENDER = f"""
import sys, time
from pathlib import Path
import soundfile
from samplecnn.mini import render_mini

written = soundfile.write

def write(file, *arguments, **options):
    while file.stem == sys.argv[3] and Path(sys.argv[2]).exists():
        time.sleep(0.01)
    written(file, *arguments, **options)

soundfile.write = write
if __name__ == "__main__":
    render_mini(Path(sys.argv[1]), clips={CLIPS}, workers=2)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interruption_leaves_no_process_and_no_harm(
    finished: Path, tmp_path: Path, how: signal.Signals
) -> None:
    raw = interrupted(finished, tmp_path / "raw", missing=6)
    there = len(list(raw.rglob("*.mp3")))
    whole, left = ({path.name for path in folder.rglob("*.mp3")} for folder in (finished, raw))
    *_, last = sorted(whole - left)
    script = tmp_path / "script.py"
    script.write_text(RENDER)
    (tmp_path / "held").touch()
    with (tmp_path / "errors").open("w") as errors:
        command = map(str, (sys.executable, script, raw, tmp_path / "held", Path(last).stem))
        process = subprocess.Popen(list(command), stderr=errors, start_new_session=True)
    while len(list(raw.rglob("*.mp3"))) == there:
        assert process.poll() is None
        time.sleep(0.02)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does: to all processes
    else:
        process.send_signal(how)
    (tmp_path / "held").unlink()
    assert process.wait() != 0
    while running(process.pid):  # or the test's time is up
        time.sleep(0.02)
    said = (tmp_path / "errors").read_text()
    assert said.count("Traceback") == (how == signal.SIGINT)
    assert not (raw / "annotations_final.csv").exists()
    render_mini(raw, clips=CLIPS, seed=0, workers=2)
    assert contents(raw) == contents(finished)


def test_another_set_in_the_folder_is_refused(finished: Path) -> None:
    before = contents(finished)
    others: list[dict[str, Any]] = [{"clips": CLIPS + 1}, {"clips": CLIPS, "seed": 1}]
    for other in others:
        with pytest.raises(UserError, match=r'"clips": 32.*choose another folder \(data\.raw=\.\.\.\)'):
            render_mini(finished, **other)
    assert contents(finished) == before


@pytest.mark.parametrize("content", ['{"version": 0, "clips": 32, "seed": 0}', '{"version": 0, "cli', ""])
def test_a_set_of_another_composer_is_refused(finished: Path, tmp_path: Path, content: str) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(finished, raw)
    (raw / "mini.json").write_text(content)
    with pytest.raises(UserError, match=rf"holds the set of '{content}', not of '{{\"version\": \d"):
        render_mini(raw, clips=CLIPS, seed=0)


@pytest.mark.parametrize("name", ["annotations_final.csv", "annotations_final.csv.gz", "mp3/a/song.mp3"])
def test_somebody_s_own_data_is_refused_and_not_touched(tmp_path: Path, name: str) -> None:
    file = tmp_path / "raw" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(UserError, match=r"but no mini\.json.*choose another folder"):
        render_mini(tmp_path / "raw", clips=16)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clips": 15}, "clips=15: needs at least 16"),
        ({"seed": -1}, "seed=-1: must not be negative"),
        ({"workers": 0}, "workers=0: must be at least 1"),
    ],
)
def test_impossible_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        render_mini(tmp_path / "raw", **options)
    assert not (tmp_path / "raw").exists()


def test_says_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['midirenderer'] = None\n"
        "from pathlib import Path; from samplecnn.mini import render_mini\n"
        "render_mini(Path(sys.argv[1]), clips=16)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "raw"], capture_output=True, text=True, check=False
    )
    assert 'pip install "samplecnn[mini]"' in done.stderr
    assert not (tmp_path / "raw").exists()


def test_the_import_is_light() -> None:
    heavy = "{'torch', 'pretty_midi', 'midirenderer'}"
    program = f"import sys, samplecnn.mini; sys.exit(len({heavy} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", program], check=True)
