"""Spectrograms inside a network, in two dialects: Won's decibels and Pons' compressed mel bands.

Windows and filter banks are buffers outside the checkpoint: they are made, not learned. All of this is
computed in float32 (float64 in a float64 network) whatever autocast is on: bfloat16 has 8 bits, and quiet
bands next to loud ones need more.
"""

import warnings

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

SAMPLE_RATE = 16_000  # Hz
N_FFT = 512  # samples of a frame: 32 ms
HOP = 256  # samples from frame to frame: 16 ms
BINS = N_FFT // 2 + 1
F_MAX = SAMPLE_RATE / 2  # Hz
QUIETEST = 1e-10  # power that silence is taken for, -100 dB


class Spectrogram(nn.Module):
    """Power of 257 frequencies from 0 to 8 kHz, by Hann windows of 512 samples around every 256th one.

    ``pad_mode`` fills up the windows at both ends: "reflect" (PyTorch's default) or "constant" (zeros).
    """

    window: Tensor

    def __init__(self, *, pad_mode: str = "reflect") -> None:
        super().__init__()
        self.pad_mode = pad_mode
        with torch.device("cpu"):  # also where a network is made without weights: no file brings the window
            self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """``(batch, samples) -> (batch, 257, samples // 256 + 1)``."""
        with torch.autocast(waveforms.device.type, enabled=False):
            spectrum = torch.stft(
                waveforms.to(self.window.dtype),
                N_FFT,
                HOP,
                window=self.window,
                pad_mode=self.pad_mode,
                return_complex=True,
            )
            return spectrum.real.square() + spectrum.imag.square()


class MelSpectrogram(nn.Module):
    """Power in triangular bands that are equally wide on a mel scale from 0 to 8 kHz.

    HTK's scale with triangles of height 1, or with ``slaney`` Slaney's scale with triangles of equal area.
    """

    filters: Tensor

    def __init__(self, bands: int, *, slaney: bool = False, pad_mode: str = "reflect") -> None:
        super().__init__()
        self.spectrogram = Spectrogram(pad_mode=pad_mode)
        with torch.device("cpu"), warnings.catch_warnings():
            # The lowest of 128 bands are narrower than the distance of two bins, and some get nothing.
            warnings.filterwarnings("ignore", "At least one mel filterbank has all zero values")
            filters = melscale_fbanks(
                BINS,
                0.0,
                F_MAX,
                bands,
                SAMPLE_RATE,
                norm="slaney" if slaney else None,
                mel_scale="slaney" if slaney else "htk",
            )
            self.register_buffer("filters", filters.T.contiguous(), persistent=False)  # (bands, 257)

    def forward(self, waveforms: Tensor) -> Tensor:
        """``(batch, samples) -> (batch, bands, samples // 256 + 1)``."""
        with torch.autocast(waveforms.device.type, enabled=False):
            return self.filters @ self.spectrogram(waveforms)


def decibels(power: Tensor) -> Tensor:
    """Return a power in dB, at least -100."""
    return 10 * power.clamp(min=QUIETEST).log10()


class LogMel(MelSpectrogram):
    """The input of Won et al. (2020): mel bands in decibels."""

    def forward(self, waveforms: Tensor) -> Tensor:
        """``(batch, samples) -> (batch, 1, bands, samples // 256 + 1)``."""
        return decibels(super().forward(waveforms))[:, None]


class PonsMel(MelSpectrogram):
    """The input of Pons et al. (2017, 2018): 96 mel bands x as log10(10,000 x + 1).

    Their patches have 187 frames. The segment of 3 s has one more, centred on its very end: it is left out.
    """

    BANDS = 96
    FRAMES = 187
    SAMPLES = 3 * SAMPLE_RATE

    def __init__(self) -> None:
        super().__init__(self.BANDS, slaney=True, pad_mode="constant")

    def forward(self, waveforms: Tensor) -> Tensor:
        """``(batch, 48000) -> (batch, 1, 96, 187)``."""
        mel = super().forward(waveforms)[:, :, : self.FRAMES]
        return (10_000 * mel + 1).log10()[:, None]
