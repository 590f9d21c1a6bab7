"""A training step as one CUDA graph: forward, backward and update in a single launch instead of hundreds."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from samplecnn.data.batches import Batch
from samplecnn.model.network import COMPILE, TRITON, sample_cnns
from samplecnn.training.backends.casts import CastWeights
from samplecnn.training.backends.fused_update import FusedUpdate
from samplecnn.training.optimiser import DeviceRates, KerasSGD

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}  # by Lightning's names

WARM_UP = 3  # steps before the capture: libraries choose their algorithms and take their workspaces


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return mixed precision by Lightning's name of it, or none for other names.

    It keeps no copies of weights in the lower precision: a graph would go on with those of its capture.
    """
    chosen = AUTOCAST.get(precision)
    return torch.autocast(device.type, dtype=chosen, enabled=chosen is not None, cache_enabled=False)


def no_scaler() -> GradScaler:
    """Return what scales nothing: only float16 needs it."""
    return GradScaler(enabled=False)


def cast_weights(network: nn.Module, precision: str) -> CastWeights | None:
    """Return what casts a network's weights all at once; None where nothing does, or compiled kernels do."""
    compiled = any(found.backend == COMPILE for found in sample_cnns(network))
    return None if compiled or precision not in AUTOCAST else CastWeights(network, AUTOCAST[precision])


@dataclass(frozen=True)
class TrainingStep:
    """Forward, backward and update on a batch, on any device, without waiting for it.

    ``precision`` is Lightning's name. ``scaler`` scales the loss of float16, and has the optimiser leave out
    updates by gradients that are not finite. Without an ``optimizer`` gradients are left as they are, scaled.
    ``casts`` casts the weights all at once; None: autocast does, one by one. ``update`` takes the optimiser's
    step where it can, on gradients that then may be the copies' alone; None: the optimiser does.
    """

    network: nn.Module
    loss: Callable[[Batch], Tensor]
    precision: str
    optimizer: torch.optim.Optimizer | None = None
    scaler: GradScaler = field(default_factory=no_scaler)
    casts: CastWeights | None = None
    update: FusedUpdate | None = None

    def __call__(self, batch: Batch) -> Tensor:
        """Compute the gradients, update the weights, and return the loss."""
        self.network.zero_grad()  # to None, so that the backward pass writes gradients and adds to none
        device = batch.waveforms.device
        with autocast(device, self.precision):
            value = self.casts.compute(self.loss, batch) if self.casts else self.loss(batch)
        # Lightning has mixed precision on around the whole step: it is for the forward pass alone.
        with torch.autocast(device.type, enabled=False):
            self.scaler.scale(value).backward()
            if self.update and self.update(self.gradients()):
                return value.detach()
            if self.casts:
                self.casts.write_gradients()
            if self.optimizer is not None:
                self.scaler.step(self.optimizer)
                self.scaler.update()
        return value.detach()

    def gradients(self) -> list[tuple[nn.Parameter, Tensor | None]]:
        """Return the network's weights with their gradients, which may be in the lower precision."""
        return self.casts.gradients() if self.casts else [(p, p.grad) for p in self.network.parameters()]

    def tensors(self) -> list[Tensor]:
        """Return all that a step changes: weights, running statistics, state of optimiser and scaler."""
        found = [*self.network.parameters(), *self.network.buffers()]
        if self.optimizer is not None:
            found += [tensor for state in self.optimizer.state.values() for tensor in state.values()]
        if self.scaler.is_enabled():
            self.scaler.scale(torch.ones((), device=found[0].device))  # makes it create its tensors
            assert self.scaler._scale is not None
            assert self.scaler._growth_tracker is not None
            found += [self.scaler._scale, self.scaler._growth_tracker]
        return found


def fused_update(step: TrainingStep) -> FusedUpdate | None:
    """Return what takes the optimiser's steps on the backend of Triton; None where nothing else does.

    Float16's scaler looks for its verdict in gradients of the weights' type.
    """
    optimizer, low = step.optimizer, AUTOCAST.get(step.precision, torch.bfloat16)
    on_triton = any(found.backend == TRITON for found in sample_cnns(step.network))
    if not on_triton or type(optimizer) is not KerasSGD or step.scaler.is_enabled():
        return None
    return FusedUpdate(optimizer, low)


class StepGraph:
    """A training step captured in a CUDA graph, and replayed on other batches of the same shape.

    Everything comes out as without a graph: the capture leaves weights, statistics, optimiser, scaler and
    random state as they were, replays draw from PyTorch's own generator, and the rates are those that stand
    in the optimiser's groups when a replay begins. A graph holds addresses: nothing may replace the memory of
    weights and running statistics, and where that of the optimiser's state is replaced, ``holds`` says no.
    On a CPU, which has no graphs, the step is taken anew each time, in the same way otherwise.

    Raises whatever the step raises that cannot be captured, such as a block that waits for the GPU.
    """

    def __init__(self, step: TrainingStep, batch: Batch) -> None:
        casts, update = cast_weights(step.network, step.precision), fused_update(step)
        self.step = step = replace(step, casts=casts, update=update)
        self.batch = Batch(*(part.clone() for part in batch))
        self.rates = None if step.optimizer is None else DeviceRates(step.optimizer)
        self.graph = torch.cuda.CUDAGraph() if batch.waveforms.is_cuda else None
        before = {tensor: tensor.detach().clone() for tensor in step.tensors()}
        try:
            with torch.random.fork_rng([batch.waveforms.device] if batch.waveforms.is_cuda else []):
                self.loss = self._take() if self.graph is None else self._capture(self.graph)
        finally:  # what cannot be captured leaves all as it was, too
            with torch.no_grad():
                for tensor in step.tensors():
                    if tensor in before:
                        tensor.copy_(before[tensor])
                    else:
                        tensor.zero_()  # what an optimiser begins with
        self._state = self._first_state()
        self._gradients = step.gradients()

    def _take(self) -> Tensor:
        """Take the step as it is, with the rates on the device."""
        if self.rates is None:
            return self.step(self.batch)
        with self.rates.in_use():
            return self.step(self.batch)

    def _capture(self, graph: torch.cuda.CUDAGraph) -> Tensor:
        """Capture the step; return the tensor that has its loss after a replay."""
        device = self.batch.waveforms.device
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self._take()
        torch.cuda.current_stream(device).wait_stream(side)
        self.step.network.zero_grad()
        # On the stream of the warm-up, where libraries have their workspaces; other threads may use CUDA.
        with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
            loss = self._take()
        if self.step.update:
            self.step.update.write()
        return loss

    def gradients(self) -> list[tuple[nn.Parameter, Tensor | None]]:
        """Return the network's weights with the gradients of the last step, maybe in the lower precision."""
        return self.step.gradients() if self.graph is None else self._gradients

    def _first_state(self) -> object:
        """Return the first parameter's state, which is another once all was cleared or loaded."""
        return None if self.step.optimizer is None else next(iter(self.step.optimizer.state.values()), None)

    def holds(self, optimizer: torch.optim.Optimizer | None) -> bool:
        """Say whether the update captured is that of ``optimizer``, on the state that it has now."""
        return self.step.optimizer is optimizer and self._first_state() is self._state

    def __call__(self, batch: Batch) -> Tensor:
        """Take the step on a batch; return its loss, which the next call overwrites.

        Raises ValueError for a batch of another shape than the first.
        """
        for given, captured in ((batch.waveforms, self.batch.waveforms), (batch.labels, self.batch.labels)):
            if given.shape != captured.shape:
                raise ValueError(
                    f"the step was captured for {tuple(captured.shape)}, not {tuple(given.shape)}: "
                    "every batch size needs a StepGraph of its own"
                )
            captured.copy_(given)
        if self.rates is not None:
            self.rates.write()
        if self.graph is None:
            self.loss.copy_(self._take())
        else:
            self.graph.replay()
            if self.rates is None:  # where Lightning sets them to None, as before each validation
                for parameter, gradient in self._gradients:
                    parameter.grad = gradient
        return self.loss
