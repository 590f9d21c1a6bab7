"""Embeddings: what a network has made of a segment at some of its levels, beside the tags that it says."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from samplecnn.model.levels import Levels

if TYPE_CHECKING:
    from samplecnn.inference.tagger import Predict, Tagger


def with_embeddings(tagger: "Tagger", levels: Levels) -> "Predict":
    """Return what takes the place of `Tagger.predict_segments` while ``levels`` of its network are read.

    It returns the probabilities, and behind them the levels in their order: ``(batch, tags + features)``.
    """

    def predict(segments: NDArray[np.float32]) -> NDArray[np.float32]:
        probabilities = tagger.predict_segments(segments)
        return np.hstack([probabilities, torch.cat(levels.take(), dim=1).cpu().numpy()])

    return predict


def mean_over_time(segments: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean ``(features,)`` of segments ``(segments, features)``, summed in double precision."""
    mean: NDArray[np.float32] = segments.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean
