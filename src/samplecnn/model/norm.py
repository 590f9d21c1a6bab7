"""Batch normalisation in Keras' form, with running statistics that are right from the first step."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

MOMENTUM = 0.01  # weight of a batch in the running statistics: Keras' momentum is 1 less this


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation as Keras computes it, for ``(batch, channels)`` and ``(batch, channels, ...)``.

    Differs from PyTorch's in its constants (epsilon 1e-3; the running statistics keep 0.99 of themselves)
    and in that the *biased* variance of the batch goes into the running variance.

    Keras starts its running statistics at mean 0 and variance 1, of which a fifth is left after 160 steps.
    Here they are the plain average of all batches until a batch would weigh less than Keras' 1 %, which is
    after 100 steps; from then on the rule is Keras'. With ``from_first_step`` false it is Keras' throughout.

    With ``synchronised`` the statistics are those of the batches of all processes together, which have the
    same size.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3, momentum=MOMENTUM)
        self.from_first_step = True
        self.synchronised = False

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel; in training mode by the batch's own statistics."""
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        if self.synchronised:
            return self._normalise_together(x)
        count = values_per_channel(x)
        # With a momentum of 1 PyTorch leaves the batch's own statistics here, its variance the unbiased one.
        mean, variance = torch.zeros_like(self.bias), torch.zeros_like(self.bias)
        y = F.batch_norm(x, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
        self.update(mean, variance * ((count - 1) / count))
        return y

    def _normalise_together(self, x: Tensor) -> Tensor:
        """Normalise each channel by the mean and variance over all processes."""
        others = [dim for dim in range(x.ndim) if dim != 1]
        precise = x.to(torch.promote_types(x.dtype, torch.float32))
        variance, mean = torch.var_mean(precise, dim=others, correction=0)
        mean, variance = over_processes(mean, variance)
        self.update(mean, variance)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shape = [1, -1] + [1] * (x.ndim - 2)
        return (x * scale.view(shape) + (self.bias - mean * scale).view(shape)).to(x.dtype)

    @torch.no_grad()
    def update(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards a batch's mean and biased variance, both ``(channels,)``."""
        assert self.running_mean is not None
        assert self.running_var is not None
        batches = self.count_batch()
        rate: Tensor | float = MOMENTUM
        if batches is not None:
            rate = batches.to(self.running_mean.dtype).reciprocal_().clamp_(min=MOMENTUM)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
        self.running_var.lerp_(variance.to(self.running_var.dtype), rate)

    @torch.no_grad()
    def count_batch(self) -> Tensor | None:
        """Count one more batch; return how many there were, or None where its weight is Keras' always.

        A batch weighs ``max(MOMENTUM, 1 / batches)``. The count stays on the device: nothing waits for it.
        """
        if not self.from_first_step:
            return None
        assert self.num_batches_tracked is not None
        return self.num_batches_tracked.add_(1)


def values_per_channel(x: Tensor) -> int:
    """Return how many values ``(batch, channels, ...)`` has of each channel; ValueError for fewer than 2."""
    count = x.numel() // x.shape[1]
    if count < 2:
        raise ValueError(
            "batch norm needs at least 2 values per channel in training mode, "
            f"but got a batch of shape {tuple(x.shape)}: train with batches of 2 or more segments"
        )
    return count


def over_processes(mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased covariance over the batches of all processes, from those of this one's.

    ``mean`` is ``(values,)``; ``covariance`` is ``(values, values)``, or its diagonal ``(values,)``.
    """

    def squared(mean: Tensor) -> Tensor:
        return mean * mean if covariance.ndim == 1 else torch.outer(mean, mean)

    # In double precision, in which the squares may cancel: one exchange for both.
    double = mean.double()
    moments = torch.cat([double, (covariance.double() + squared(double)).flatten()])
    moments = all_reduce(moments) / dist.get_world_size()
    double, second = moments[: len(mean)], moments[len(mean) :].view(covariance.shape)
    return double.to(mean.dtype), (second - squared(double)).to(covariance.dtype)


def synchronise(network: nn.Module) -> None:
    """Let the batch norms of a network normalise by the batches of all processes together."""
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.synchronised = True


def restart_statistics(network: nn.Module) -> None:
    """Let the batch norms in training mode average their running statistics anew, from the next batch on."""
    for module in network.modules():
        if isinstance(module, BatchNorm) and module.training:
            assert module.num_batches_tracked is not None
            module.num_batches_tracked.zero_()


def use_keras_statistics(network: nn.Module) -> None:
    """Let the batch norms of a network keep running statistics as the authors' did, from 0 and 1 on."""
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.from_first_step = False
