"""The strided sample-level CNN of Figure 1(a), around any block."""

import importlib.util
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samplecnn.model.backends.fused import operations
from samplecnn.model.backends.products import Convolution
from samplecnn.model.backends.stem import stem_by_taps
from samplecnn.model.blocks import KERNEL, SqueezeExcitation, conv3, dense
from samplecnn.model.dropout import Dropout
from samplecnn.model.networks.network import Network, NetworkError
from samplecnn.model.norm import BatchNorm

DEPTH = 9  # blocks
SEGMENT_SAMPLES = KERNEL ** (DEPTH + 1)  # 59,049: the stem and every block divide the time by 3
LEVELS = 3  # blocks whose outputs the multi-level aggregation joins
# Channels of each block as multiples of the width (golden network of Kim, Lee and Nam, 2018).
WIDTH_FACTORS = (1, 1, 2, 2, 2, 2, 2, 2, 4)

# Ways to compute the same function: with PyTorch's layers alone; with the stem and the gradients of kernels
# as matrix products (training on a CPU); with the stem alone as one; compiled by PyTorch; or with the stem
# and the blocks' batch norms fused by Triton with what surrounds them (both for training on a GPU).
# In full precision on a CPU the second and third also pool before they normalise (`backends/pooled.py`).
PLAIN, PRODUCTS, STEM, COMPILE, TRITON = "plain", "products", "stem", "compile", "triton"
BACKENDS = (PLAIN, PRODUCTS, STEM, COMPILE, TRITON)

BlockFactory = Callable[[int, int], nn.Module]


class SampleCNN(Network):
    """A strided stem, nine blocks and a head of two dense layers (Kim, Lee and Nam, 2018, Figure 1a).

    ``block(in_channels, out_channels)`` builds one block. With ``multi`` the head sees the outputs of the
    last three blocks, each reduced to its maximum over time and then concatenated; without, that of the
    last block alone. ``dropout`` acts before the last layer. ``pad_front`` zeros (up to 2) come before the
    segment and as many samples are dropped at its end: the stem of some published networks is padded.
    """

    title = "SampleCNN"
    paper = "Kim, Lee and Nam (2018)"
    sample_rate = 22_050
    any_rate = True
    segment_samples = SEGMENT_SAMPLES

    def __init__(
        self,
        block: BlockFactory,
        *,
        tags: int,
        width: int = 128,
        multi: bool = True,
        dropout: float = 0.5,
        pad_front: int = 0,
    ) -> None:
        super().__init__(tags=tags)
        if width < 1:
            raise NetworkError(f"width must be at least 1, not {width}")
        if type(pad_front) is not int or not 0 <= pad_front < KERNEL:
            raise NetworkError(f"pad_front must be 0 to {KERNEL - 1}, not {pad_front}")
        self.pad_front = pad_front
        self.levels = LEVELS if multi else 1
        self.backend = PLAIN
        self.stem_conv = conv3(1, width, stride=KERNEL)
        self.stem_bn = BatchNorm(width)
        self.channels = channels = [width, *(factor * width for factor in WIDTH_FACTORS)]  # of stem, blocks
        self.blocks = nn.ModuleList(block(channels[i], channels[i + 1]) for i in range(DEPTH))
        features = sum(channels[-self.levels :])
        self.head_fc1 = dense(features, features)
        self.head_bn = BatchNorm(features)
        self.head_dropout = Dropout(dropout)
        self.head_fc2 = dense(features, tags)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return logits ``(batch, tags)`` for waveforms ``(batch, 59049)`` with samples in [-1, 1].

        Raises NetworkError for any other shape.
        """
        self.require_segments(waveforms)
        return _compiled()(self, waveforms) if self.backend == COMPILE else self._logits(waveforms)

    def _logits(self, waveforms: Tensor) -> Tensor:
        if self.pad_front:
            waveforms = F.pad(waveforms, (self.pad_front, -self.pad_front))
        x = self._stem(waveforms)  # (batch, width, 1, 19683)
        pooled = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index >= DEPTH - self.levels:
                pooled.append(x.amax(dim=(2, 3)))
        x = torch.cat(pooled, dim=1)  # (batch, features)
        x = F.relu(self.head_bn(self.head_fc1(x)))
        return self.head_fc2(self.head_dropout(x))

    def use(self, backend: str) -> None:
        """Choose how the network computes, one of ``BACKENDS``; ValueError for any other.

        A property of the object, not of the weights: it is not saved. Triton is loaded only now, and what
        that raises is raised.
        """
        if backend not in BACKENDS:
            raise ValueError(
                f"there is no backend {backend!r} to compute on; allowed are {', '.join(BACKENDS)}"
            )
        if backend == TRITON:
            if not has_triton():
                raise ValueError("backend 'triton' needs Triton, which PyTorch brings along on Linux only")
            operations()
        self.backend = backend
        for module in self.modules():
            if isinstance(module, Convolution):
                module.by_products = backend == PRODUCTS
            if isinstance(module, SqueezeExcitation):
                module.fused = backend == TRITON
        for block in self.blocks:
            if _fusable(block):
                block.fused = backend == TRITON  # type: ignore[assignment]
                block.pool_first = backend in (PRODUCTS, STEM)  # type: ignore[assignment]

    @property
    def fusable(self) -> bool:
        """Whether all blocks have Triton kernels; those of one's own have none."""
        return all(map(_fusable, self.blocks))

    def _stem(self, waveforms: Tensor) -> Tensor:
        if self.backend in (PRODUCTS, STEM, TRITON):
            fused = self.training and self.backend == TRITON
            return stem_by_taps(self.stem_conv, self.stem_bn, waveforms, fused=fused)
        x = waveforms[:, None, None, :].contiguous(memory_format=torch.channels_last)
        return F.relu(self.stem_bn(self.stem_conv(x)))


def _fusable(block: nn.Module) -> bool:
    return bool(vars(type(block)).get("fusable"))  # not what it inherits


def sample_cnns(network: nn.Module) -> list[SampleCNN]:
    """Return the SampleCNN that a network is, or has in it as a probe does; none for another network."""
    return [module for module in network.modules() if isinstance(module, SampleCNN)]


def use(network: Network, backend: str) -> None:
    """Choose how a network computes; any other than SampleCNN has PyTorch's layers alone."""
    for found in sample_cnns(network):
        found.use(backend)


def last_layer(network: Network) -> str:
    """Return the name of the layer whose outputs are the logits."""
    return "head_fc2" if isinstance(network, SampleCNN) else "last"


def has_triton() -> bool:
    """Say whether Triton is installed, without loading it."""
    return importlib.util.find_spec("triton") is not None


@cache
def _compiled() -> Callable[[SampleCNN, Tensor], Tensor]:
    return torch.compile(SampleCNN._logits, dynamic=False)


def backends(device_type: str) -> tuple[str, ...]:
    """Return the backends that there are for a kind of device ("cpu", "cuda"), the plain one first."""
    if device_type != "cuda":
        return (PLAIN, PRODUCTS, STEM)
    return (PLAIN, STEM, COMPILE, TRITON) if has_triton() else (PLAIN, STEM)
