"""From notes to the MP3 file of a clip: sound font, room, background noise, level.

Resampling and reverberation are products on one spectrum of the whole excerpt, which costs less than
filters in time and needs nothing but numpy.
"""

import io
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from samplecnn.errors import UserError
from samplecnn.mini.compose import compose
from samplecnn.mini.plan import LEVEL, Clip, Song

RATE = 16_000  # Hz, of MTAT's files
CLIP_SAMPLES = 465_984  # 29.124 s, 809 MP3 frames of 576 samples: as long as MTAT's clips
WINDOW_SECONDS = 32  # of the whole rendering: lead-in, clip, a tail that keeps the FFT's wrap-around out
LEAD_IN = 2.0  # seconds at most, so that clips do not all begin with the first note of a bar
# Gain over frequency (Hz): no more than the rate allows, and not the offset that some sampled sounds have.
PASS_BAND = ((15, 30, 7600, 8000), (0, 1, 1, 0))
SIGNAL_TO_NOISE = (25.0, 45.0)  # dB
MUSIC_SECONDS = LEAD_IN + CLIP_SAMPLES / RATE

Samples = NDArray[np.float32]


@lru_cache(maxsize=1)
def sound_font() -> tuple[Any, bytes]:
    """The synthesiser and the General MIDI sounds that pretty_midi carries; loaded once a process."""
    try:
        import midirenderer
        import pretty_midi
    except ModuleNotFoundError as error:
        raise UserError(
            f'the data set mini is rendered here and needs {error.name}: pip install "samplecnn[mini]"'
        ) from error
    return midirenderer, (Path(pretty_midi.__file__).parent / "TimGM6mb.sf2").read_bytes()


def render_clip(clip: Clip, seed: int, mp3_folder: Path) -> None:
    """Compose and render one clip; the file appears under its name only when it is complete."""
    rng = np.random.default_rng([seed, clip.song.index + 1, clip.section + 1])
    samples = record(synthesise(compose(clip, MUSIC_SECONDS, rng)), clip, rng)
    path = mp3_folder / clip.path
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    soundfile.write(unfinished, samples, RATE, format="MP3", subtype="MPEG_LAYER_III")
    unfinished.replace(path)


def synthesise(midi: bytes) -> tuple[Samples, int]:
    """Play a MIDI file: mono samples and their rate in Hz."""
    midirenderer, font = sound_font()
    stereo, rate = soundfile.read(io.BytesIO(midirenderer.render_wave_from(font, midi)), dtype="float32")
    return stereo.mean(axis=1), rate


def record(played: tuple[Samples, int], clip: Clip, rng: np.random.Generator) -> Samples:
    """The clip as it reaches the listener: in a room, with some hiss, as loud as its tags say."""
    samples, rate = played
    frames = WINDOW_SECONDS * RATE
    # A bin is 1/32 Hz at either rate: cutting the spectrum off at 8 kHz resamples.
    spectrum = np.fft.rfft(samples, WINDOW_SECONDS * rate)[: frames // 2 + 1]
    frequency = np.fft.rfftfreq(frames, 1 / RATE).astype(np.float32)
    spectrum *= np.interp(frequency, *PASS_BAND).astype(np.float32)
    spectrum *= np.fft.rfft(room_response(clip.song, rng), frames)
    start = round(rng.uniform(0, LEAD_IN) * RATE)
    music = np.fft.irfft(spectrum, frames)[start : start + CLIP_SAMPLES]
    level = rng.uniform(*LEVEL[clip.loudness])
    music *= 10 ** (level / 20) / np.sqrt(np.mean(music**2))
    hiss = rng.standard_normal(CLIP_SAMPLES, dtype=np.float32)
    hiss[1:] += rng.uniform(0, 0.9) * hiss[:-1]  # between white and dull
    hiss *= 10 ** ((level - rng.uniform(*SIGNAL_TO_NOISE)) / 20) / np.sqrt(np.mean(hiss**2))
    # tanh rounds the highest peaks off, as loud records do, and keeps everything below full scale.
    return np.tanh(music + hiss).astype(np.float32)


def room_response(song: Song, rng: np.random.Generator) -> Samples:
    """Direct sound and a tail of exponentially decaying noise, at RATE."""
    time = np.arange(round(song.reverberation * RATE), dtype=np.float32) / RATE
    tail = rng.standard_normal(len(time), dtype=np.float32) * 10 ** (-3 * time / song.reverberation)
    response = tail * 10 ** (song.reverberation_level / 20) / np.sqrt(np.sum(tail**2))
    response[0] = 1
    return response.astype(np.float32)
