"""End-to-end learning of Dieleman and Schrauwen (2014): the same network on mel bands and on raw audio.

It hears 3 s. With mel bands, as Pons' training code has it: 66,784 parameters and 4.8 million multiply-adds
for 50 tags. On raw audio, with 32 strided filters: 58,622 and 3.4 million.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from samplecnn.model.dropout import Dropout
from samplecnn.model.networks.layers import start_he_normal
from samplecnn.model.networks.network import Network, NetworkError
from samplecnn.model.networks.spectrogram import HOP, SAMPLE_RATE, PonsMel
from samplecnn.model.norm import BatchNorm

INPUTS = ("mel", "raw")


class Dieleman(Network):
    """Two convolutions over time and two dense layers.

    ``input`` is "mel", or "raw": there ``filters`` strided convolutions take the place of the mel bands,
    each over 256 samples (16 ms) and none twice. How many the paper has could not be checked: 32 are those of
    a public re-implementation. The paper's network has no batch norm; the one on mel bands normalises its
    input.
    """

    title = "End-to-end"
    paper = "Dieleman and Schrauwen (2014)"
    segment_samples = 3 * SAMPLE_RATE

    def __init__(self, *, tags: int, input: str = "mel", filters: int = 32, dropout: float = 0.0) -> None:
        super().__init__(tags=tags)
        if input not in INPUTS:
            raise NetworkError(f"input must be one of {', '.join(INPUTS)}, not {input!r}")
        if input == "mel":
            self.spectrogram, self.input_bn = PonsMel(), BatchNorm(1)
        else:
            self.strided = nn.Conv1d(1, filters, HOP, stride=HOP)
        self.input, self.any_rate = input, input == "raw"
        self.conv1 = nn.Conv1d(PonsMel.BANDS if input == "mel" else filters, 32, 8)
        self.conv2 = nn.Conv1d(32, 32, 8)
        self.pool = nn.MaxPool1d(4)
        self.fc = nn.Linear(32 * 9, 100)
        self.dropout = Dropout(dropout)
        self.last = nn.Linear(100, tags)
        start_he_normal(self)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return logits ``(batch, tags)`` for waveforms ``(batch, 48000)``; NetworkError for others."""
        self.require_segments(waveforms)
        if self.input == "mel":
            x = self.input_bn(self.spectrogram(waveforms))[:, 0]  # (batch, 96, 187)
        else:
            x = F.relu(self.strided(waveforms[:, None]))  # (batch, filters, 187)
        x = F.relu(self.pool(self.conv1(x)))  # (batch, 32, 45)
        x = F.relu(self.pool(self.conv2(x)))  # (batch, 32, 9)
        x = F.relu(self.fc(x.transpose(1, 2).flatten(1)))  # time by time, as TensorFlow flattens
        return self.last(self.dropout(x))
