"""The optimisers: SGD as the authors ran it, with Keras' momentum and weight decay, and AdamW."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from samplecnn.model.network import last_layer
from samplecnn.model.networks.network import Network

Groups = list[dict[str, Any]]  # parameter groups, as PyTorch's optimisers take them


def make_optimizer(
    network: Network, settings: Mapping[str, Any], weight_decay: float, features_rate: float = 1.0
) -> torch.optim.Optimizer:
    """Return the optimiser that ``settings`` name; its rate is a schedule's to set.

    ``weight_decay``, in Keras' unit, is of ``keras_sgd``; ``adamw`` has its own. ``features_rate`` is as in
    ``with_features_rate``.
    """
    if settings["name"] == "adamw":
        groups = with_features_rate(matrix_groups(network, settings["weight_decay"]), network, features_rate)
        return torch.optim.AdamW(groups, lr=0.0, betas=tuple(settings["betas"]), fused=True)
    return KerasSGD(with_features_rate(decay_groups(network, weight_decay), network, features_rate), lr=0.0)


class KerasSGD(torch.optim.SGD):
    """SGD with Nesterov momentum in Keras' form: ``v = m v - lr g; w = w + m v - lr g``.

    PyTorch keeps ``-v / lr`` instead of ``v``, which is the same only while the rate stands still: before a
    step at another rate the buffers are multiplied by old rate / new rate. One pass over all weights does the
    rest of a step. Rates that are tensors (`DeviceRates`) are never looked at: the device does the same.
    """

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr=lr, momentum=0.9, nesterov=True, fused=True)
        for group in self.param_groups:
            group["buffer_lr"] = lr

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step at the groups' present rates."""
        for group in self.param_groups:
            rate, before = group["lr"], group["buffer_lr"]
            buffers = self._buffers(group)
            if buffers and (isinstance(rate, Tensor) or rate != before):
                torch._foreach_mul_(buffers, before / rate)
            if isinstance(before, Tensor):
                before.copy_(rate)
            else:
                group["buffer_lr"] = rate
        return super().step(closure)

    def _buffers(self, group: Mapping[str, Any]) -> list[Tensor]:
        """Return the momentum of a group's parameters; zeros for those with a gradient and none yet.

        PyTorch's own would be left unset where the first step is skipped (float16, overflow).
        """
        for p in group["params"]:
            if p.grad is not None and "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        found = [self.state[p].get("momentum_buffer") for p in group["params"]]
        return [buffer for buffer in found if buffer is not None]


class DeviceRates:
    """The rates of an optimiser as scalars on its device, which an update in a CUDA graph reads.

    The optimiser computes with them ``in_use``. Its groups have numbers otherwise, for schedules, loggers and
    checkpoints; ``write`` brings the scalars up to these. CUDA's fused updates want them in float32.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        like = next(p for group in optimizer.param_groups for p in group["params"])
        dtype = torch.float32 if like.is_cuda else like.dtype
        self._scalars: list[dict[str, Tensor]] = [
            {key: like.new_full((), group[key], dtype=dtype) for key in ("lr", "buffer_lr") if key in group}
            for group in optimizer.param_groups
        ]
        self._written: list[dict[str, float]] = [{} for _ in self._scalars]

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Have the optimiser compute with the scalars, and take it for one that may be captured."""
        groups = self.optimizer.param_groups
        numbers = [dict(group) for group in groups]
        for group, scalars in zip(groups, self._scalars, strict=True):
            group.update(scalars)
            if "capturable" in group:
                group["capturable"] = True
        try:
            yield
        finally:
            for group, kept in zip(groups, numbers, strict=True):
                group.update(kept)

    def write(self) -> None:
        """Write the rates of the step to come that have changed; nothing waits for the device."""
        for group, scalars, written in zip(
            self.optimizer.param_groups, self._scalars, self._written, strict=True
        ):
            for key, scalar in scalars.items():
                if written.get(key) != group[key]:
                    scalar.fill_(group[key])
            if "buffer_lr" in group:
                group["buffer_lr"] = group["lr"]  # as the step leaves the scalar
            written.update({key: group[key] for key in scalars})


def can_be_captured(optimizer: torch.optim.Optimizer) -> bool:
    """Say whether a CUDA graph may hold the steps of an optimiser: of the host they need the rates alone."""
    known = type(optimizer) in (KerasSGD, torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
    return known and all(group["fused"] for group in optimizer.param_groups)


def decay_groups(network: nn.Module, weight_decay: float) -> Groups:
    """Return what is trained in groups: only convolution kernels decay, at ``weight_decay`` in Keras' unit.

    Keras' ``l2(c)`` adds ``c * w**2`` to the loss and so ``2 * c * w`` to the gradient, where PyTorch's
    ``weight_decay=c`` adds ``c * w``: hence the factor 2. Batch norms, biases and dense layers are left
    alone, as in the authors' ``kernel_regularizer``.
    """
    convolutions = [m for m in network.modules() if isinstance(m, nn.modules.conv._ConvNd)]
    return _groups(network, [module.weight for module in convolutions], 2 * weight_decay)


def matrix_groups(network: nn.Module, weight_decay: float) -> Groups:
    """Return what is trained in groups: kernels and matrices decay, batch norms and biases do not.

    ``weight_decay`` is PyTorch's.
    """
    return _groups(network, [p for p in network.parameters() if p.ndim > 1], weight_decay)


def _groups(network: nn.Module, decaying: list[Tensor], weight_decay: float) -> Groups:
    chosen = {id(p) for p in decaying}
    others = [p for p in network.parameters() if id(p) not in chosen]
    return [
        {"params": [p for p in decaying if p.requires_grad], "weight_decay": weight_decay},
        {"params": [p for p in others if p.requires_grad], "weight_decay": 0.0},
    ]


def with_features_rate(groups: Groups, network: Network, factor: float) -> Groups:
    """Return parameter groups in which all but the last layer learns at ``factor`` times the schedule's rate.

    ``set_rate`` multiplies by it. The last layer comes first: the rate of the first group is the schedule's.
    """
    if factor == 1:
        return groups
    last = {id(p) for p in network.get_submodule(last_layer(network)).parameters()}
    found = []
    for of_last, rate_factor in ((True, 1.0), (False, factor)):
        for group in groups:
            if params := [p for p in group["params"] if (id(p) in last) == of_last]:
                found.append({**group, "params": params, "rate_factor": rate_factor})
    return found
