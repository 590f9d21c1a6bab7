"""Audio files to what the network reads: decode, mono, 22,050 Hz, segments of 59,049 samples.

Everything is numpy on the way in and out; only the resampling itself runs in torch.
"""

import math
import os
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torchaudio.transforms import Resample

SAMPLE_RATE = 22_050  # Hz
SEGMENT_SAMPLES = 3**10  # 59,049 samples (2.678 s): a strided stem and nine blocks that each divide time by 3
CLIP_SECONDS = 29  # what a store keeps of a clip
CLIP_SAMPLES = CLIP_SECONDS * SAMPLE_RATE  # 639,450
SEGMENTS_PER_CLIP = CLIP_SAMPLES // SEGMENT_SAMPLES  # 10

RATES = (1_000, 1_000_000)  # Hz: outside of it a header is damaged rather than unusual
# Resampling by p/q with both at most this covers every usual rate exactly (192 kHz is 147/1280) and keeps
# the kernel below 20 MB. Any other rate is off by less than 0.05 % (under a cent of pitch).
MAX_RATIO_TERM = 1280
# "kaiser_best" of resampy; torchaudio's own default has about 12 dB at 7 kHz where this has over 80.
KAISER_BEST: dict[str, Any] = {
    "resampling_method": "sinc_interp_kaiser",
    "lowpass_filter_width": 64,
    "rolloff": 0.9475937167399596,
    "beta": 14.769656459379492,
}

MIN_DECODED = 0.9  # of what the header promises; MTAT's complete clips decode to 0.995 of it
MIN_MISSING_SECONDS = 0.25  # padding and tags that libsndfile mistakes for audio are shorter than that
MAX_UNREAD = 0.1  # of an MP3 file's bytes; tags at its end are far smaller
BLOCK = 1 << 20  # frames per read: memory follows what is really there, not what a header claims


class AudioError(ValueError):
    """An audio file or rate that cannot be used; `reason` says why without naming the file."""

    def __init__(self, reason: str, path: str | Path | None = None) -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        return self.reason if self.path is None else f"{self.path}: {self.reason}"


def decode(path: str | Path, *, max_seconds: float | None = None) -> tuple[np.ndarray, int]:
    """Decode a file to mono float32 `(samples,)` and its rate in Hz, reading `max_seconds` at most.

    Several channels become one by their mean. The length is that of the decoded samples: headers are only
    used to notice that something is missing.

    Raises `AudioError` for a file that is missing, empty, not audio, without samples, with NaN or infinite
    samples, or incomplete: decoding to less than 90 % of the length its header states. The decoder itself
    reports no error for an MP3 that was cut. Two things follow from MP3s without a length header (Xing or
    Info; MTAT has none), for which libsndfile estimates the length from the file's size and first frame: one
    of constant bit rate that was cut looks like a shorter file and cannot be told from it, and of one with
    variable bit rate libsndfile reads only up to its estimate: refused if that leaves audio unread.
    """
    path = Path(path)
    if max_seconds is not None and max_seconds <= 0:
        raise ValueError(f"max_seconds is {max_seconds}: it has to be positive, or None for the whole file")
    if not path.is_file():
        raise AudioError("no such file" if not path.exists() else "is a folder or no regular file", path)
    size = path.stat().st_size
    if size == 0:
        raise AudioError("empty file (0 bytes)", path)
    try:
        # By descriptor: it tells afterwards how far libsndfile has read, and why a file does not open.
        with (
            path.open("rb", buffering=0) as handle,
            soundfile.SoundFile(handle.fileno(), closefd=False) as sound,
        ):
            rate = int(sound.samplerate)
            promised = int(sound.frames)
            wanted = promised if max_seconds is None else min(promised, math.ceil(max_seconds * rate))
            waveform = _read_mono(sound, wanted)
            unread = size - os.lseek(handle.fileno(), 0, os.SEEK_CUR) if sound.format == "MP3" else 0
    except soundfile.LibsndfileError as error:
        raise AudioError(f"cannot be decoded as audio ({error.error_string.strip()})", path) from error
    except OSError as error:
        raise AudioError(f"cannot be read ({error.strerror})", path) from error

    missing = wanted - len(waveform)
    if missing > max((1 - MIN_DECODED) * wanted, MIN_MISSING_SECONDS * rate):
        raise AudioError(
            f"incomplete: {len(waveform) / rate:.2f} s decoded, its header promises {promised / rate:.2f} s"
            " (cut off, or an MP3 of variable bit rate without a length header: encode it again)",
            path,
        )
    if len(waveform) == promised and unread > MAX_UNREAD * size:
        raise AudioError(
            f"MP3 of variable bit rate without a length header: only the first {promised / rate:.2f} s"
            f" can be read, {unread} of {size} bytes stay unread (encode it again)",
            path,
        )
    if len(waveform) == 0:
        raise AudioError("holds no samples", path)
    finite = np.isfinite(waveform)
    if not finite.all():
        first = np.argmin(finite) / rate
        raise AudioError(f"{np.sum(~finite)} samples are NaN or infinite, the first at {first:.3f} s", path)
    return waveform, rate


def _read_mono(sound: Any, frames: int) -> np.ndarray:
    """Read up to `frames` frames of an open SoundFile, channels averaged: float32 `(samples,)`."""
    blocks: list[np.ndarray] = []
    while frames > 0:
        block = sound.read(min(BLOCK, frames), dtype="float32", always_2d=True)
        if len(block) == 0:
            break
        blocks.append(block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32))
        frames -= len(block)
    return np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)


@lru_cache(maxsize=16)
def _resampler(rate: int, target: int) -> Resample:
    if target > rate:
        ratio = 1 / Fraction(rate, target).limit_denominator(MAX_RATIO_TERM)
    else:
        ratio = Fraction(target, rate).limit_denominator(MAX_RATIO_TERM)
    return Resample(orig_freq=ratio.denominator, new_freq=ratio.numerator, **KAISER_BEST)


def resample(waveform: np.ndarray, rate: int, target: int = SAMPLE_RATE) -> np.ndarray:
    """Resample float32 `(samples,)` from `rate` to `target` Hz: float32 `(ceil(samples * target / rate),)`.

    For a rate whose ratio to the target is no fraction of small terms (44,099 Hz, say) the nearest such
    fraction stands in: speed and pitch are then off by less than 0.05 %.

    Raises `AudioError` for a rate outside 1,000 ... 1,000,000 Hz.
    """
    for hertz in (rate, target):
        if not RATES[0] <= hertz <= RATES[1]:
            raise AudioError(f"sample rate is {hertz} Hz: allowed are {RATES[0]:,} to {RATES[1]:,} Hz")
    if rate == target:
        return waveform.astype(np.float32, copy=False)
    with torch.inference_mode():
        samples = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))
        resampled: np.ndarray = _resampler(rate, target)(samples).numpy()
    return resampled


def load(path: str | Path, *, max_seconds: float | None = None) -> np.ndarray:
    """Decode and resample the first `max_seconds` of a file: float32 `(samples,)` at 22,050 Hz.

    Raises `AudioError` as `decode` and `resample` do, always naming the file.
    """
    waveform, rate = decode(path, max_seconds=max_seconds)
    try:
        waveform = resample(waveform, rate)
    except AudioError as error:
        raise AudioError(error.reason, path) from error
    return waveform if max_seconds is None else waveform[: round(max_seconds * SAMPLE_RATE)]


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """Quantise float32 `(samples,)` in [-1, 1) to int16; what lies outside is clipped."""
    return np.clip(np.rint(waveform * 32768.0), -32768, 32767).astype(np.int16)


def segments(waveform: np.ndarray, *, limit: int | None = None) -> np.ndarray:
    """Cut `(samples,)` into `(n, 59049)` of the same type: as many whole segments as fit, `limit` at most.

    A waveform shorter than one segment becomes one, zero-padded at its end.
    """
    count = max(1, len(waveform) // SEGMENT_SAMPLES)
    if limit is not None:
        count = min(count, limit)
    cut = waveform[: count * SEGMENT_SAMPLES]
    if len(cut) < SEGMENT_SAMPLES:
        cut = np.pad(cut, (0, SEGMENT_SAMPLES - len(cut)))
    return cut.reshape(count, SEGMENT_SAMPLES)
