"""Whether a backend computes what the plain one does here: loss, gradients, statistics, dropout."""

import math
import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samplecnn.data.batches import Batch
from samplecnn.model.blocks import Res2
from samplecnn.model.network import PLAIN, SampleCNN, use
from samplecnn.model.networks.network import Network
from samplecnn.runs.config import KERAS_SGD
from samplecnn.training.backends.graph import StepGraph, TrainingStep, autocast
from samplecnn.training.optimiser import make_optimizer

FLOAT32 = "32-true"
# How far a backend may be from the plain one in float64, relative to the values' norm: so many times as far
# as the plain one is in the same precision, or so far.
FACTOR = {FLOAT32: 4.0, "bf16-mixed": 6.0, "16-mixed": 6.0}
ALLOWED = {FLOAT32: 1e-2, "bf16-mixed": 0.05, "16-mixed": 0.05}
INPUTS = 3
SIGMAS = 6.0  # of a dropout's rate
RATES = (1e-3, 3e-4)  # of steps in turn
DECAY = 1e-2  # in Keras' unit, large enough to be missed


@dataclass(frozen=True)
class Plan:
    """How the network computes, and whether a training step is replayed from a CUDA graph."""

    backend: str = PLAIN
    graph: bool = False

    def __str__(self) -> str:
        return self.backend + (" in a CUDA graph" if self.graph else "")


PLAIN_PLAN = Plan()


@dataclass(frozen=True)
class Trial:
    """What is tried: training steps of a network on a device, the optimiser as `make_optimizer` has it."""

    network: Network
    device: torch.device
    precision: str  # Lightning's name
    batch_size: int
    optimizer: Mapping[str, Any] = field(default_factory=lambda: KERAS_SGD)
    seed: int = 0  # of its input


class WrongNumbersError(Exception):
    """A backend computes something else than the plain one."""


class Step:
    """Training steps on one batch of noise, the same for the same seed."""

    def __init__(self, network: Network, plan: Plan, trial: Trial) -> None:
        self.network, self.trial = network, trial
        dtype = next(network.parameters()).dtype
        random = torch.Generator().manual_seed(trial.seed)
        # With an offset, as recordings have.
        waveforms = torch.rand(trial.batch_size, network.segment_samples, generator=random) - 0.4
        labels = torch.rand(trial.batch_size, network.tags, generator=random) < 0.1
        self.batch = Batch(
            waveforms.to(trial.device, dtype),
            labels.to(trial.device, dtype),
            torch.zeros(trial.batch_size, dtype=torch.int64),
            torch.arange(trial.batch_size),
        )
        self.optimizer = make_optimizer(network, trial.optimizer, DECAY)
        set_rate(self.optimizer, RATES[0])
        precision = "" if dtype == torch.float64 else trial.precision
        # Of few segments, as are timed on a CPU, the update would take too large a part.
        updated = self.optimizer if plan.graph or trial.device.type == "cuda" else None
        step = TrainingStep(network, self.loss, precision, updated)
        self.take = StepGraph(step, self.batch) if plan.graph else step

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean cross-entropy of a batch."""
        logits = self.network(batch.waveforms)
        return F.binary_cross_entropy_with_logits(logits.to(batch.labels.dtype), batch.labels)

    def __call__(self) -> Tensor:
        """Take a step, whose gradients `take` has; return the loss."""
        return self.take(self.batch)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Have an optimiser take its next step at a rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def make_step(trial: Trial, plan: Plan, *, dropout: bool = True) -> Step:
    """Return training steps of a copy of the network."""
    network = deepcopy(trial.network).to(trial.device).train()
    for module in network.modules():
        if isinstance(module, nn.Dropout) and not dropout:
            module.p = 0.0
    use(network, plan.backend)
    return Step(network, plan, trial)


def _values(trial: Trial, plan: Plan) -> dict[str, Tensor]:
    """Return loss, gradients and running statistics of one training step without dropout, in float64."""
    with exact_convolutions(trial.precision):
        step = make_step(trial, plan, dropout=False)
        values = {"loss": step()}
    for (name, _), (_, gradient) in zip(step.network.named_parameters(), step.take.gradients(), strict=True):
        if gradient is not None:
            values[name] = gradient
    values |= {name: buffer for name, buffer in step.network.named_buffers() if "running_" in name}
    return {name: value.detach().double().cpu() for name, value in values.items()}


@contextmanager
def exact_convolutions(precision: str) -> Iterator[None]:
    """Have cuDNN multiply float32 in float32, not in TensorFloat-32, whose errors would hide all others."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = before and precision != FLOAT32
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def deviations(values: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> dict[str, float]:
    """Return how far values are from the exact ones, relative to the norm of those; infinite if not finite.

    What is zero in theory, as the gradient of a bias in front of a batch norm, is compared with a tenth of
    the largest of its kind.
    """
    norms = {name: float(value.norm()) for name, value in exact.items()}
    found = {}
    for name, value in exact.items():
        kind = name.rpartition(".")[2]
        alike = [norm for other, norm in norms.items() if other.rpartition(".")[2] == kind]
        scale = max(norms[name], max(alike) / 10) or 1.0
        given = values.get(name, torch.zeros_like(value))
        deviation = float((given - value).norm()) / scale
        found[name] = deviation if math.isfinite(deviation) else math.inf
    return found


class Standard:
    """What the plain backend computes, and whether another computes the same."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self._exact: dict[int, dict[str, Tensor]] = {}  # by seed of the input: plain in float64
        self._own: dict[tuple[int, str], dict[str, float]] = {}  # and how far plain is from it in a precision

    def prove(self, plan: Plan) -> None:
        """Raise WrongNumbersError where a plan computes something else: in float32, then in mixed precision.

        Mixed precision alone would not tell: it makes ties in the pooling, which change gradients by half. A
        ReLU near zero may flip in float32 too, and that changes all gradients by a few percent. This is as
        rare as it is random: what is wrong is so for INPUTS inputs.
        """
        for precision in dict.fromkeys([FLOAT32, self.trial.precision]):
            wrong = [self._compare(plan, precision, 0)]
            while wrong[-1] and len(wrong) < INPUTS:
                wrong.append(self._compare(plan, precision, len(wrong)))
            if wrong[-1]:
                raise WrongNumbersError(f"computes something else ({precision}): {wrong[0]}")
        step = make_step(self.trial, plan)
        if isinstance(step.network, SampleCNN):
            for block in step.network.blocks:
                require_dropout(block, self.trial.device)
        if plan.graph:
            require_same_draws(step, allowed=ALLOWED[self.trial.precision])
            require_same_update(step)

    def _compare(self, plan: Plan, precision: str, seed: int) -> str | None:
        """Say what is further from the exact values than plain ones are."""
        trial = replace(self.trial, precision=precision, seed=seed)
        if seed not in self._exact:
            self._exact[seed] = _values(replace(trial, network=deepcopy(trial.network).double()), PLAIN_PLAN)
        exact = self._exact[seed]
        if (seed, precision) not in self._own:
            self._own[seed, precision] = deviations(_values(trial, PLAIN_PLAN), exact)
        own = self._own[seed, precision]
        typical = statistics.median(own.values())
        found = own if plan == PLAIN_PLAN else deviations(_values(trial, plan), exact)
        for name, deviation in found.items():
            allowed = max(FACTOR[precision] * max(own[name], typical), ALLOWED[precision])
            if not deviation <= allowed:
                return f"{name} is off by {deviation:.1e} of its norm; {allowed:.1e} is allowed"
        return None


def require_dropout(block: nn.Module, device: torch.device) -> None:
    """Raise WrongNumbersError where a block that drops values inside does not drop and scale as it says."""
    if not isinstance(block, Res2) or block.dropout.p == 0 or not block.training:  # not: it is frozen
        return
    rate = block.dropout.p
    x = torch.randn(4, block.conv1.in_channels, 1, 2187, device=device)
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        dropped = block.before_last(x)
        block.dropout.p = 0.0
        whole = block.before_last(x)
        block.dropout.p = rate
    there = whole > 0
    kept = (dropped > 0)[there].double()
    if abs(float(kept.mean()) - (1 - rate)) > SIGMAS * math.sqrt(rate * (1 - rate) / len(kept)):
        raise WrongNumbersError(f"drops {1 - float(kept.mean()):.3f} of all values, not {rate}")
    scale = float(dropped[there].double().sum() / (whole[there].double() * kept).sum())
    if abs(scale * (1 - rate) - 1) > 0.01:
        raise WrongNumbersError(f"scales what it does not drop by {scale:.3f}, not by {1 / (1 - rate):.3f}")


def require_same_draws(step: Step, allowed: float) -> None:
    """Raise WrongNumbersError where a replayed graph draws other random numbers than an eager step."""
    device = step.trial.device
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        torch.no_grad(),
        autocast(device, step.trial.precision),
    ):
        eager = float(step.loss(step.batch))
    replayed = float(step())
    if not abs(replayed - eager) <= allowed * abs(eager):
        raise WrongNumbersError(f"its graph gives the loss {replayed:.4f}, a step without it {eager:.4f}")


def require_same_update(step: Step) -> None:
    """Raise WrongNumbersError where a graph's update is not the optimiser's, at rates that change.

    That one takes the gradients that each step leaves: whether these are right is asked elsewhere.
    """
    network = deepcopy(step.trial.network).to(step.trial.device)
    network.load_state_dict(step.network.state_dict())
    optimizer = make_optimizer(network, step.trial.optimizer, DECAY)
    optimizer.load_state_dict(deepcopy(step.optimizer.state_dict()))
    start = {name: p.detach().double() for name, p in network.named_parameters()}
    for rate in 2 * RATES:
        set_rate(step.optimizer, rate)
        step()
        for parameter, (_, gradient) in zip(network.parameters(), step.take.gradients(), strict=True):
            parameter.grad = None if gradient is None else gradient.to(parameter.dtype)
        set_rate(optimizer, rate)
        optimizer.step()
    moved, wanted = (
        {name: p.detach().double() - start[name] for name, p in of.named_parameters()}
        for of in (step.network, network)
    )
    for name, deviation in deviations(moved, wanted).items():
        if not deviation <= ALLOWED[FLOAT32]:
            raise WrongNumbersError(f"its graph moves {name} wrongly, by {deviation:.1e} of what it should")
