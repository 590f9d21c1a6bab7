"""Weights cast to the type of mixed precision all at once, where autocast casts each by itself."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from samplecnn.data.batches import Batch

Loss = Callable[[Batch], Tensor]


class CastWeights:
    """Copies of a network's weights in the type to which autocast casts them, and a loss computed with these.

    The first call computes with the weights themselves, and notes which of them autocast casts, once each.
    What the network also uses in another way has no copy, as the stem's weights where they take in its batch
    norm, or a convolution's bias that a kernel adds to the running mean. From the second call on there is
    one cast of all weights, and one of all gradients; the numbers are autocast's.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        self.network = network
        self.dtype = dtype
        self.copies: dict[str, Tensor] | None = None

    def compute(self, loss: Loss, batch: Batch) -> Tensor:
        """Return ``loss(batch)``, which calls the network; autocast is on."""
        if self.copies is None:
            with _Uses(self.network, self.dtype) as uses:
                value: Tensor = loss(batch)
            self.copies = {
                name: torch.empty_like(p, dtype=self.dtype).requires_grad_(p.requires_grad)
                for name, p in self.network.named_parameters()
                if uses.are_one_cast(p)
            }
            return value
        for copy in self.copies.values():
            copy.grad = None
        if self.copies:
            with torch.no_grad():
                torch._foreach_copy_([*self.copies.values()], [p for p, _ in self._pairs()])
        replaced = {f"network.{name}": copy for name, copy in self.copies.items()}
        value = functional_call(_Loss(self.network, loss), replaced, (batch,))
        return value

    def gradients(self) -> list[tuple[nn.Parameter, Tensor | None]]:
        """Return all weights with the gradients that these or their copies have after the backward pass."""
        of_copies = {p: copy.grad for p, copy in self._pairs() if copy.grad is not None}
        return [(p, of_copies.get(p, p.grad)) for p in self.network.parameters()]

    def write_gradients(self) -> None:
        """Give the weights the gradients that their copies have."""
        found = [(p, copy, copy.grad) for p, copy in self._pairs() if copy.grad is not None]
        written = [torch.empty_like(p) for p, *_ in found]
        if found:
            torch._foreach_copy_(written, [gradient for *_, gradient in found])
        for (p, copy, _), gradient in zip(found, written, strict=True):
            p.grad, copy.grad = gradient, None

    def _pairs(self) -> list[tuple[nn.Parameter, Tensor]]:
        """Return the weights that have copies, with these."""
        weights = dict(self.network.named_parameters())
        return [(weights[name], copy) for name, copy in (self.copies or {}).items()]


class _Loss(nn.Module):
    """A loss as a module around the network that it calls, whose weights `functional_call` then replaces."""

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.network = network
        self.loss = loss

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss of a batch."""
        return self.loss(batch)


class _Uses(TorchDispatchMode):
    """Notes what a network's weights are used for: of each use, whether it is a cast to a type."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.casts: dict[int, list[bool]] = {id(p): [] for p in network.parameters()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        cast = func is torch.ops.aten._to_copy.default and kwargs.get("dtype") == self.dtype
        for given in tree_leaves((args, kwargs)):
            if id(given) in self.casts:
                self.casts[id(given)].append(cast)
        return func(*args, **kwargs)

    def are_one_cast(self, parameter: Tensor) -> bool:
        """Say whether a parameter was cast once and used for nothing else.

        The gradients of two casts would be added in the lower precision, which autocast does not do.
        """
        return self.casts[id(parameter)] == [True]
