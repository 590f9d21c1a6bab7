"""What every network is: a segment of audio in, logits of tags out."""

from collections.abc import Iterable
from typing import ClassVar, Self

from torch import Tensor, nn

from samplecnn.errors import UserError


class NetworkError(UserError):
    """A network cannot be built so, or does not take such a waveform."""


class Network(nn.Module):
    """Waveforms ``(batch, segment_samples)`` at ``sample_rate`` to logits ``(batch, tags)``.

    A network is built as ``TheClass(tags=50, **its own options, dropout=0.5)``; the defaults are its paper's
    values. ``last`` is the layer whose outputs are the logits (SampleCNN's is ``head_fc2``, as its
    checkpoints have it).
    """

    title: ClassVar[str]  # as papers write it
    paper: ClassVar[str]  # authors and year
    sample_rate: int = 16_000  # Hz
    any_rate: bool = False  # whether it may be trained at any other rate: nothing in it is made for one
    segment_samples: int
    dropout: nn.Dropout  # before the last layer
    last: nn.Linear
    frozen_parts: tuple[nn.Module, ...] = ()  # always in evaluation mode

    def __init__(self, *, tags: int) -> None:
        super().__init__()
        if tags < 1:
            raise NetworkError(f"tags must be at least 1, not {tags}")
        self.tags = tags

    def require_segments(self, waveforms: Tensor) -> None:
        """Raise NetworkError for waveforms of any other shape than ``(batch, segment_samples)``."""
        if waveforms.ndim != 2 or waveforms.shape[1] != self.segment_samples:
            raise NetworkError(
                f"{self.title} takes waveforms of shape (batch, {self.segment_samples}) at "
                f"{self.sample_rate} Hz, not {tuple(waveforms.shape)}"
            )

    def freeze(self, parts: Iterable[nn.Module]) -> None:
        """Keep parts as they are from now on: without gradients, and always in evaluation mode.

        Their batch norms then use their running statistics and leave them alone, and they drop nothing.
        """
        self.frozen_parts = tuple(parts)
        for part in self.frozen_parts:
            part.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all parts that are not frozen."""
        super().train(mode)
        for part in self.frozen_parts:
            part.eval()
        return self
