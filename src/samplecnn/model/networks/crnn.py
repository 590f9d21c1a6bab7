"""The convolutional recurrent network of Choi et al. (2017), as Won et al. (2020) trained it.

It hears a whole clip of 29 s at once. 394,100 parameters and 4.06 billion multiply-adds (the GRU not
counted) for 50 tags. Differs from Choi's own in 16 instead of 12 kHz, ReLU instead of ELU, dropout at the end
only, and 18 instead of 15 steps of the GRU.
"""

from torch import Tensor, nn

from samplecnn.model.dropout import Dropout
from samplecnn.model.networks.layers import ConvPool
from samplecnn.model.networks.network import Network
from samplecnn.model.networks.spectrogram import SAMPLE_RATE, LogMel


class CRNN(Network):
    """Four 3x3 convolutions that pool the frequencies away, and a GRU of two layers over the rest of time."""

    title = "CRNN"
    paper = "Choi, Fazekas, Sandler and Cho (2017)"
    segment_samples = 29 * SAMPLE_RATE

    def __init__(self, *, tags: int, dropout: float = 0.5) -> None:
        super().__init__(tags=tags)
        self.spectrogram = LogMel(96)
        self.input_bn = nn.BatchNorm2d(1)
        self.layers = nn.Sequential(
            ConvPool(1, 64, pool=2),
            ConvPool(64, 128, pool=3),
            ConvPool(128, 128, pool=4),
            ConvPool(128, 128, pool=4),
        )
        self.gru = nn.GRU(128, 32, num_layers=2, batch_first=True)
        self.dropout = Dropout(dropout)
        self.last = nn.Linear(32, tags)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return logits ``(batch, tags)`` for waveforms ``(batch, 464000)``; NetworkError for others."""
        self.require_segments(waveforms)
        x = self.input_bn(self.spectrogram(waveforms))  # (batch, 1, 96, 1813)
        x = self.layers(x)  # (batch, 128, 1, 18)
        steps, _ = self.gru(x[:, :, 0].transpose(1, 2))  # (batch, 18, 32)
        return self.last(self.dropout(steps[:, -1]))
