"""The network as it is commonly written in PyTorch: channels first, Conv1d, op by op."""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int, alpha: int = 16) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, alpha * channels),
            nn.ReLU(),
            nn.Linear(alpha * channels, channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, channels, time)`` to the same."""
        return x * self.fc(x.mean(dim=2)).unsqueeze(2)


class Basic(nn.Module):
    """Convolution, batch norm, ReLU, pooling; with a gate for SE."""

    def __init__(self, inputs: int, outputs: int, *, gate: bool = False) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv1d(inputs, outputs, 3, padding=1), nn.BatchNorm1d(outputs)
        self.gate = Gate(outputs) if gate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, inputs, time) -> (batch, outputs, time // 3)``."""
        return self.gate(F.max_pool1d(F.relu(self.bn(self.conv(x))), 3))


class ReSE2(nn.Module):
    """Two convolutions and a gate inside a skip connection."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv1d(inputs, outputs, 3, padding=1), nn.BatchNorm1d(outputs), nn.ReLU(), nn.Dropout(0.2)),
            *(nn.Conv1d(outputs, outputs, 3, padding=1), nn.BatchNorm1d(outputs), Gate(outputs)),
        )
        self.skip: nn.Module = nn.Identity()
        if inputs != outputs:
            self.skip = nn.Sequential(nn.Conv1d(inputs, outputs, 1), nn.BatchNorm1d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, inputs, time) -> (batch, outputs, time // 3)``."""
        return F.max_pool1d(F.relu(self.body(x) + self.skip(x)), 3)


BLOCKS: dict[str, Callable[[int, int], nn.Module]] = {
    "basic": Basic,
    "se": lambda inputs, outputs: Basic(inputs, outputs, gate=True),
    "rese2": ReSE2,
}


class Reference(nn.Module):
    """The nine-block network with multi-level aggregation."""

    def __init__(self, block: str, width: int, tags: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(1, width, 3, stride=3), nn.BatchNorm1d(width), nn.ReLU())
        channels = [width, *(factor * width for factor in (1, 1, 2, 2, 2, 2, 2, 2, 4))]
        pairs = pairwise(channels)
        self.blocks = nn.ModuleList(BLOCKS[block](inputs, outputs) for inputs, outputs in pairs)
        features = 8 * width
        self.head = nn.Sequential(
            *(nn.Linear(features, features), nn.BatchNorm1d(features), nn.ReLU(), nn.Dropout(0.5)),
            nn.Linear(features, tags),
        )

    def forward(self, waveforms: Tensor) -> Tensor:
        """``(batch, 59049) -> (batch, tags)`` logits."""
        x = self.stem(waveforms[:, None])
        pooled = []
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number > 6:
                pooled.append(x.amax(dim=2))
        return self.head(torch.cat(pooled, dim=1))
