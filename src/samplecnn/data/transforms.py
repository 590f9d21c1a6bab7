"""Changes of waveforms: plain functions of waveforms and explicit parameters; nothing in here is random.

Waveforms are float32 `(batch, samples)` on any device, and parameters have a value for each, `(batch,)`, on
the same device. Nothing is clipped. But for `stretch`, which says so, the number of samples stays.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor
from torchaudio.functional import phase_vocoder

from samplecnn.data.resampling import BatchResampler

FFT, HOP = 2048, 512  # samples, of the phase vocoder: 93 ms at 22,050 Hz
# Of the ratio of two pitches, as a fraction: whole semitones are off by a cent or two, no pitch by more than
# 14, and the kernel that resamples takes 50 kB.
MAX_RATIO_TERM = 64
LOWEST = 20  # Hz, of filters: what they ring on for has to fit into `RINGING`
RINGING = 0.25  # seconds


def gain(waveforms: Tensor, decibels: Tensor) -> Tensor:
    """Make waveforms louder by `decibels`, or softer."""
    return waveforms * _factor(decibels)


def add_noise(waveforms: Tensor, noise: Tensor, snr: Tensor) -> Tensor:
    """Add `noise`, `(batch, samples)`, scaled to an energy `snr` decibels below the waveform's own."""
    ratio = waveforms.square().mean(1) / noise.square().mean(1)
    return waveforms + ratio.sqrt()[:, None] * _factor(-snr) * noise


def low_pass(waveforms: Tensor, hertz: Tensor, rate: int) -> Tensor:
    """Take away what is above `hertz`: 3 dB there, 12 dB an octave beyond (Butterworth, second order)."""
    return _filtered(waveforms, hertz, rate, high=False)


def high_pass(waveforms: Tensor, hertz: Tensor, rate: int) -> Tensor:
    """Take away what is below `hertz`, as `low_pass` does what is above."""
    return _filtered(waveforms, hertz, rate, high=True)


def delay(waveforms: Tensor, samples: Tensor, decibels: Tensor) -> Tensor:
    """Add an echo: the waveform again, `samples` (int64) later and louder by `decibels`."""
    places = torch.arange(waveforms.shape[1], device=waveforms.device) - samples[:, None]
    echo = waveforms.gather(1, places.clamp(min=0)) * (places >= 0)
    return waveforms + _factor(decibels) * echo


def reverberate(waveforms: Tensor, noise: Tensor, seconds: Tensor, wet: Tensor, rate: int) -> Tensor:
    """Put waveforms into a room: the share `wet` of the energy becomes a tail that dies away.

    The room's response is `noise`, `(batch, taps)`, which falls by 60 dB in `seconds`.
    """
    times = torch.arange(noise.shape[1], device=noise.device) / rate
    response = noise * 10 ** (-3 * times / seconds[:, None])
    response = response / response.norm(dim=1, keepdim=True)
    samples = waveforms.shape[1]
    size = _fft_size(samples + noise.shape[1])
    spectra = torch.fft.rfft(waveforms, size) * torch.fft.rfft(response, size)
    tail = torch.fft.irfft(spectra, size)[:, :samples]
    return (1 - wet).sqrt()[:, None] * waveforms + wet.sqrt()[:, None] * tail


def shift_pitch(waveforms: Tensor, semitones: Sequence[float]) -> Tensor:
    """Raise the pitch by `semitones`, at the same speed: stretched by a phase vocoder, then resampled."""
    return torch.cat([_shifted(one, by) for one, by in zip(waveforms.split(1), semitones, strict=True)])


def stretch(waveforms: Tensor, speed: float) -> Tensor:
    """Play waveforms `speed` times as fast, at the same pitch: `(batch, ceil(samples / speed))`."""
    window = torch.hann_window(FFT, device=waveforms.device)
    spectra = torch.stft(waveforms, FFT, HOP, window=window, pad_mode="constant", return_complex=True)
    # Whole turns of the phase from frame to frame are left out: the vocoder sums phases up, and with those
    # turns float32 would have few digits left for the phase after a minute.
    turns = torch.arange(FFT // 2 + 1, device=waveforms.device) * HOP % FFT / FFT
    stretched = phase_vocoder(spectra, speed, 2 * math.pi * turns[:, None])
    return _overlapped(stretched, window)[:, : math.ceil(waveforms.shape[1] / speed)]


def mix(values: Tensor, partners: Tensor, shares: Tensor) -> Tensor:
    """Return a share of each row of `values`, `(batch, any)`, with the rest from the row of its partner."""
    return torch.lerp(values[partners], values, shares[:, None])


def _factor(decibels: Tensor) -> Tensor:
    return 10 ** (decibels[:, None] / 20)


def _fft_size(samples: int) -> int:
    return 1 << (samples - 1).bit_length()


def _filtered(waveforms: Tensor, hertz: Tensor, rate: int, *, high: bool) -> Tensor:
    """Filter in the frequency domain, with the response of the recursive filter (bilinear transform)."""
    samples = waveforms.shape[1]
    size = _fft_size(samples + int(RINGING * rate))  # what rings on would else come back at the beginning
    half = torch.linspace(0, math.pi / 2, size // 2 + 1, dtype=torch.float64, device=waveforms.device)
    s = 1j * half.tan() / (math.pi * hertz.double() / rate).tan()[:, None]
    response = (s * s if high else 1) / (1 + math.sqrt(2) * s + s * s)
    return torch.fft.irfft(torch.fft.rfft(waveforms, size) * response.to(torch.complex64), size)[:, :samples]


def _shifted(waveform: Tensor, semitones: float) -> Tensor:
    """Shift one waveform `(1, samples)`."""
    ratio = Fraction(2 ** (semitones / 12)).limit_denominator(MAX_RATIO_TERM)
    longer = stretch(waveform, float(1 / ratio))
    return BatchResampler(ratio.numerator, ratio.denominator, waveform.shape[1])(longer)


def _overlapped(spectra: Tensor, window: Tensor) -> Tensor:
    """Return the waveforms of spectra `(batch, bins, frames)`; `istft` would wait for a GPU."""
    frames = torch.fft.irfft(spectra.transpose(1, 2), FFT) * window
    # The last row is what the windows add up to.
    frames = torch.cat([frames, window.square().expand(1, frames.shape[1], FFT)])
    length = FFT + HOP * (frames.shape[1] - 1)
    summed = F.fold(frames.transpose(1, 2), (1, length), (1, FFT), stride=(1, HOP))[:, 0, 0, FFT // 2 :]
    return summed[:-1] / summed[-1]
