"""Audio files to what the network reads: decode, mono, 22,050 Hz, segments of 59,049 samples.

Everything is numpy on the way in and out; only the resampling itself runs in torch.
"""

import math
import os
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch
from torch import Tensor
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

BAND = 49  # output samples per matrix product: fastest of 21 to 441 for 16 kHz, where 441 make a period
NEGLIGIBLE = 1e-9  # of a full-scale sample: far below half a step of int16 (1.5e-5), also times all taps

EXCERPT_STARTS = ("start", "middle")

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
    resampler = _resampler(rate, target)
    if resampler.orig_freq == resampler.new_freq:  # also where the nearest fraction is 1
        return waveform.astype(np.float32, copy=False)
    with torch.inference_mode():
        samples = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))
        resampled: np.ndarray = _polyphase(samples, _bands(rate, target)).numpy()
    return resampled


class _Bands(NamedTuple):
    """A resampling kernel cut into products of small matrices: `kernels[i]` makes outputs from `BAND * i`."""

    hop: int  # input samples per row of outputs
    phases: int  # output samples per row
    ratio: Fraction  # output samples per input sample
    pad: int  # zeros in front of the input
    kernels: tuple[tuple[int, Tensor], ...]  # first input sample, (taps, outputs)


@lru_cache(maxsize=16)
def _bands(rate: int, target: int) -> _Bands:
    """Leave out what is zero in torchaudio's kernel.

    `Resample` computes all outputs of a period with one convolution, from all inputs that any of them needs:
    at 16 kHz 456 taps, of which an output uses 136. A few neighbouring outputs use nearly the same ones.
    """
    resampler = _resampler(rate, target)
    whole = resampler.kernel[:, 0]  # (outputs, taps) of one period
    hop, (phases, taps) = resampler.orig_freq // resampler.gcd, whole.shape
    # Several periods to a row, where one is shorter than the taps of a band: rows of inputs then overlap in
    # full, which BLAS cannot read in place.
    periods = -(-(taps - hop + math.ceil(BAND * hop / phases) + 2) // hop)
    kernel = torch.zeros(periods * phases, taps + (periods - 1) * hop)
    for period in range(periods):
        kernel[period * phases : (period + 1) * phases, period * hop : period * hop + taps] = whole
    kernels = []
    for rows in kernel.split(BAND):
        used = torch.nonzero((rows.abs() > NEGLIGIBLE).any(dim=0)).flatten()
        first, last = int(used[0]), int(used[-1])
        kernels.append((first, rows[:, first : last + 1].T.contiguous()))
    return _Bands(periods * hop, len(kernel), Fraction(phases, hop), resampler.width, tuple(kernels))


def _polyphase(samples: Tensor, bands: _Bands) -> Tensor:
    """Resample float32 `(samples,)`; equal to `Resample` but for the order of its sums."""
    rows = -(-len(samples) // bands.hop)
    reach = max(first + len(kernel) for first, kernel in bands.kernels)
    padded = torch.nn.functional.pad(
        samples, (bands.pad, rows * bands.hop + reach - bands.pad - len(samples))
    )
    out = torch.empty(rows, bands.phases)
    columns = out.split(BAND, dim=1)
    for column, (first, kernel) in zip(columns, bands.kernels, strict=True):
        inputs = padded.as_strided((rows, len(kernel)), (bands.hop, 1), first)
        torch.mm(inputs, kernel, out=column)
    return out.view(-1)[: math.ceil(len(samples) * bands.ratio)]


def load(path: str | Path, *, max_seconds: float | None = None, start: str = "start") -> np.ndarray:
    """Decode and resample a file, or `max_seconds` of it: float32 `(samples,)` at 22,050 Hz.

    What is shorter than `max_seconds` is taken whole. `start="middle"` takes them from the middle of the
    decoded length, for which all of the file is decoded: seeking in an MP3, and what its header says of its
    length, cannot be relied on.

    Raises `AudioError` as `decode` and `resample` do, always naming the file.
    """
    if start not in EXCERPT_STARTS:
        raise ValueError(f"start is {start!r}: allowed are {', '.join(EXCERPT_STARTS)}")
    waveform, rate = decode(path, max_seconds=max_seconds if start == "start" else None)
    if max_seconds is not None and start == "middle":
        wanted = math.ceil(max_seconds * rate)
        first = max(0, (len(waveform) - wanted) // 2)
        waveform = waveform[first : first + wanted]
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
