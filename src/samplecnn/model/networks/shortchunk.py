"""The short-chunk CNN of Won, Ferraro, Bogdanov and Serra (2020), without and with residual connections.

It hears 3.69 s: as many samples as SampleCNN, at 16 kHz. 3,687,348 parameters and 2.01 billion multiply-adds
for 50 tags; with ``res`` 12,104,244 and 2.77 billion.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from samplecnn.model.dropout import Dropout
from samplecnn.model.networks.layers import ConvPool
from samplecnn.model.networks.network import Network
from samplecnn.model.networks.spectrogram import LogMel

WIDTH = 128
WIDTH_FACTORS = (1, 1, 2, 2, 2, 2, 4)  # channels of the layers as multiples of the width


class Residual(nn.Module):
    """Two 3x3 convolutions beside a third; two of the three halve frequency and time by their stride."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut_conv = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.shortcut_bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, in_channels, f, t) -> (batch, out_channels, ceil(f / 2), ceil(t / 2))``."""
        main = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(main + self.shortcut_bn(self.shortcut_conv(x)))


class ShortChunk(Network):
    """Seven layers that halve frequency and time, by pooling or with ``res`` by stride; then the maximum."""

    title = "Short-chunk CNN"
    paper = "Won, Ferraro, Bogdanov and Serra (2020)"
    segment_samples = 59_049

    def __init__(self, *, tags: int, res: bool = False, dropout: float = 0.5) -> None:
        super().__init__(tags=tags)
        self.spectrogram = LogMel(128)
        self.input_bn = nn.BatchNorm2d(1)
        channels = [1, *(factor * WIDTH for factor in WIDTH_FACTORS)]
        self.layers = nn.Sequential(
            *(Residual(a, b) if res else ConvPool(a, b, pool=2) for a, b in pairwise(channels))
        )
        self.fc = nn.Linear(channels[-1], channels[-1])
        self.fc_bn = nn.BatchNorm1d(channels[-1])
        self.dropout = Dropout(dropout)
        self.last = nn.Linear(channels[-1], tags)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return logits ``(batch, tags)`` for waveforms ``(batch, 59049)``; NetworkError for others."""
        self.require_segments(waveforms)
        x = self.input_bn(self.spectrogram(waveforms))  # (batch, 1, 128, 231)
        x = self.layers(x)  # (batch, 512, 1, 1), or (batch, 512, 1, 2) with res
        x = x.amax(dim=(2, 3))  # (batch, 512)
        x = F.relu(self.fc_bn(self.fc(x)))
        return self.last(self.dropout(x))
