"""A trained network put to another use: a small classifier on some of its levels."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samplecnn.model.dropout import Dropout
from samplecnn.model.levels import Levels
from samplecnn.model.networks.network import Network


class Probe(Network):
    """What `samplecnn probe` trains: a logistic regression per tag on the joined ``levels`` of a network.

    With ``hidden`` the classifier has a hidden layer of so many units. It computes in single precision
    whatever the network below does: what tells tags apart may be a small part of a feature's value. Of the
    network's weights none is left out, its own last layer included.
    """

    title = "Probe"

    def __init__(
        self,
        features: Network,
        levels: Sequence[str],
        *,
        tags: int,
        hidden: int | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(tags=tags)
        self.features = features
        self.sample_rate, self.segment_samples = features.sample_rate, features.segment_samples
        self.levels = Levels(features, levels)
        self.levels.__enter__()  # for good
        width = sum(self.levels.widths)
        self.fc = None if hidden is None else nn.Linear(width, hidden)
        self.dropout = Dropout(dropout)
        self.last = nn.Linear(hidden or width, tags)

    def take(self, layers: Sequence[nn.Linear]) -> None:
        """Have fitted layers as the classifier."""
        *hidden, self.last = layers
        if hidden:
            [self.fc] = hidden

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return logits ``(batch, tags)`` for waveforms ``(batch, segment_samples)``.

        Raises NetworkError for any other shape.
        """
        self.features(waveforms)
        return self.classify(torch.cat(self.levels.take(), dim=1))

    def classify(self, embeddings: Tensor) -> Tensor:
        """Return logits ``(batch, tags)`` for embeddings ``(batch, features)`` of segments."""
        with torch.autocast(embeddings.device.type, enabled=False):
            heard = embeddings if self.fc is None else F.relu(self.fc(embeddings))
            return self.last(self.dropout(heard))
