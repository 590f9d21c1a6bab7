"""From a planned clip to notes: key, progression, and one line or pattern for each instrument.

Pitches are MIDI numbers, times are beats (quarter notes) until the notes are written down in seconds.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from samplecnn.mini.plan import Clip, Song

BEATS = 4  # per bar
STEPS = 16  # of a bar in the drum patterns
BEND_RANGE = 200  # cents: General MIDI's two semitones
VOLUME = 7  # MIDI controller

SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
# Roots of four bars, as degrees of the scale counted from 0: (0, 4, 5, 3) is I-V-vi-IV.
PROGRESSIONS = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 0, 4), (0, 5, 1, 4)),
    "minor": ((0, 5, 2, 6), (0, 3, 4, 0), (0, 6, 5, 4), (0, 3, 6, 2)),
}

# Durations that fill one bar. The faster the piece, the denser as well, as players would have it.
RHYTHMS: dict[str, dict[str, tuple[tuple[float, ...], ...]]] = {
    "melody": {
        "slow": ((4,), (2, 2), (3, 1)),
        "medium": ((1, 1, 1, 1), (1, 0.5, 0.5, 1, 1), (1.5, 0.5, 1, 1)),
        "fast": ((0.5,) * 8, (0.5, 0.25, 0.25) * 4),
    },
    "arpeggio": {
        "slow": ((2, 2), (2, 1, 1)),
        "medium": ((0.5,) * 8, (1, 0.5, 0.5) * 2),
        "fast": ((0.5,) * 8, (0.25,) * 16),
    },
    "two hands": {
        "slow": ((4,), (2, 2)),
        "medium": ((1, 1, 1, 1), (1, 0.5, 0.5, 1, 1)),
        "fast": ((0.5,) * 8,),
    },
    "chords": {
        "slow": ((4,), (2, 2)),
        "medium": ((1, 1, 1, 1), (1.5, 1.5, 1)),
        "fast": ((0.5,) * 8, (0.5, 0.5, 1) * 2),
    },
    "bass": {
        "slow": ((4,), (2, 2)),
        "medium": ((1, 1, 1, 1), (1.5, 0.5, 2)),
        "fast": ((0.5,) * 8, (0.5, 0.5, 1) * 2),
    },
}

# One bar in sixteenths; the keys are General MIDI's percussion notes.
KICK, SNARE, CLOSED_HAT, OPEN_HAT, RIDE, TOM = 36, 38, 42, 46, 51, 45
GROOVES: dict[str, tuple[dict[int, str], ...]] = {
    "slow": (
        {KICK: "x.........x.....", SNARE: "........x.......", CLOSED_HAT: "x...x...x...x..."},
        {KICK: "x...............", SNARE: "........x.......", RIDE: "x...x...x...x..."},
    ),
    "medium": (
        {KICK: "x.......x.......", SNARE: "....x.......x...", CLOSED_HAT: "x.x.x.x.x.x.x.x."},
        {KICK: "x.....x.x.......", SNARE: "....x.......x...", RIDE: "x...x.x.x...x.x."},
        {KICK: "x...x...x...x...", SNARE: "....x.......x..x", OPEN_HAT: "..x...x...x...x."},
    ),
    "fast": (
        {KICK: "x...x...x...x...", SNARE: "....x.......x...", CLOSED_HAT: "x.x.x.x.x.x.x.x."},
        {KICK: "x.x...x.x.x...x.", SNARE: "....x.......x...", RIDE: "x.x.x.x.x.x.x.x."},
        {KICK: "x...x.x.x...x.x.", SNARE: "..x...x...x...x.", CLOSED_HAT: "xxxxxxxxxxxxxxxx"},
        {KICK: "x.......x.......", TOM: "..x.x.x...x.x.x.", SNARE: "....x.......x.xx"},
    ),
}


@dataclass(frozen=True)
class Player:
    """How an instrument is written for."""

    low: int  # compass, MIDI pitches
    high: int
    roles: tuple[str, ...]  # keys of PARTS
    level: float = 0.0  # dB, evens out how loud the sound font's programs are
    legato: float = 0.95  # sounding part of a note's duration


PLAYERS = {
    "guitar": Player(40, 67, ("arpeggio", "chords"), 1, 1.0),
    "piano": Player(43, 88, ("two hands",), 1),
    "harpsichord": Player(55, 84, ("arpeggio", "melody"), 6, 0.9),
    "strings": Player(50, 79, ("chords",), 5),
    "flute": Player(72, 96, ("melody",), -1, 0.9),
    "brass": Player(50, 74, ("melody", "chords"), 5, 0.8),
    "choir": Player(50, 74, ("chords",), 0),
    "synth": Player(55, 84, ("arpeggio", "melody"), 2, 0.8),
}
BASS = Player(28, 45, ("bass",), -2, 0.9)
CHORD_LEVEL = 4.0  # dB that the three notes of a chord are louder than one
DRUM_LEVEL = -1.0  # as Player.level


Event = tuple[float, float, list[int]]  # onset and duration in beats, pitches


@dataclass(frozen=True)
class Score:
    """What a part needs to know: the chords, the notes within its compass, and a source of ideas."""

    harmony: list[int]  # the chord's root in each bar, as a degree of the scale
    ladder: list[int]  # pitches of the scale within the compass, ascending
    degrees: list[int]  # the degree (0-6) of each of these
    rhythms: tuple[tuple[float, ...], ...]
    rng: np.random.Generator

    def bars(self) -> Iterator[tuple[list[int], list[tuple[float, float]]]]:
        """For each bar the rungs of the ladder that belong to its chord, and its (onset, duration)."""
        for bar, root in enumerate(self.harmony):
            chord = {(root + third) % 7 for third in (0, 2, 4)}
            rungs = [rung for rung, degree in enumerate(self.degrees) if degree in chord]
            durations = self.rhythms[self.rng.integers(len(self.rhythms))]
            onsets = BEATS * bar + np.cumsum((0, *durations[:-1]))
            yield rungs, list(zip(onsets.tolist(), durations, strict=True))


def melody(score: Score) -> Iterator[Event]:
    """A walk over the scale that meets the chord on strong beats."""
    rung = len(score.ladder) // 2
    for chord, rhythm in score.bars():
        for onset, duration in rhythm:
            rung = int(np.clip(rung + score.rng.integers(-2, 3), 0, len(score.ladder) - 1))
            if onset % 2 == 0:
                rung = min(chord, key=lambda tone: abs(tone - rung))
            yield onset, duration, [score.ladder[rung]]


def arpeggio(score: Score) -> Iterator[Event]:
    """The chord's tones one after another in a figure that the piece keeps."""
    figures = ((0, 1, 2, 3), (3, 2, 1, 0), (0, 2, 1, 2), (0, 1, 2, 3, 2, 1), (0, 3, 1, 2))
    figure = figures[score.rng.integers(len(figures))]
    lowest = score.rng.integers(3)
    for chord, rhythm in score.bars():
        for i, (onset, duration) in enumerate(rhythm):
            yield onset, duration, [score.ladder[chord[lowest + figure[i % len(figure)]]]]


def chords(score: Score) -> Iterator[Event]:
    """Triads in close position."""
    lowest = score.rng.integers(3)
    for chord, rhythm in score.bars():
        for onset, duration in rhythm:
            yield onset, duration, [score.ladder[rung] for rung in chord[lowest : lowest + 3]]


def two_hands(score: Score) -> Iterator[Event]:
    """Chords for the left hand, and a melody above them."""
    middle = len(score.ladder) // 2
    left = replace(score, ladder=score.ladder[:middle], degrees=score.degrees[:middle])
    right = replace(score, ladder=score.ladder[middle:], degrees=score.degrees[middle:])
    yield from chords(left)
    yield from melody(right)


def bass_line(score: Score) -> Iterator[Event]:
    """Roots, now and then another tone of the chord."""
    for (chord, rhythm), root in zip(score.bars(), score.harmony, strict=True):
        roots = [rung for rung in chord if score.degrees[rung] == root % 7]
        for onset, duration in rhythm:
            rung = roots[0] if score.rng.random() < 0.75 else chord[score.rng.integers(len(chord))]
            yield onset, duration, [score.ladder[rung]]


PARTS: dict[str, Callable[[Score], Iterator[Event]]] = {
    "melody": melody,
    "arpeggio": arpeggio,
    "chords": chords,
    "two hands": two_hands,
    "bass": bass_line,
}


def compose(clip: Clip, seconds: float, rng: np.random.Generator) -> bytes:
    """A standard MIDI file of at least `seconds` with the clip's instruments."""
    import pretty_midi

    song = clip.song
    progression = PROGRESSIONS[song.mode][rng.integers(len(PROGRESSIONS[song.mode]))]
    bars = int(np.ceil(seconds * song.tempo / 60 / BEATS))
    harmony = [progression[bar % len(progression)] for bar in range(bars)]
    midi = pretty_midi.PrettyMIDI(resolution=480)
    taken: set[str] = set()
    for tag in clip.instruments:
        player = PLAYERS[tag]
        free = [role for role in player.roles if role not in taken] or list(player.roles)
        role = free[rng.integers(len(free))]
        taken.add(role)
        part = _write_part(clip, player, role, harmony, rng)
        level = player.level - (CHORD_LEVEL if role == "chords" else 0)
        midi.instruments.append(_perform(part, clip, song.programs[tag], level, rng))
    if clip.bass:
        part = _write_part(clip, BASS, "bass", harmony, rng)
        midi.instruments.append(_perform(part, clip, song.bass_program, BASS.level, rng))
    if clip.drums:
        part = _write_drums(song, bars, rng)
        midi.instruments.append(_perform(part, clip, song.drum_kit, DRUM_LEVEL, rng, is_drum=True))
    for instrument in midi.instruments:
        instrument.notes = [note for note in instrument.notes if note.start < seconds]
    file = io.BytesIO()
    midi.write(file)
    return file.getvalue()


def _write_part(
    clip: Clip, player: Player, role: str, harmony: list[int], rng: np.random.Generator
) -> list[Event]:
    song = clip.song
    scale = SCALES[song.mode]
    ladder = [p for p in range(player.low, player.high + 1) if (p - song.tonic) % 12 in scale]
    degrees = [scale.index((p - song.tonic) % 12) for p in ladder]
    score = Score(harmony, ladder, degrees, RHYTHMS[role][song.pace], rng)
    return [(onset, player.legato * duration, pitches) for onset, duration, pitches in PARTS[role](score)]


def _write_drums(song: Song, bars: int, rng: np.random.Generator) -> list[Event]:
    grooves = GROOVES[song.pace]
    groove = grooves[rng.integers(len(grooves))]
    return [
        (BEATS * (bar + step / STEPS), BEATS / STEPS, [drum])
        for bar in range(bars)
        for drum, steps in groove.items()
        for step, hit in enumerate(steps)
        if hit == "x"
    ]


def _perform(
    part: list[Event], clip: Clip, program: int, level: float, rng: np.random.Generator, is_drum: bool = False
) -> Any:
    """A pretty_midi.Instrument that plays `part` with a human's small deviations."""
    import pretty_midi

    instrument = pretty_midi.Instrument(program, is_drum=is_drum)
    # A controller value v is 40 log10(v / 127) dB to General MIDI; 80 leaves room for +-8 dB.
    volume = round(80 * 10 ** ((level + rng.uniform(-2, 2)) / 40))
    instrument.control_changes.append(pretty_midi.ControlChange(VOLUME, volume, 0))
    if not is_drum:
        bend = round(8192 * clip.song.tuning / BEND_RANGE)
        instrument.pitch_bends.append(pretty_midi.PitchBend(bend, 0))
    beat = 60 / clip.song.tempo  # seconds
    touch = {"quiet": 75, "medium": 90, "loud": 108}[clip.loudness]
    for onset, duration, pitches in part:
        start = max(0.0, onset * beat + rng.normal(0, 0.006))
        velocity = int(np.clip(touch + rng.normal(0, 7), 40, 127))
        for pitch in pitches:
            end = start + max(0.06, duration * beat)
            instrument.notes.append(pretty_midi.Note(velocity, pitch, start, end))
    return instrument
