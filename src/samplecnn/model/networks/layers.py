"""Layers that more than one network has. Maps are ``(batch, channels, frequency, time)``."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from samplecnn.model.norm import BatchNorm


class ConvPool(nn.Module):
    """A 3x3 convolution, batch norm, ReLU and max pooling."""

    def __init__(self, in_channels: int, out_channels: int, *, pool: int | tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(out_channels)
        self.pool = nn.MaxPool2d(pool)

    def forward(self, x: Tensor) -> Tensor:
        """Pooling comes before the ReLU, which is the same function on a part of the data."""
        return F.relu(self.pool(self.bn(self.conv(x))))


class ConvNorm(nn.Module):
    """A convolution that keeps the time ("same") and only the bands that it fits in ("valid").

    Then batch norm and ReLU; with ``keras`` ReLU and Keras' batch norm, as Pons et al. have them.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: tuple[int, int], *, keras: bool = False
    ) -> None:
        super().__init__()
        self.keras = keras
        self.padding = ((kernel[1] - 1) // 2, kernel[1] // 2)  # an even kernel has one more on the right
        self.conv = nn.Conv2d(in_channels, out_channels, kernel)
        self.bn = BatchNorm(out_channels) if keras else nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, in_channels, bands, time) -> (batch, out_channels, bands - kernel[0] + 1, time)``."""
        x = self.conv(F.pad(x, self.padding))
        return self.bn(F.relu(x)) if self.keras else F.relu(self.bn(x))


def start_he_normal(network: nn.Module) -> None:
    """Start all convolutions and dense layers as Pons' TensorFlow code does.

    Kernels from a normal distribution cut at two standard deviations, of variance 2 / fan-in as
    ``variance_scaling_initializer`` computes it; biases zero.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
            fan_in = layer.weight[0].numel()
            deviation = math.sqrt(1.3 * 2 / fan_in)  # 1.3: what cutting takes off the variance
            nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
