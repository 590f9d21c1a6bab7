"""The update of a step replayed from a CUDA graph, of a small network, against the optimiser's own.

On a CPU the same code takes the step anew in place of a replay.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from devices import DEVICES
from samplecnn.data.batches import Batch
from samplecnn.model.networks.network import Network
from samplecnn.model.norm import BatchNorm
from samplecnn.runs.config import KERAS_SGD
from samplecnn.training.backends.graph import StepGraph, TrainingStep
from samplecnn.training.optimiser import make_optimizer
from samplecnn.training.schedule import OneCycle, PaperSchedule
from training.backends.test_graph import loss_of

ADAMW = {"name": "adamw", "weight_decay": 0.1, "betas": [0.9, 0.99]}
OPTIMISERS = pytest.mark.parametrize("settings", [KERAS_SGD, ADAMW], ids=["keras_sgd", "adamw"])


pytestmark = pytest.mark.usefixtures("exact_gpu")


class Small(Network):
    """What a step may meet: kernels that decay, a batch norm, frozen weights, and some without a gradient.

    No bias has a gradient that is zero in theory, and so of any sign, which is what Adam goes by.
    """

    def __init__(self) -> None:
        super().__init__(tags=5)
        self.frozen = nn.Conv1d(1, 4, 3)
        self.layers = nn.Sequential(nn.Conv1d(4, 8, 3, bias=False), BatchNorm(8), nn.ReLU())
        self.unused = nn.Linear(2, 2)
        self.last = nn.Linear(8, 5)
        self.freeze([self.frozen])

    def forward(self, waveforms: Tensor) -> Tensor:
        logits: Tensor = self.last(self.layers(self.frozen(waveforms[:, None])).mean(dim=2))
        return logits


@dataclass
class Training:
    """Steps of a small network, in a graph or not, at rates that change."""

    network: Network
    optimizer: torch.optim.Optimizer
    device: str
    graphed: bool
    graph: StepGraph | None = None
    steps: int = 0  # that its batches are behind

    def take(self, rates: list[float]) -> list[float]:
        """Take a step at each rate; return the losses."""
        step = TrainingStep(self.network, partial(loss_of, self.network), "32-true", self.optimizer)
        losses = []
        for rate in rates:
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group.get("rate_factor", 1.0)
            given = small_batch(self.steps, self.network)
            if self.graphed and (self.graph is None or not self.graph.holds(self.optimizer)):
                self.graph = StepGraph(step, given)
            losses.append(float((self.graph or step)(given)))
            self.steps += 1
        return losses


def training(device: str, settings: Mapping[str, Any], *, graphed: bool) -> Training:
    torch.manual_seed(0)
    network = Small().to(device, torch.float64).train()
    optimizer = make_optimizer(network, settings, weight_decay=1e-2, features_rate=0.3)
    return Training(network, optimizer, device, graphed)


def small_batch(seed: int, network: nn.Module) -> Batch:
    like = next(network.parameters())
    random = torch.Generator().manual_seed(seed)
    waveforms = (torch.rand(6, 40, generator=random, dtype=torch.float64) - 0.4).to(like)
    labels = (torch.rand(6, 5, generator=random) < 0.3).to(like)
    return Batch(waveforms, labels, torch.zeros(6, dtype=torch.int64), torch.arange(6))


def rates_of(settings: Mapping[str, Any], steps: int = 24) -> list[float]:
    """Return the rates of the schedule that goes with an optimiser, on so many steps."""
    if settings["name"] == "adamw":
        cycle = OneCycle(0.01, warmup=0.3)
        return [cycle.learning_rate(step, steps) for step in range(steps)]
    stages = PaperSchedule(0.1, stages=5, factor=0.2, patience=2, decay=0.02)
    rates = []
    for step in range(steps):
        stages.stage, stages.step = divmod(step, 5)
        rates.append(stages.learning_rate)
    return rates


def assert_same(ours: Training, theirs: Training) -> None:
    """Weights, statistics and the optimiser's state, which has the form that checkpoints have."""
    close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-13)
    if ours.device == "cuda":  # whose updates read the rates in float32
        close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-8)
    state, expected = ours.network.state_dict(), theirs.network.state_dict()
    for name, value in expected.items():
        close(state[name], value, msg=name)
    kept, wanted = ours.optimizer.state_dict(), theirs.optimizer.state_dict()
    assert kept["param_groups"] == wanted["param_groups"]
    assert not any(isinstance(v, Tensor) for group in kept["param_groups"] for v in group.values())
    found = {key: values for key, values in kept["state"].items() if values}
    assert found.keys() == {key for key, values in wanted["state"].items() if values}
    for key, values in found.items():
        assert values.keys() == wanted["state"][key].keys()
        for name, value in values.items():
            close(value, wanted["state"][key][name], msg=f"{name} of parameter {key}")


@DEVICES
@OPTIMISERS
def test_many_steps_at_moving_rates(device: str, settings: Mapping[str, Any]) -> None:
    """With decay in some groups and a slower rate of the features."""
    rates = rates_of(settings)
    graphed, eager = (training(device, settings, graphed=graphed) for graphed in (True, False))
    assert graphed.take(rates) == pytest.approx(eager.take(rates), rel=1e-10 if device == "cpu" else 1e-5)
    assert_same(graphed, eager)
    assert eager.network.unused.weight.grad is None  # type: ignore[union-attr]


@DEVICES
@OPTIMISERS
@pytest.mark.parametrize("before", [True, False], ids=["from a graph", "from eager steps"])
@pytest.mark.parametrize("after", [True, False], ids=["to a graph", "to eager steps"])
def test_going_on_from_a_saved_state(
    device: str, settings: Mapping[str, Any], *, before: bool, after: bool
) -> None:
    rates = rates_of(settings)
    whole = training(device, settings, graphed=False)
    whole.take(rates)
    first = training(device, settings, graphed=before)
    first.take(rates[:11])
    second = training(device, settings, graphed=after)
    second.network.load_state_dict(deepcopy(first.network.state_dict()))
    second.optimizer.load_state_dict(deepcopy(first.optimizer.state_dict()))
    second.steps = first.steps
    second.take(rates[11:])
    assert_same(second, whole)


@DEVICES
@OPTIMISERS
def test_a_cleared_state_is_captured_anew(device: str, settings: Mapping[str, Any]) -> None:
    """As the next stage of a schedule clears it; and a state that is loaded has other memory too."""
    rates = rates_of(settings)
    graphed, eager = (training(device, settings, graphed=graphed) for graphed in (True, False))
    for run in (graphed, eager):
        run.take(rates[:4])
        run.optimizer.state.clear()
        assert run.graph is None or not run.graph.holds(run.optimizer)
        run.take(rates[4:8])
        saved = deepcopy(run.optimizer.state_dict())
        run.take(rates[8:12])
        run.optimizer.load_state_dict(saved)
        assert run.graph is None or not run.graph.holds(run.optimizer)
        run.take(rates[12:16])
    assert_same(graphed, eager)


def test_a_checkpoint_of_before_the_update_was_in_the_graph() -> None:
    """By what such a checkpoint has: the momentum as ``-v / lr``, and that rate."""
    rates = rates_of(KERAS_SGD)
    run = training("cpu", KERAS_SGD, graphed=True)
    weight = run.network.last.weight
    velocity = torch.full_like(weight, 0.01)
    state = run.optimizer.state_dict()
    groups = [{**group, "lr": 0.05, "buffer_lr": 0.05} for group in state["param_groups"]]
    momentum = {0: {"momentum_buffer": -velocity / 0.05}}
    run.optimizer.load_state_dict({"state": momentum, "param_groups": groups})
    assert run.optimizer.param_groups[0]["params"][0] is weight
    start = weight.detach().clone()
    run.take(rates[:1])
    assert weight.grad is not None
    velocity = 0.9 * velocity - rates[0] * weight.grad
    torch.testing.assert_close(weight.detach(), start + 0.9 * velocity - rates[0] * weight.grad)


@DEVICES
@OPTIMISERS
def test_the_scaler_skips_what_is_not_finite(device: str, settings: Mapping[str, Any]) -> None:
    """As float16's does, between replays and in the same memory: the first steps overflow."""
    ends = []
    for graphed in (True, False):
        run = training(device, settings, graphed=False)
        for group in run.optimizer.param_groups:
            group["lr"] = 0.01
        scaler = GradScaler(device, init_scale=2.0**126, growth_interval=8)
        loss = partial(loss_of, run.network)
        step = TrainingStep(run.network, loss, "32-true", run.optimizer, scaler)
        batch = small_batch(0, run.network)
        taken = StepGraph(step, batch) if graphed else step
        start = run.network.last.weight.detach().clone()
        largest = torch.finfo(batch.labels.dtype).max / 1e3
        taken(batch._replace(labels=batch.labels * largest))  # so that the scaled gradients overflow
        assert torch.equal(run.network.last.weight, start)
        assert scaler.get_scale() == 2.0**125
        scaler.load_state_dict({**scaler.state_dict(), "scale": 1024.0})
        for seed in range(12):
            taken(small_batch(seed, run.network))
        assert not torch.equal(run.network.last.weight, start)
        assert scaler.get_scale() == 2048.0
        ends.append(run)
    assert_same(*ends)
