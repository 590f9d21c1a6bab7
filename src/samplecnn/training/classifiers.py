"""What a probe fits to embeddings: a logistic regression per tag, or a small network.

Both hear features that are standardised by the training part, and choose by the validation part's
cross-entropy: the regression its L2 penalty, the network its epoch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

# Penalties in the loss (mean over examples) + l2 / 2 |weights|^2, from strong to weak; in scikit-learn's
# terms C = 1 / (l2 examples).
PENALTIES = tuple(10.0**power for power in range(1, -6, -1))
ITERATIONS = 500  # of L-BFGS per penalty, at most
HIDDEN = 256  # units of the network
BATCH = 128  # examples
RATE = 1e-3  # of AdamW
EPOCHS, PATIENCE = 200, 10

Labelled = tuple[NDArray[np.float32], NDArray[np.uint8]]  # (examples, features), (examples, tags)


@dataclass(frozen=True)
class Fitted:
    """A trained classifier of features as they are: the first layer standardises them."""

    layers: tuple[nn.Linear, ...]  # with ReLU between two
    passes: int  # over the training part
    loss: float  # cross-entropy of the validation part
    chosen: dict[str, float]  # what the validation part chose

    @property
    def parameters(self) -> int:
        """The number of its weights."""
        return sum(parameter.numel() for layer in self.layers for parameter in layer.parameters())


class Standard:
    """Takes the mean off each feature and divides by its deviation over the training part, if it has one."""

    def __init__(self, features: NDArray[np.float32], dtype: torch.dtype) -> None:
        deviation = features.std(axis=0, dtype=np.float64)
        self.mean = features.mean(axis=0, dtype=np.float64)
        self.deviation = np.where(deviation > 0, deviation, 1.0)
        self.dtype = dtype

    def __call__(self, features: NDArray[np.float32]) -> Tensor:
        """Return standardised features."""
        return torch.from_numpy((features - self.mean) / self.deviation).to(self.dtype)

    def absorbed(self, weight: Tensor, bias: Tensor) -> nn.Linear:
        """Return a layer of features as they are that computes what this one does of standardised ones.

        ``weight`` is ``(outputs, features)``, ``bias`` ``(outputs,)``.
        """
        scaled = weight.double() / torch.from_numpy(self.deviation)
        return _layer(scaled, bias.double() - scaled @ torch.from_numpy(self.mean))


def _layer(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight, layer.bias = nn.Parameter(weight.float()), nn.Parameter(bias.float())
    return layer


def fit_linear(train: Labelled, valid: Labelled, seed: int) -> Fitted:
    """Fit a logistic regression per tag, with the penalty that the validation part prefers.

    Penalties become weaker until the validation loss rises. Nothing in it is random.
    """
    standard = Standard(train[0], torch.float64)
    x, y = standard(train[0]), torch.from_numpy(train[1]).double()
    held_out, wanted = standard(valid[0]), torch.from_numpy(valid[1]).double()
    weights, bias = x.new_zeros(x.shape[1], y.shape[1]), x.new_zeros(y.shape[1])
    best, passes = (math.inf, 0.0, weights, bias), 0
    for l2 in PENALTIES:
        weights, bias, taken = logistic_regression(x, y, l2, weights, bias)
        passes += taken
        loss = F.binary_cross_entropy_with_logits(held_out @ weights + bias, wanted).item()
        if loss > best[0]:
            break
        best = loss, l2, weights, bias
    loss, l2, weights, bias = best
    return Fitted((standard.absorbed(weights.T, bias),), passes, loss, {"l2": l2})


def logistic_regression(
    x: Tensor, y: Tensor, l2: float, weights: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, int]:
    """Minimise the mean cross-entropy of each tag plus ``l2 / 2`` times its squared weights, by L-BFGS.

    ``x`` is ``(examples, features)``, ``y`` ``(examples, tags)``. Starts from ``weights``
    ``(features, tags)`` and ``bias`` ``(tags,)``; returns both, and the number of passes over all examples.
    """
    weights, bias = weights.clone().requires_grad_(), bias.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [weights, bias],
        max_iter=ITERATIONS,
        tolerance_grad=1e-8,
        tolerance_change=1e-12,
        history_size=20,
        line_search_fn="strong_wolfe",
    )
    passes = 0

    def loss() -> Tensor:
        nonlocal passes
        passes += 1
        optimiser.zero_grad()
        cross_entropy = F.binary_cross_entropy_with_logits(x @ weights + bias, y, reduction="sum") / len(x)
        value = cross_entropy + l2 / 2 * weights.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    return weights.detach(), bias.detach(), passes


def fit_mlp(train: Labelled, valid: Labelled, seed: int) -> Fitted:
    """Fit a network with one hidden layer by AdamW, and keep the epoch that the validation part prefers.

    All randomness is a function of the seed; the global generator is as it was afterwards.
    """
    standard = Standard(train[0], torch.float32)
    x, y = standard(train[0]), torch.from_numpy(train[1]).float()
    held_out, wanted = standard(valid[0]), torch.from_numpy(valid[1]).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(x.shape[1], HIDDEN), nn.ReLU(), nn.Dropout(0.5), nn.Linear(HIDDEN, y.shape[1])
        )
        optimiser = torch.optim.AdamW(network.parameters(), lr=RATE)
        best, kept, epoch, best_epoch = math.inf, network.state_dict(), 0, 0
        while epoch < EPOCHS and epoch - best_epoch < PATIENCE:
            epoch += 1
            network.train()
            for chosen in torch.randperm(len(x)).split(BATCH):
                optimiser.zero_grad()
                F.binary_cross_entropy_with_logits(network(x[chosen]), y[chosen]).backward()
                optimiser.step()
            network.eval()
            with torch.no_grad():
                loss = F.binary_cross_entropy_with_logits(network(held_out), wanted).item()
            if loss < best:
                best, best_epoch = loss, epoch
                kept = {name: value.clone() for name, value in network.state_dict().items()}
    first = standard.absorbed(kept["0.weight"], kept["0.bias"])
    return Fitted((first, _layer(kept["3.weight"], kept["3.bias"])), epoch, best, {"epoch": best_epoch})


KINDS: dict[str, Callable[[Labelled, Labelled, int], Fitted]] = {"linear": fit_linear, "mlp": fit_mlp}
