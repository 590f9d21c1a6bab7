"""The blocks: the paper's six (Figure 1), and the layers they share.

Feature maps are ``(batch, channels, 1, time)`` in ``channels_last`` memory: convolutions over time run as
two-dimensional ones of height 1, because PyTorch has fast channels-last kernels for those only.

A block is built as ``Block(in_channels, out_channels, **its own options)``, takes a map of ``time`` steps
and returns one of ``time // 3``. Pooling comes before the ReLU, which is the same function (both keep the
order of values) on a third of the data. To add one, write such a class and a file in ``conf/block/``.

A class whose body says ``fusable = True`` computes the same with ``fused`` set (`SampleCNN.use`). Classes
derived from it have to say so themselves: they may compute something else.
"""

import re
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from samplecnn.model.backends import fused
from samplecnn.model.backends.pooled import norm_gate_add_pool_relu, pool_norm_relu, pools_first
from samplecnn.model.backends.products import Convolution
from samplecnn.model.dropout import Dropout
from samplecnn.model.norm import BatchNorm

KERNEL = 3  # taps of every convolution but the shortcut's, and the pooling of every block


def conv3(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Conv2d:
    """Return a 3-tap convolution over time: same length at stride 1, without padding otherwise.

    The kernel starts He-uniform, the bias at zero.
    """
    conv = (
        Convolution(in_channels, out_channels, KERNEL)
        if stride == 1
        else nn.Conv2d(in_channels, out_channels, (1, KERNEL), stride=(1, stride))
    )
    nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")
    nn.init.zeros_(_bias(conv))
    return conv


def dense(in_features: int, out_features: int) -> nn.Linear:
    """Return a fully connected layer whose weights start Glorot-uniform and whose bias starts at zero."""
    linear = nn.Linear(in_features, out_features)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias


class Shortcut(nn.Module):
    """The skip connection: identity, or a 1-tap convolution and batch norm where the channels change."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv: nn.Conv2d | None = None
        if in_channels != out_channels:
            self.conv = Convolution(in_channels, out_channels, 1)
            self.bn = BatchNorm(out_channels)
            nn.init.xavier_uniform_(self.conv.weight)
            nn.init.zeros_(_bias(self.conv))

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, in_channels, 1, time) -> (batch, out_channels, 1, time)``."""
        return x if self.conv is None else self.bn(self.conv(x))


class SqueezeExcitation(nn.Module):
    """Rescale each channel by a gate computed from the means of all channels (section 2.1.1).

    ``alpha`` is the amplifying ratio: the hidden layer has ``max(1, int(alpha * channels))`` units.
    """

    def __init__(self, channels: int, alpha: float) -> None:
        super().__init__()
        if not alpha > 0:
            raise ValueError(f"alpha must be greater than 0, not {alpha!r}")
        hidden = max(1, int(alpha * channels))
        self.fc1 = dense(channels, hidden)
        self.fc2 = dense(hidden, channels)
        self.gate = nn.Sigmoid()  # a module, so that a forward hook on it reads the excitations
        self.fused = False  # compute the gates in few launches while training

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, channels, 1, time)`` to the same shape."""
        return x * self.excitation(x.mean(dim=(2, 3)))[:, :, None, None].to(x.dtype)

    def excitation(self, squeezed: Tensor) -> Tensor:
        """Return the gates ``(batch, channels)`` for the means over time ``(batch, channels)``."""
        if self.training and self.fused and fused.takes_gate(squeezed, self.fc1, self.fc2, self.gate):
            return fused.gate(self.fc1, self.fc2, squeezed)
        return self.gate(self.fc2(F.relu(self.fc1(squeezed))))


class Basic(nn.Module):
    """The block of SampleCNN (Figure 1b): convolution, batch norm, ReLU, max pooling."""

    fusable: ClassVar[bool] = True

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = conv3(in_channels, out_channels)
        self.bn1 = BatchNorm(out_channels)
        self.pool = nn.MaxPool2d((1, KERNEL))
        self.se: SqueezeExcitation | None = None
        self.fused = False  # compute batch norms with their neighbours while training
        self.pool_first = False  # and, on a CPU in full precision, after the pooling

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, in_channels, 1, time) -> (batch, out_channels, 1, time // 3)``."""
        if self.training and self.fused:
            return fused.conv_norm_relu_pool(self.conv1, self.bn1, x, gate=self.se and self.se.excitation)
        x = self.conv1(x)
        if self.pool_first and self.training and pools_first(self.bn1, x):
            x = pool_norm_relu(self.bn1, x, KERNEL)
        else:
            x = F.relu(self.pool(self.bn1(x)))
        return x if self.se is None else self.se(x)


class SE(Basic):
    """The basic block with squeeze-and-excitation on its pooled output (Figure 1c)."""

    fusable: ClassVar[bool] = True

    def __init__(self, in_channels: int, out_channels: int, *, alpha: float = 16) -> None:
        super().__init__(in_channels, out_channels)
        self.se = SqueezeExcitation(out_channels, alpha)


class Res1(nn.Module):
    """The basic block with a skip connection around its convolution (Figure 1d without the dotted part)."""

    fusable: ClassVar[bool] = True

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.shortcut = Shortcut(in_channels, out_channels)
        self.conv1 = conv3(in_channels, out_channels)
        self.bn1 = BatchNorm(out_channels)
        self.pool = nn.MaxPool2d((1, KERNEL))
        self.se: SqueezeExcitation | None = None
        self.fused = False  # compute batch norms with their neighbours while training
        self.pool_first = False  # and, with a gate on a CPU in full precision, mostly after the pooling

    def last_layer(self) -> tuple[nn.Conv2d, BatchNorm]:
        """Return the last convolution before the addition, and its batch norm."""
        return self.conv1, self.bn1

    def before_last(self, x: Tensor) -> Tensor:
        """Return what enters the last convolution."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, in_channels, 1, time) -> (batch, out_channels, 1, time // 3)``."""
        if self.training and self.fused:
            return self._fused(x)
        conv, norm = self.last_layer()
        residual = conv(self.before_last(x))
        if self.se and self.pool_first and self.training and pools_first(norm, residual):
            return norm_gate_add_pool_relu(norm, self.se.excitation, residual, self.shortcut(x), KERNEL)
        residual = norm(residual)
        if self.se is not None:
            residual = self.se(residual)
        return F.relu(self.pool(residual + self.shortcut(x)))

    def _fused(self, x: Tensor) -> Tensor:
        gate = self.se and self.se.excitation
        conv, norm = self.last_layer()
        if self.shortcut.conv is None:
            x, skip = fused.fork(x)
            return fused.conv_norm_add_relu_pool(conv, norm, self.before_last(x), skip, gate=gate)
        return fused.conv_norm_add_relu_pool(
            conv, norm, self.before_last(x), x, self.shortcut.conv, self.shortcut.bn, gate=gate
        )


class Res2(Res1):
    """Two convolutions with dropout between them inside the skip connection (Figure 1d)."""

    fusable: ClassVar[bool] = True

    def __init__(self, in_channels: int, out_channels: int, *, dropout: float = 0.2) -> None:
        super().__init__(in_channels, out_channels)
        self.dropout = Dropout(dropout)
        self.conv2 = conv3(out_channels, out_channels)
        self.bn2 = BatchNorm(out_channels)

    def last_layer(self) -> tuple[nn.Conv2d, BatchNorm]:
        """Return the last convolution before the addition, and its batch norm."""
        return self.conv2, self.bn2

    def before_last(self, x: Tensor) -> Tensor:
        """Return what enters the last convolution: ``(batch, out_channels, 1, time)``."""
        if self.training and self.fused:
            return fused.conv_norm_relu(self.conv1, self.bn1, x, dropout=self.dropout.p)
        return self.dropout(F.relu(self.bn1(self.conv1(x))))


class ReSE1(Res1):
    """Res-1 with squeeze-and-excitation before the addition (Figure 1e without the dotted part)."""

    fusable: ClassVar[bool] = True

    def __init__(self, in_channels: int, out_channels: int, *, alpha: float = 16) -> None:
        super().__init__(in_channels, out_channels)
        self.se = SqueezeExcitation(out_channels, alpha)


class ReSE2(Res2):
    """Res-2 with squeeze-and-excitation before the addition (Figure 1e)."""

    fusable: ClassVar[bool] = True

    def __init__(
        self, in_channels: int, out_channels: int, *, alpha: float = 16, dropout: float = 0.2
    ) -> None:
        super().__init__(in_channels, out_channels, dropout=dropout)
        self.se = SqueezeExcitation(out_channels, alpha)


# The short names that model files store; a block of any other name is passed in by the caller.
BLOCKS: dict[str, type[nn.Module]] = {
    "basic": Basic,
    "se": SE,
    "res1": Res1,
    "res2": Res2,
    "rese1": ReSE1,
    "rese2": ReSE2,
}


def title(name: str) -> str:
    """Return a block's name as the paper writes it: the class ``ReSE2`` is ReSE-2; others keep their own."""
    return re.sub(r"(?<=\D)(?=\d+$)", "-", BLOCKS[name].__name__) if name in BLOCKS else name
