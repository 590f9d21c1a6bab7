"""Audio files to what a network reads: decode, mono, resample, cut into segments.

By default SampleCNN's: 22,050 Hz, 59,049 samples.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from samplecnn.data.decoder_process import DecoderProcess, RemoteDecoder
from samplecnn.data.decoding import AudioError, Decoder, check_loudness
from samplecnn.data.resampling import SAMPLE_RATE, Resampler, resample
from samplecnn.errors import UserError

__all__ = [
    "CLIP_SAMPLES",
    "CLIP_SECONDS",
    "EXCERPT_STARTS",
    "SAMPLE_RATE",
    "SEGMENT_SAMPLES",
    "AudioError",
    "Decoder",
    "DecoderProcess",
    "RemoteDecoder",
    "check_loudness",
    "decode",
    "frames",
    "load",
    "resample",
    "segments",
    "stream",
    "to_int16",
]

SEGMENT_SAMPLES = 3**10  # 59,049 samples (2.678 s): a strided stem and nine blocks that each divide time by 3
CLIP_SECONDS = 29  # what a store keeps of a clip
CLIP_SAMPLES = CLIP_SECONDS * SAMPLE_RATE  # 639,450: ten segments

EXCERPT_STARTS = ("start", "middle")


def decode(
    path: str | Path,
    *,
    max_seconds: float | None = None,
    start: str = "start",
    process: DecoderProcess | None = None,
) -> tuple[np.ndarray, int]:
    """Decode a file to mono float32 `(samples,)` and its rate in Hz, or `max_seconds` of it.

    What is shorter than `max_seconds` is taken whole. `start="middle"` takes them from the middle of the
    decoded length, for which all of the file is decoded: seeking in an MP3, and what its header says of its
    length, cannot be relied on. Half of the file is held in memory then.

    Decoded in this process or in `process`. Raises `AudioError` as `Decoder` does.
    """
    if start not in EXCERPT_STARTS:
        raise UserError(f"start is {start!r}: allowed are {', '.join(EXCERPT_STARTS)}")
    middle = max_seconds if start == "middle" else None
    opened = process.open if process else Decoder
    blocks: deque[np.ndarray] = deque()
    first = gone = decoded = 0  # samples: where the middle starts by now, left behind, and in all
    with opened(path, max_seconds=max_seconds if middle is None else None) as decoder:
        wanted = None if middle is None else math.ceil(middle * decoder.rate)
        for block in decoder:
            blocks.append(block)
            decoded += len(block)
            if wanted is not None:
                first = max(0, (decoded - wanted) // 2)
                while gone + len(blocks[0]) <= first:
                    gone += len(blocks.popleft())
    waveform = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    return waveform[first - gone :][:wanted], decoder.rate


Decode = Callable[..., tuple[np.ndarray, int]]  # as `decode`


def load(
    path: str | Path,
    *,
    rate: int = SAMPLE_RATE,
    max_seconds: float | None = None,
    start: str = "start",
    decode: Decode = decode,
) -> np.ndarray:
    """Decode a file, or `max_seconds` of it, and resample it to `rate` Hz: float32 `(samples,)`.

    `max_seconds` and `start` as in `decode`, which may be another that takes and returns the same.

    Raises `AudioError` as `Decoder` and `resample` do, always naming the file.
    """
    waveform, original = decode(path, max_seconds=max_seconds, start=start)
    try:
        waveform = resample(waveform, original, rate)
    except AudioError as error:
        raise AudioError(error.reason, path) from error
    return waveform if max_seconds is None else waveform[: round(max_seconds * rate)]


def stream(decoder: Decoder | RemoteDecoder, target: int = SAMPLE_RATE) -> Iterator[np.ndarray]:
    """Yield an open file resampled to `target` Hz, in blocks of float32 `(samples,)`, in constant memory.

    Together they are what `resample` makes of what `decode` returns. Raises `AudioError` as these two, also
    after blocks that look good.
    """
    try:
        resampler = Resampler(decoder.rate, target)
    except AudioError as error:
        raise AudioError(error.reason, decoder.path) from error
    for block in decoder:
        yield resampler.push(block)
    yield resampler.finish()


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """Quantise float32 `(samples,)` in [-1, 1) to int16; what lies outside is clipped."""
    return np.clip(np.rint(waveform * 32768.0), -32768, 32767).astype(np.int16)


def segments(waveform: np.ndarray, length: int = SEGMENT_SAMPLES) -> np.ndarray:
    """Cut `(samples,)` into `(n, length)` of the same type: as many whole segments as fit.

    A waveform shorter than one segment becomes one, zero-padded at its end.
    """
    count = max(1, len(waveform) // length)
    cut = waveform[: count * length]
    if len(cut) < length:
        cut = np.pad(cut, (0, length - len(cut)))
    return cut.reshape(count, length)


def frames(
    blocks: Iterable[np.ndarray], hop: int, batch: int, length: int = SEGMENT_SAMPLES
) -> Iterator[np.ndarray]:
    """Cut a waveform that comes in blocks into segments of `length` that start every `hop` samples.

    Yields `(n, length)`, with n the `batch` but at the end. Only whole segments, as by `segments`; a waveform
    shorter than one segment becomes one. The hop is from 1 to `length`.
    """
    waiting = np.zeros(0, dtype=np.float32)
    begun = False
    for block in blocks:
        waiting = np.concatenate([waiting, block])
        while len(waiting) >= length + (batch - 1) * hop:
            yield _windows(waiting, hop, length)[:batch]
            waiting = waiting[batch * hop :]
            begun = True
    if len(waiting) >= length:
        yield _windows(waiting, hop, length)
    elif not begun:
        yield np.pad(waiting, (0, length - len(waiting)))[None]


def _windows(waveform: np.ndarray, hop: int, length: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(waveform, length, writeable=True)[::hop]
