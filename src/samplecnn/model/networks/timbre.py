"""The timbre CNN of Pons, Slizovskaia, Gong, Gomez and Serra (2017), as its author's training code has it.

It hears 3 s. 185,856 parameters and 97 million multiply-adds for 50 tags.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samplecnn.model.dropout import Dropout
from samplecnn.model.networks.layers import ConvNorm, start_he_normal
from samplecnn.model.networks.network import Network
from samplecnn.model.networks.spectrogram import PonsMel
from samplecnn.model.norm import BatchNorm

# Bands of a filter -> (frames of a filter, number of such filters)
FILTERS = {
    76: ((7, 3), (5, 3), (3, 6), (1, 10)),  # 0.8 of 96 bands
    57: ((7, 5), (5, 5), (3, 10), (1, 15)),  # 0.6
    19: ((7, 5), (5, 5), (3, 10), (1, 15)),  # 0.2
}


class Timbre(Network):
    """Twelve kinds of filters over many bands and few frames, wherever in frequency they answer most."""

    title = "Timbre CNN"
    paper = "Pons, Slizovskaia, Gong, Gómez and Serra (2017)"
    segment_samples = PonsMel.SAMPLES

    def __init__(self, *, tags: int, dropout: float = 0.0) -> None:
        super().__init__(tags=tags)
        self.spectrogram = PonsMel()
        self.input_bn = BatchNorm(1)
        self.front = nn.ModuleList(
            ConvNorm(1, number, (bands, frames), keras=True)
            for bands, shapes in FILTERS.items()
            for frames, number in shapes
        )
        channels = sum(number for shapes in FILTERS.values() for _, number in shapes)
        self.conv = nn.Conv1d(channels, 32, 8)
        self.pool = nn.MaxPool1d(4)
        self.fc = nn.Linear(32 * 45, 100)
        self.dropout = Dropout(dropout)
        self.last = nn.Linear(100, tags)
        start_he_normal(self)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return logits ``(batch, tags)`` for waveforms ``(batch, 48000)``; NetworkError for others."""
        self.require_segments(waveforms)
        x = self.input_bn(self.spectrogram(waveforms))  # (batch, 1, 96, 187)
        x = torch.cat([conv(x).amax(dim=2) for conv in self.front], dim=1)  # (batch, 92, 187)
        x = F.relu(self.pool(self.conv(x)))  # (batch, 32, 45)
        x = F.relu(self.fc(x.transpose(1, 2).flatten(1)))  # time by time, as TensorFlow flattens
        return self.last(self.dropout(x))
