"""A training step replayed from a CUDA graph against the same step taken eagerly.

On a CPU the same code takes the step anew in place of a replay; the capture itself needs a GPU.
"""

from copy import deepcopy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from devices import BACKENDS, DEVICES
from samplecnn.data.batches import Batch
from samplecnn.model.blocks import ReSE2
from samplecnn.model.network import SEGMENT_SAMPLES, SampleCNN
from samplecnn.runs.config import KERAS_SGD
from samplecnn.training.backends.graph import StepGraph, TrainingStep
from samplecnn.training.optimiser import make_optimizer

pytestmark = pytest.mark.usefixtures("exact_gpu")


def loss_of(made: nn.Module, batch: Batch) -> Tensor:
    return F.binary_cross_entropy_with_logits(made(batch.waveforms).to(batch.labels.dtype), batch.labels)


def network(device: str, backend: str, dropout: float, dtype: torch.dtype = torch.float32) -> SampleCNN:
    torch.manual_seed(0)
    width = 16 if device == "cuda" else 2
    made = SampleCNN(partial(ReSE2, alpha=2, dropout=dropout), tags=5, width=width, dropout=dropout)
    made.use(backend)
    return made.to(device, dtype).train()


def batches(
    device: str, number: int, dtype: torch.dtype = torch.float32, size: int | None = None
) -> list[Batch]:
    size = size or (8 if device == "cuda" else 2)
    random = torch.Generator().manual_seed(1)
    return [
        Batch(
            (torch.rand(size, SEGMENT_SAMPLES, generator=random) - 0.5).to(device, dtype),
            (torch.rand(size, 5, generator=random) < 0.3).to(device, dtype),
            torch.zeros(size, dtype=torch.int64),
            torch.arange(size),
        )
        for _ in range(number)
    ]


def step_of(made: SampleCNN, precision: str = "32-true", *, rate: float | None = 0.01) -> TrainingStep:
    """Return the step of a network; without a ``rate``, its gradients alone."""
    optimizer = None if rate is None else make_optimizer(made, KERAS_SGD, weight_decay=0.0)
    for group in optimizer.param_groups if optimizer else ():
        group["lr"] = rate
    return TrainingStep(made, partial(loss_of, made), precision, optimizer)


@BACKENDS
@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_steps_of_every_backend(device: str, backend: str, precision: str) -> None:
    """In full precision in float64: of two nearly equal values float32 pools now one, now the other."""
    exact = precision == "64-true"
    dtype = torch.float64 if exact else torch.float32
    given = batches(device, 6 if device == "cuda" else 2, dtype)
    losses, states = {}, {}
    for graphed in (False, True):
        made = network(device, backend, dropout=0.0, dtype=dtype)
        step = step_of(made, precision)
        taken = StepGraph(step, given[0]) if graphed else step
        losses[graphed] = torch.stack([taken(batch).clone() for batch in given])
        states[graphed] = made.state_dict()
    tolerance = 2e-2
    if exact:  # and the update on a GPU reads the rate in float32
        tolerance = 1e-10 if device == "cpu" else 1e-6
    torch.testing.assert_close(losses[True], losses[False], rtol=tolerance, atol=tolerance)
    for name, value in states[False].items():
        if "running" in name or exact:
            torch.testing.assert_close(states[True][name], value, rtol=tolerance, atol=tolerance, msg=name)


@DEVICES
def test_dropout_is_drawn_anew_and_from_the_seed(device: str) -> None:
    made, (batch,) = network(device, "plain", dropout=0.5), batches(device, 1)
    graph = StepGraph(step_of(made, rate=None), batch)
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn.append([graph(batch).item() for _ in range(3)])
    assert len(set(drawn[0])) == 3
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


@DEVICES
@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_the_capture_leaves_no_trace(device: str, *, used: bool) -> None:
    """On weights, statistics, random state, and the momentum of an optimiser that has taken steps or none."""
    made, (batch,) = network(device, "plain", dropout=0.5), batches(device, 1)
    step = step_of(made, "bf16-mixed")
    assert step.optimizer is not None
    if used:
        step(batch)
    before = deepcopy((made.state_dict(), step.optimizer.state_dict()))
    random = torch.cuda.get_rng_state() if device == "cuda" else torch.get_rng_state()
    StepGraph(step, batch)
    assert torch.equal(torch.cuda.get_rng_state() if device == "cuda" else torch.get_rng_state(), random)
    for name, value in made.state_dict().items():
        assert torch.equal(value, before[0][name]), name
    after = step.optimizer.state_dict()
    assert after["param_groups"] == before[1]["param_groups"]
    for key, values in after["state"].items():
        buffer = values["momentum_buffer"]
        expected = before[1]["state"].get(key, {"momentum_buffer": torch.zeros_like(buffer)})
        assert torch.equal(buffer, expected["momentum_buffer"])


@DEVICES
def test_gradients_without_an_update(device: str) -> None:
    """Where a schedule's own optimiser takes the step, and Lightning lets go of the gradients between two."""
    made = network(device, "plain", dropout=0.0, dtype=torch.float64)
    first, second = batches(device, 2, torch.float64)
    graph = StepGraph(step_of(made, rate=None), first)
    for batch in (first, second, first):
        graph(batch)
        found = {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}
        made.zero_grad()
        loss_of(made, batch).backward()
        for name, p in made.named_parameters():
            assert p.grad is not None
            torch.testing.assert_close(found[name], p.grad, rtol=1e-8, atol=1e-10, msg=name)
        made.zero_grad()


@DEVICES
def test_evaluation_between_steps_sees_the_new_weights(device: str) -> None:
    """And the running statistics, which replays move; it leaves the next step as it is."""
    made, (first, second) = network(device, "stem", dropout=0.0), batches(device, 2)
    graph = StepGraph(step_of(made, rate=0.1), first)
    outputs = []
    for _ in range(2):
        made.train()
        graph(first)
        made.eval()
        with torch.no_grad():
            outputs.append(made(second.waveforms))
    assert not torch.allclose(outputs[0], outputs[1])
    copy = network(device, "stem", dropout=0.0).eval()
    copy.load_state_dict(made.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(copy(second.waveforms), outputs[1], rtol=1e-4, atol=1e-4)


@DEVICES
def test_backward_is_not_in_mixed_precision(device: str) -> None:
    """Where the whole step is under it, as Lightning has it."""
    made, (batch,) = network(device, "plain", dropout=0.0), batches(device, 1)
    enabled = []
    made.head_fc2.register_full_backward_hook(lambda *_: enabled.append(torch.is_autocast_enabled(device)))
    with torch.autocast(device, dtype=torch.bfloat16):
        StepGraph(step_of(made, "bf16-mixed"), batch)
    assert enabled
    assert not any(enabled)


@DEVICES
def test_a_batch_of_another_size_is_refused(device: str) -> None:
    made, (batch,) = network(device, "plain", dropout=0.0), batches(device, 1)
    graph = StepGraph(step_of(made), batch)
    smaller = Batch(*(values[:1] for values in batch))
    with pytest.raises(ValueError, match=r"captured for \(\d, 59049\), not \(1, 59049\)"):
        graph(smaller)
