"""The built-in data set: its layout, and its promises about tags and splits."""

import csv
import io
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
import soundfile
from numpy.typing import NDArray

from mini.conftest import CLIPS, contents
from samplecnn.mini import catalog
from samplecnn.mini.compose import BASS, PLAYERS, compose
from samplecnn.mini.plan import BASS_PROGRAMS, PROGRAMS, SPLITS, TAGS, Clip, plan_clips

DIRECTORIES = set("0123456789abcdef")


@pytest.fixture(scope="module")
def rows(finished: Path) -> list[dict[str, str]]:
    with (finished / "annotations_final.csv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture(scope="module")
def audio(finished: Path, rows: list[dict[str, str]]) -> list[NDArray[np.float32]]:
    return [soundfile.read(finished / "mp3" / row["mp3_path"], dtype="float32")[0] for row in rows]


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
