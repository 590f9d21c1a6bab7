"""What mean and deviation of each mel band tell: the network of docs/new-network.md."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samplecnn.model.dropout import Dropout
from samplecnn.model.networks.network import Network
from samplecnn.model.networks.spectrogram import LogMel


class Bands(Network):
    """Mean and standard deviation over time of 96 mel bands in decibels, and one hidden layer."""

    title = "Bands"
    segment_samples = 3 * 16_000  # 3 s at 16 kHz

    def __init__(self, *, tags: int, units: int = 200, dropout: float = 0.5) -> None:
        super().__init__(tags=tags)
        self.spectrogram = LogMel(96)
        self.bn = nn.BatchNorm1d(2 * 96)
        self.fc = nn.Linear(2 * 96, units)
        self.dropout = Dropout(dropout)
        self.last = nn.Linear(units, tags)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return logits ``(batch, tags)`` for waveforms ``(batch, 48000)``."""
        self.require_segments(waveforms)
        bands = self.spectrogram(waveforms)[:, 0]  # (batch, 96, 188)
        x = torch.cat([bands.mean(dim=2), bands.std(dim=2)], dim=1)  # (batch, 192)
        return self.last(self.dropout(F.relu(self.fc(self.bn(x)))))
