"""The harmonic CNN of Won, Chun, Nieto and Serra (2020): a filter bank of notes and their overtones.

It hears 5 s. 3,631,551 parameters and 4.24 billion multiply-adds for 50 tags.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samplecnn.model.dropout import Dropout
from samplecnn.model.networks.layers import ConvPool
from samplecnn.model.networks.network import Network
from samplecnn.model.networks.spectrogram import BINS, F_MAX, SAMPLE_RATE, Spectrogram, decibels

HARMONICS = 6
LOWEST, HIGHEST = 24, 88  # MIDI notes C1 and E6, the last whose sixth harmonic is below 8 kHz
BANDS = 2 * (HIGHEST - LOWEST)  # two per semitone
BANDWIDTH = (0.1079, 24.7)  # slope and offset (Hz) of the bandwidth over the centre frequency
WIDTH = 128


class HarmonicSpectrogram(nn.Module):
    """Decibels in 128 bands around notes and in the same bands around each of their harmonics.

    A band is a triangle that is ``(0.1079 f + 24.7 Hz) / Q`` wide around its centre f; Q is learned.
    """

    centres: Tensor
    bins: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.spectrogram = Spectrogram()
        self.q = nn.Parameter(torch.ones(1))
        with torch.device("cpu"):
            notes = LOWEST + torch.arange(BANDS, dtype=torch.float64) / 2
            frequencies = 440 * 2 ** ((notes - 69) / 12)  # Hz
            harmonics = torch.arange(1, HARMONICS + 1, dtype=torch.float64)
            centres = (harmonics[:, None] * frequencies).flatten()[:, None]
            self.register_buffer("centres", centres.float(), persistent=False)  # (768, 1)
            self.register_buffer("bins", torch.linspace(0, F_MAX, BINS), persistent=False)

    def filters(self) -> Tensor:
        """Return the triangles ``(768, 257)``, those of the first harmonic first."""
        slope, offset = BANDWIDTH
        bandwidth = (slope * self.centres + offset) / self.q
        distance = 2 * (self.bins - self.centres) / bandwidth
        return torch.minimum(1 + distance, 1 - distance).clamp(min=0)

    def forward(self, waveforms: Tensor) -> Tensor:
        """``(batch, samples) -> (batch, 6, 128, samples // 256 + 1)``."""
        with torch.autocast(waveforms.device.type, enabled=False):
            bands = self.filters() @ self.spectrogram(waveforms)
            return decibels(bands.unflatten(1, (HARMONICS, BANDS)))


class ResidualPool(nn.Module):
    """Two 3x3 convolutions with a skip connection around them, and max pooling."""

    def __init__(self, channels: int, *, pool: int | tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.pool = nn.MaxPool2d(pool)

    def forward(self, x: Tensor) -> Tensor:
        """Pooling comes before the ReLU, which is the same function on a part of the data."""
        main = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(self.pool(x + main))


class Harmonic(Network):
    """The harmonics as six channels of one picture, seven layers that pool it, the maximum over time."""

    title = "Harmonic CNN"
    paper = "Won, Chun, Nieto and Serra (2020)"
    segment_samples = 5 * SAMPLE_RATE

    def __init__(self, *, tags: int, dropout: float = 0.5) -> None:
        super().__init__(tags=tags)
        self.spectrogram = HarmonicSpectrogram()
        self.input_bn = nn.BatchNorm2d(HARMONICS)
        self.layers = nn.Sequential(
            ConvPool(HARMONICS, WIDTH, pool=2),
            ResidualPool(WIDTH, pool=2),
            ResidualPool(WIDTH, pool=2),
            ResidualPool(WIDTH, pool=2),
            ConvPool(WIDTH, 2 * WIDTH, pool=2),
            ResidualPool(2 * WIDTH, pool=(2, 3)),
            ResidualPool(2 * WIDTH, pool=(2, 3)),
        )
        self.fc = nn.Linear(2 * WIDTH, 2 * WIDTH)
        self.fc_bn = nn.BatchNorm1d(2 * WIDTH)
        self.dropout = Dropout(dropout)
        self.last = nn.Linear(2 * WIDTH, tags)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return logits ``(batch, tags)`` for waveforms ``(batch, 80000)``; NetworkError for others."""
        self.require_segments(waveforms)
        x = self.input_bn(self.spectrogram(waveforms))  # (batch, 6, 128, 313)
        x = self.layers(x).amax(dim=(2, 3))  # (batch, 256)
        x = F.relu(self.fc_bn(self.fc(x)))
        return self.last(self.dropout(x))
