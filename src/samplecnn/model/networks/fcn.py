"""The fully convolutional network of Choi, Fazekas and Sandler (2016), as Won et al. (2020) trained it.

It hears a whole clip of 29 s at once. 447,732 parameters and 2.15 billion multiply-adds for 50 tags. Differs
from Choi's own in 16 instead of 12 kHz, ReLU instead of ELU and batch norm of the input as one channel.
"""

from torch import Tensor, nn

from samplecnn.model.dropout import Dropout
from samplecnn.model.networks.layers import ConvPool
from samplecnn.model.networks.network import Network
from samplecnn.model.networks.spectrogram import SAMPLE_RATE, LogMel


class FCN(Network):
    """Five 3x3 convolutions that pool 96 bands and 1,813 frames down to one value per channel."""

    title = "FCN"
    paper = "Choi, Fazekas and Sandler (2016)"
    segment_samples = 29 * SAMPLE_RATE

    def __init__(self, *, tags: int, dropout: float = 0.5) -> None:
        super().__init__(tags=tags)
        self.spectrogram = LogMel(96)
        self.input_bn = nn.BatchNorm2d(1)
        self.layers = nn.Sequential(
            ConvPool(1, 64, pool=(2, 4)),
            ConvPool(64, 128, pool=(2, 4)),
            ConvPool(128, 128, pool=(2, 4)),
            ConvPool(128, 128, pool=(3, 5)),
            ConvPool(128, 64, pool=(4, 4)),
        )
        self.dropout = Dropout(dropout)
        self.last = nn.Linear(64, tags)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return logits ``(batch, tags)`` for waveforms ``(batch, 464000)``; NetworkError for others."""
        self.require_segments(waveforms)
        x = self.input_bn(self.spectrogram(waveforms))  # (batch, 1, 96, 1813)
        x = self.layers(x)  # (batch, 64, 1, 1)
        return self.last(self.dropout(x.flatten(1)))
