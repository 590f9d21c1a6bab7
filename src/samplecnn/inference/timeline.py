"""Tags over time: what the network says of each segment of a recording."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samplecnn.data.audio import SEGMENT_SAMPLES
from samplecnn.errors import UserError

Probabilities = NDArray[np.float32]

AVERAGES: dict[str, Callable[[Probabilities], Probabilities]] = {
    "mean": lambda segments: segments.mean(axis=0),  # the paper's
    "median": lambda segments: np.asarray(np.median(segments, axis=0), dtype=np.float32),
    "max": lambda segments: segments.max(axis=0),
}
MAX_OVERLAP = 0.95  # 20 segments to hear every moment
ENVELOPE_SECONDS = 0.1


@dataclass(frozen=True, eq=False)
class Timeline:
    """Probabilities of the tags of every segment.

    ``probabilities`` is ``(segments, tags)``; ``starts`` ``(segments,)`` in seconds; ``seconds`` the length
    of the whole recording, ``segment_seconds`` that of a segment; ``envelope`` ``(2, columns)`` the smallest
    and largest sample of each 0.1 s. ``embeddings`` are ``(segments, features)``, where they were asked for.
    """

    tags: tuple[str, ...]
    starts: NDArray[np.float64]
    probabilities: Probabilities
    seconds: float
    segment_seconds: float
    envelope: NDArray[np.float32]
    embeddings: NDArray[np.float32] | None = None

    def average(self, how: str = "mean") -> Probabilities:
        """Return one probability per tag, ``(tags,)``; ``how`` is "mean", "median" or "max".

        Raises UserError for anything else.
        """
        return averaged(self.probabilities, how)


def averaged(segments: Probabilities, how: str = "mean") -> Probabilities:
    """Return ``(tags,)`` of ``(segments, tags)``; UserError unless ``how`` is one of `AVERAGES`."""
    if how not in AVERAGES:
        raise UserError(f"average is {how!r}; allowed are {', '.join(AVERAGES)}")
    return AVERAGES[how](segments)


def hop_samples(overlap: float, segment_samples: int = SEGMENT_SAMPLES) -> int:
    """Return the samples from one segment's start to the next one's, for an overlap in [0, 0.95].

    Raises UserError for any other.
    """
    if not 0 <= overlap <= MAX_OVERLAP:
        raise UserError(f"overlap is {overlap}; allowed is a share of a segment from 0 to {MAX_OVERLAP}")
    return round(segment_samples * (1 - overlap))


class Envelope:
    """The smallest and largest sample of each 0.1 s of a waveform that comes in blocks."""

    def __init__(self, sample_rate: int) -> None:
        self._column = max(1, round(ENVELOPE_SECONDS * sample_rate))
        self._rest = np.zeros(0, dtype=np.float32)
        self._columns: list[NDArray[np.float32]] = []
        self.samples = 0

    def push(self, block: NDArray[np.float32]) -> None:
        """Take the next samples ``(any number,)``."""
        self.samples += len(block)
        samples = np.concatenate([self._rest, block])
        whole = len(samples) // self._column * self._column
        self._rest = samples[whole:]
        self._keep(samples[:whole].reshape(-1, self._column))

    def finish(self) -> NDArray[np.float32]:
        """Return ``(2, columns)``, when all samples were pushed; the last column may be of fewer samples."""
        if len(self._rest):
            self._keep(self._rest[None])
        return np.concatenate([np.zeros((2, 0), dtype=np.float32), *self._columns], axis=1)

    def _keep(self, rows: NDArray[np.float32]) -> None:
        self._columns.append(np.stack([rows.min(axis=1), rows.max(axis=1)]))


def clock(seconds: float, digits: int = 0) -> str:
    """Write a time as people do: 1:02:03, 2:03, and with one digit 2:03.4; later digits are left out."""
    unit = 10**digits
    minutes, rest = divmod(int(seconds * unit), 60 * unit)
    hours, minutes = divmod(minutes, 60)
    rest_text = f"{rest / unit:0{3 + digits if digits else 2}.{digits}f}"
    return f"{hours}:{minutes:02}:{rest_text}" if hours else f"{minutes}:{rest_text}"
