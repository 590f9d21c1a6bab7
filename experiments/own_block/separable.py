"""A block that is not in the paper, as an example: docs/new-block.md tries it beside SE."""

import torch.nn.functional as F
from torch import Tensor, nn

from samplecnn.model.norm import BatchNorm


class Separable(nn.Module):
    """Filters each channel on its own over ``taps`` steps, then mixes channels (Chollet 2017, "Xception")."""

    def __init__(self, in_channels: int, out_channels: int, *, taps: int = 9) -> None:
        super().__init__()
        if taps < 1 or taps % 2 == 0:
            raise ValueError(f"taps must be an odd number of at least 1, not {taps}")
        self.filter = nn.Conv2d(in_channels, in_channels, (1, taps), padding="same", groups=in_channels)
        self.mix = nn.Conv2d(in_channels, out_channels, 1)
        self.bn = BatchNorm(out_channels)
        for conv in (self.filter, self.mix):
            nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, in_channels, 1, time) -> (batch, out_channels, 1, time // 3)``."""
        return F.relu(F.max_pool2d(self.bn(self.mix(self.filter(x))), (1, 3)))
