"""Samples that callers bring: what they may be, as messages to those callers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from samplecnn.data.audio import check_loudness
from samplecnn.errors import UserError

MAX_CHANNELS = 32


def mono(waveform: Any) -> NDArray[np.float32]:
    """Return ``(samples,)`` of floats in [-1, 1], mono or ``(channels, samples)``; UserError for others."""
    samples = floats(waveform, "the waveform")
    if samples.ndim == 2 and samples.shape[0] <= MAX_CHANNELS:
        samples = samples.mean(axis=0)
    if samples.ndim != 1:
        turned = samples.ndim == 2 and samples.shape[1] <= MAX_CHANNELS
        raise UserError(
            f"a waveform is (samples,) or (channels, samples) with up to {MAX_CHANNELS} channels, "
            f"not {samples.shape}" + (": turn it round with .T" if turned else "")
        )
    if samples.size == 0:
        raise UserError("the waveform has no samples")
    return samples


def floats(values: Any, what: str) -> NDArray[np.float32]:
    """Return float32 in [-1, 1], in memory of its own order; UserError for what cannot be samples."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(
            f"{what} must hold floats in [-1, 1], not {array.dtype}: divide 16-bit samples by 32768"
        )
    if not np.isfinite(array).all():
        raise UserError(f"{what} must hold finite numbers only; some are NaN or infinite")
    check_loudness(array)
    return np.ascontiguousarray(array, dtype=np.float32)
