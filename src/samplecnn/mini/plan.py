"""What the set contains, before a note is written: songs, clips, their tags, directories and names.

Tags come from the plan, and the composer plays what the plan says, so that every label is true by
construction. Whatever decides a tag is drawn *balanced within its split*: the option used least so
far, ties at random. So even a small validation set has every tag, with and without.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TypeVar

import numpy as np

MIN_CLIPS = 16  # one for each of MTAT's directories 0-f, so that no split is empty
CLIPS_PER_SONG = 3  # on average, rounded to whole songs
EXCERPT_SECONDS = 29  # the step of the start and end times in MTAT's file names

# MTAT's split by directory: 0-b train, c validation, d-f test. A round fills every directory, then
# the held-out ones once more: a sixteenth of 240 clips would be too few to steer a training by.
SPLITS = {**dict.fromkeys("0123456789ab", "train"), "c": "valid", **dict.fromkeys("def", "test")}
ROUNDS = ["cdef0123456789ab" + "c" + test for test in "def"]

# General MIDI programs (counted from 0) behind each instrument tag.
PROGRAMS: dict[str, tuple[int, ...]] = {
    "guitar": (24, 26),  # nylon, jazz
    "piano": (1, 3),  # bright, honky-tonk
    "harpsichord": (6,),
    "strings": (48, 49),  # ensembles
    "flute": (73, 74),  # flute, recorder
    "brass": (56, 57),  # trumpet, trombone
    "choir": (52,),  # aahs; the oohs of the sound font are all but a recorder
    "synth": (62, 81, 87),  # brass, sawtooth, bass and lead
}
BASS_PROGRAMS = (32, 33, 35, 38)  # acoustic, fingered, fretless, synth
DRUM_KITS = (0, 8, 16, 25)  # standard, room, power, TR-808
PALETTE = 3  # instruments that a song has to choose from, section by section

# Quarter notes per minute. Between the tagged ranges lies a tempo that is neither fast nor slow.
TEMPO = {"slow": (50.0, 70.0), "medium": (84.0, 106.0), "fast": (146.0, 190.0)}
# RMS level of the music in dBFS, with gaps as well.
LEVEL = {"quiet": (-30.0, -25.5), "medium": (-23.0, -19.5), "loud": (-17.0, -13.0)}

# How many instruments, with bass, with drums. One instrument is twice as frequent as two.
ARRANGEMENTS = list(product((1, 1, 2), (False, True), (False, True)))

TAGS = (*PROGRAMS, "bass", "drums", "no drums", "solo", "fast", "slow", "loud", "quiet")
MAX_TAGS = 5  # a clip that has this many already is of medium loudness

MODES = ("major", "minor")
FORMS = ("air", "ballad", "etude", "fantasia", "march", "nocturne", "prelude", "reverie", "rondo", "study")
KEYS = ("c", "c_sharp", "d", "e_flat", "e", "f", "f_sharp", "g", "a_flat", "a", "b_flat", "b")

Option = TypeVar("Option")


@dataclass(frozen=True)
class Song:
    """What all excerpts of a song have in common."""

    index: int
    directory: str
    form: str
    tonic: int  # pitch class, C = 0
    mode: str
    pace: str  # a key of TEMPO
    tempo: float  # quarter notes per minute
    tuning: float  # cents off 440 Hz
    reverberation: float  # seconds until it has fallen by 60 dB
    reverberation_level: float  # dB, its energy against the direct sound's
    programs: dict[str, int]  # of the song's instruments, by tag
    bass_program: int
    drum_kit: int


@dataclass(frozen=True)
class Clip:
    """One excerpt: which of the song's instruments play, and how loud."""

    song: Song
    section: int
    instruments: tuple[str, ...]
    bass: bool
    drums: bool
    loudness: str  # a key of LEVEL

    @cached_property
    def tags(self) -> frozenset[str]:
        """What is heard in this excerpt; medium tempo and loudness have no tag."""
        heard = {*self.instruments, self.song.pace, self.loudness}
        heard.add("drums" if self.drums else "no drums")
        if self.bass:
            heard.add("bass")
        if len(self.instruments) == 1 and not (self.bass or self.drums):
            heard.add("solo")
        return frozenset(heard & set(TAGS))

    @cached_property
    def path(self) -> str:
        """Where the clip lies below `mp3/`, named as in MTAT: artist-album-NN-title-start-end.mp3."""
        song = self.song
        album, track = divmod(song.index, 20)
        title = f"{song.form}_in_{KEYS[song.tonic]}_{song.mode}"
        start = EXCERPT_SECONDS * self.section
        name = f"mini_ensemble-volume_{album + 1}-{track + 1:02d}-{title}-{start}-{start + EXCERPT_SECONDS}"
        return f"{song.directory}/{name}.mp3"


class Balance:
    """Draws the options that were used least so far, ties at random."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.used: defaultdict[str, Counter[object]] = defaultdict(Counter)

    def several(self, kind: str, options: Sequence[Option], count: int) -> list[Option]:
        """`count` different ones of `options`, the least used first."""
        used = self.used[kind]
        shuffled = [options[i] for i in self.rng.permutation(len(options))]
        drawn = sorted(shuffled, key=lambda option: used[option])[:count]
        used.update(drawn)
        return drawn

    def one(self, kind: str, options: Sequence[Option]) -> Option:
        """The least used of `options`."""
        return self.several(kind, options, 1)[0]


def plan_clips(clips: int, seed: int) -> list[Clip]:
    """All clips of the set, song by song. The same arguments always give the same plan."""
    songs = max(MIN_CLIPS, round(clips / CLIPS_PER_SONG))
    rng = np.random.default_rng([seed])
    balances = {split: Balance(rng) for split in sorted(set(SPLITS.values()))}
    rounds = "".join(ROUNDS[i % len(ROUNDS)] for i in range(songs // len(ROUNDS[0]) + 1))
    directories = list(rounds[:songs])
    excerpts = [clips // songs + (i < clips % songs) for i in range(songs)]
    order = rng.permutation(songs)  # so that neighbours in the list are not neighbours on the disk
    plan: list[Clip] = []
    for index in range(songs):
        directory = directories[order[index]]
        balance = balances[SPLITS[directory]]
        song = _plan_song(index, directory, balance, np.random.default_rng([seed, index + 1]))
        plan += [_plan_clip(song, section, balance) for section in range(excerpts[order[index]])]
    return plan


def _plan_song(index: int, directory: str, balance: Balance, rng: np.random.Generator) -> Song:
    palette = balance.several("palette", list(PROGRAMS), PALETTE)
    pace = balance.one("pace", list(TEMPO))
    return Song(
        index=index,
        directory=directory,
        form=FORMS[rng.integers(len(FORMS))],
        tonic=int(rng.integers(12)),
        mode=MODES[rng.integers(2)],
        pace=pace,
        tempo=float(rng.uniform(*TEMPO[pace])),
        tuning=float(rng.uniform(-35, 35)),
        reverberation=float(rng.uniform(0.2, 1.0)),
        reverberation_level=float(rng.uniform(-20, -8)),
        programs={tag: balance.one(tag, PROGRAMS[tag]) for tag in palette},
        bass_program=balance.one("bass", BASS_PROGRAMS),
        drum_kit=balance.one("drums", DRUM_KITS),
    )


def _plan_clip(song: Song, section: int, balance: Balance) -> Clip:
    arrangement = balance.one("arrangement", range(len(ARRANGEMENTS)))
    parts, bass, drums = ARRANGEMENTS[arrangement]
    instruments = tuple(balance.several("instrument", list(song.programs), parts))
    clip = Clip(song, section, instruments, bass, drums, loudness="medium")
    if len(clip.tags) >= MAX_TAGS:
        return clip
    return Clip(song, section, instruments, bass, drums, balance.one("loudness", list(LEVEL)))
