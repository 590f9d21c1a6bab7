"""Resampling of good quality and known cost: over 80 dB SNR up to 7 kHz.

Everything is numpy on the way in and out; only the resampling itself runs in torch.
"""

import math
from copy import deepcopy
from fractions import Fraction
from functools import lru_cache
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchaudio.transforms import Resample

from samplecnn.data.decoding import AudioError

SAMPLE_RATE = 22_050  # Hz
RATES = (1_000, 1_000_000)  # Hz: outside of it a header is damaged rather than unusual
# Resampling by p/q with both at most this covers every common rate exactly (192 kHz is 147/1280) and keeps
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


@lru_cache(maxsize=16)
def _resampler(rate: float, target: float) -> Resample:
    exact = Fraction(float(target)) / Fraction(float(rate))
    if target > rate:
        ratio = 1 / (1 / exact).limit_denominator(MAX_RATIO_TERM)
    else:
        ratio = exact.limit_denominator(MAX_RATIO_TERM)
    return Resample(orig_freq=ratio.denominator, new_freq=ratio.numerator, **KAISER_BEST)


def resample(waveform: np.ndarray, rate: float, target: float = SAMPLE_RATE) -> np.ndarray:
    """Resample float32 `(samples,)` from `rate` to `target` Hz: float32 `(ceil(samples * target / rate),)`.

    For a rate whose ratio to the target is no fraction of small terms (44,099 Hz, say) the nearest such
    fraction stands in: speed and pitch are then off by less than 0.05 %.

    Raises `AudioError` for a rate outside 1,000 ... 1,000,000 Hz.
    """
    if _same(rate, target):
        return waveform.astype(np.float32, copy=False)
    bands = _bands(rate, target)
    rows = -(-len(waveform) // bands.hop)
    padded = np.zeros(rows * bands.hop + bands.span, dtype=np.float32)
    padded[bands.pad : bands.pad + len(waveform)] = waveform
    return _polyphase(padded, rows, bands)[: math.ceil(len(waveform) * bands.ratio)]


def samples_before(samples: int, rate: int, target: int) -> int:
    """Return how many samples at `rate` Hz become `samples` at `target` Hz, or just more."""
    resampler = _resampler(rate, target)
    return -(-samples * int(resampler.orig_freq) // int(resampler.new_freq))


class BatchResampler:
    """`resample` for many waveforms at once, on the device that they are on, each cut to `samples`."""

    def __init__(self, rate: int, target: int, samples: int) -> None:
        self._resampler = deepcopy(_resampler(rate, target))
        self._samples = samples

    def __call__(self, waveforms: Tensor) -> Tensor:
        """`(batch, samples_before(...))` float32 to `(batch, samples)`; beyond the ends there is silence."""
        self._resampler.to(waveforms.device, non_blocking=True)
        with torch.autocast(waveforms.device.type, enabled=False):
            resampled: Tensor = self._resampler(waveforms)
        return resampled[:, : self._samples].contiguous()


class Resampler:
    """`resample` for a waveform that comes in blocks, in constant memory: the same samples.

    Raises `AudioError` as `resample` does.
    """

    def __init__(self, rate: float, target: float = SAMPLE_RATE) -> None:
        self._bands = None if _same(rate, target) else _bands(rate, target)
        self._waiting = np.zeros(self._bands.pad if self._bands else 0, dtype=np.float32)
        self._taken = self._given = 0

    def push(self, block: np.ndarray) -> np.ndarray:
        """Take the next `(samples,)`; return what can be computed by now, float32 `(any number,)`."""
        if self._bands is None:
            return block.astype(np.float32, copy=False)
        self._taken += len(block)
        self._waiting = np.concatenate([self._waiting, block], dtype=np.float32)
        rows = (len(self._waiting) - self._bands.span) // self._bands.hop
        if rows <= 0:
            return np.zeros(0, dtype=np.float32)
        resampled = _polyphase(self._waiting, rows, self._bands)
        self._waiting = self._waiting[rows * self._bands.hop :]
        self._given += len(resampled)
        return resampled

    def finish(self) -> np.ndarray:
        """Return the rest, when all blocks were pushed."""
        if self._bands is None:
            return self._waiting
        missing = math.ceil(self._taken * self._bands.ratio) - self._given
        return self.push(np.zeros(self._bands.span + self._bands.hop, dtype=np.float32))[:missing]


def _same(rate: float, target: float) -> bool:
    """Tell whether nothing is to do, also where the nearest fraction is 1; AudioError for absurd rates."""
    for hertz in (rate, target):
        if not isinstance(hertz, Real) or not RATES[0] <= hertz <= RATES[1]:
            raise AudioError(f"sample rate is {hertz} Hz: allowed are {RATES[0]:,} to {RATES[1]:,} Hz")
    resampler = _resampler(rate, target)
    return bool(resampler.orig_freq == resampler.new_freq)


class _Bands(NamedTuple):
    """A resampling kernel cut into products of small matrices: `kernels[i]` makes outputs from `BAND * i`."""

    hop: int  # input samples per row of outputs
    phases: int  # output samples per row
    ratio: Fraction  # output samples per input sample
    pad: int  # zeros in front of the input
    span: int  # input samples that a row needs, from its first on
    kernels: tuple[tuple[int, Tensor], ...]  # first input sample, (taps, outputs)


@lru_cache(maxsize=16)
def _bands(rate: float, target: float) -> _Bands:
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
    span = max(first + len(weights) for first, weights in kernels)
    return _Bands(periods * hop, len(kernel), Fraction(phases, hop), resampler.width, span, tuple(kernels))


def _polyphase(padded: np.ndarray, rows: int, bands: _Bands) -> np.ndarray:
    """Resample float32 `(pad + samples + enough,)`: `(rows * phases,)`, equal to `Resample` but for the order
    of its sums.
    """
    out = torch.empty(rows, bands.phases)
    with torch.inference_mode():
        samples = torch.from_numpy(padded)
        for column, (first, kernel) in zip(out.split(BAND, dim=1), bands.kernels, strict=True):
            inputs = samples.as_strided((rows, len(kernel)), (bands.hop, 1), first)
            torch.mm(inputs, kernel, out=column)
    resampled: np.ndarray = out.view(-1).numpy()
    return resampled
