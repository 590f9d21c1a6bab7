"""Batch normalisation in Keras' form, and the switch between ways of computing it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOMENTUM = 0.01  # weight of a batch in the running statistics


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation as Keras computes it, for ``(batch, channels)`` and ``(batch, channels, 1, time)``.

    Differs from PyTorch's in its constants (epsilon 1e-3; the running statistics keep 0.99 of themselves)
    and in that the *biased* variance of the batch goes into the running variance.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3, momentum=MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel; in training mode by the batch's own statistics."""
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        count = x.numel() // x.shape[1]
        if count < 2:
            raise ValueError(
                "batch norm needs at least 2 values per channel in training mode, "
                f"but got a batch of shape {tuple(x.shape)}: train with batches of 2 or more segments"
            )
        # PyTorch adds the unbiased variance, n / (n - 1) times the biased one: scale by this before the
        # update and back after it.
        assert self.running_var is not None
        bessel = count / (count - 1)
        running_var = self.running_var * bessel
        y = F.batch_norm(x, self.running_mean, running_var, self.weight, self.bias, True, MOMENTUM, self.eps)
        self.running_var.copy_(running_var / bessel)
        return y

    @torch.no_grad()
    def update(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards a batch's mean and biased variance, both ``(channels,)``."""
        assert self.running_mean is not None
        assert self.running_var is not None
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), MOMENTUM)
        self.running_var.lerp_(variance.to(self.running_var.dtype), MOMENTUM)
