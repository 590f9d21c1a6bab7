"""Musicnn (Pons et al., 2018; Pons and Serra, 2019): filters in the shapes of timbres and rhythms.

It hears 3 s. As Won et al. (2020) trained it: 784,300 parameters and 1.20 billion multiply-adds for 50 tags.
With ``original`` as its authors published it: 787,159 and 1.40 billion.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samplecnn.model.dropout import Dropout
from samplecnn.model.networks.layers import ConvNorm, start_he_normal
from samplecnn.model.networks.network import Network
from samplecnn.model.networks.spectrogram import LogMel, PonsMel
from samplecnn.model.norm import BatchNorm

TALL = 204  # filters over many bands and 7 frames: timbres
LONG = 51  # filters over many frames: rhythms
TALL_BANDS = (67, 38)  # 0.7 and 0.4 of 96
LONG_FRAMES = (129, 65, 33)


class Musicnn(Network):
    """Filters tall and long, three layers over time with skip connections, maximum and mean over time.

    Won's: the long filters hear the mean over the bands; ReLU after batch norm. For the Million Song Dataset
    it was larger, ``mid=512 dense=500``. Theirs (``original``): the long filters are one frame shorter and
    hear every band, of which the largest answer counts; batch norm after ReLU, and on the pooled features;
    another compression of the mel bands.
    """

    title = "Musicnn"
    paper = "Pons and Serra (2019)"
    segment_samples = PonsMel.SAMPLES

    def __init__(
        self, *, tags: int, original: bool = False, mid: int = 64, dense: int = 200, dropout: float = 0.5
    ) -> None:
        super().__init__(tags=tags)
        self.original = original
        self.spectrogram: nn.Module = PonsMel() if original else LogMel(96)
        self.input_bn = BatchNorm(1) if original else nn.BatchNorm2d(1)
        self.tall = nn.ModuleList(ConvNorm(1, TALL, (bands, 7), keras=original) for bands in TALL_BANDS)
        self.long = nn.ModuleList(
            ConvNorm(1, LONG, (1, frames - 1 if original else frames), keras=original)
            for frames in LONG_FRAMES
        )
        front = TALL * len(TALL_BANDS) + LONG * len(LONG_FRAMES)
        self.mid = nn.ModuleList(
            ConvNorm(channels, mid, (1, 7), keras=original) for channels in (front, mid, mid)
        )
        pooled = 2 * (front + 3 * mid)
        self.pooled_bn = BatchNorm(pooled) if original else None
        self.fc = nn.Linear(pooled, dense)
        self.fc_bn = BatchNorm(dense) if original else nn.BatchNorm1d(dense)
        self.dropout = Dropout(dropout)
        self.last = nn.Linear(dense, tags)
        if original:
            start_he_normal(self)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return logits ``(batch, tags)`` for waveforms ``(batch, 48000)``; NetworkError for others."""
        self.require_segments(waveforms)
        x = self.input_bn(self.spectrogram(waveforms))  # (batch, 1, 96, 188), original 187 frames
        rhythm = x if self.original else x.mean(dim=2, keepdim=True)
        answers = [conv(x) for conv in self.tall] + [conv(rhythm) for conv in self.long]
        front = torch.cat([answer.amax(dim=2, keepdim=True) for answer in answers], dim=1)
        first, second, third = self.mid
        a = first(front)
        b = second(a) + a
        c = third(b) + b
        x = torch.cat([front, a, b, c], dim=1)  # (batch, 753, 1, 188)
        x = torch.cat([x.amax(dim=(2, 3)), x.mean(dim=(2, 3))], dim=1)  # (batch, 1506)
        if self.pooled_bn is None:
            x = F.relu(self.fc_bn(self.fc(x)))
        else:
            x = self.fc_bn(F.relu(self.fc(self.dropout(self.pooled_bn(x)))))
        return self.last(self.dropout(x))
