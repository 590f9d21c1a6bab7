"""Embeddings: what a network has made of a segment at some of its levels, beside the tags that it says."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from numpy.typing import NDArray

from samplecnn.model.levels import Levels

if TYPE_CHECKING:
    from samplecnn.inference.tagger import Tagger


class Embedder:
    """Takes the place of `Tagger.predict_segments` within a ``with``, and returns embeddings too.

    ``levels`` are those that are joined, in their order, and ``widths`` how many features each has. Raises
    ``samplecnn.model.levels.LevelError`` as `Levels` does.
    """

    def __init__(self, tagger: "Tagger", levels: Sequence[str] | None = None) -> None:
        self._tagger = tagger
        self._levels = Levels(tagger.network, levels)
        self.levels, self.widths = self._levels.names, self._levels.widths

    def __enter__(self) -> Self:
        self._levels.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._levels.__exit__(*error)

    def __call__(self, segments: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities, and behind them the embedding: ``(batch, tags + features)``."""
        probabilities = self._tagger.predict_segments(segments)
        embedding = torch.cat(self._levels.take(), dim=1).cpu().numpy()
        return np.hstack([probabilities, embedding])


def mean_over_time(segments: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean ``(features,)`` of segments ``(segments, features)``, summed in double precision."""
    mean: NDArray[np.float32] = segments.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean
