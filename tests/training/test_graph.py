"""A training step replayed from a CUDA graph against the same step taken eagerly. Needs a GPU."""

from collections.abc import Iterator
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from samplecnn.data.datamodule import Batch
from samplecnn.model.blocks import ReSE2
from samplecnn.model.network import SEGMENT_SAMPLES, SampleCNN, backends
from samplecnn.training.graph import StepGraph, autocast
from samplecnn.training.optimiser import KerasSGD

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(autouse=True)
def exact_float32() -> Iterator[None]:
    """Without TensorFloat-32: other algorithms would then give other numbers."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def network(backend: str, dropout: float) -> SampleCNN:
    torch.manual_seed(0)
    made = SampleCNN(partial(ReSE2, alpha=2, dropout=dropout), tags=5, width=16, dropout=dropout)
    made.use(backend)
    return made.cuda().train()


def batches(number: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [
        Batch(
            (torch.rand(8, SEGMENT_SAMPLES, generator=generator) - 0.5).cuda(),
            (torch.rand(8, 5, generator=generator) < 0.3).float().cuda(),
            torch.zeros(8, dtype=torch.int64),
            torch.arange(8),
        )
        for _ in range(number)
    ]


def loss_of(made: SampleCNN, batch: Batch) -> Tensor:
    return F.binary_cross_entropy_with_logits(made(batch.waveforms).float(), batch.labels)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("backend", backends("cuda"))
def test_steps_are_those_without_a_graph(backend: str, precision: str) -> None:
    given = batches(6)
    losses = {}
    states = {}
    for graphed in (False, True):
        made = network(backend, dropout=0.0)
        optimiser = KerasSGD(made.parameters(), lr=0.01)
        graph = StepGraph(made, partial(loss_of, made), given[0], precision) if graphed else None
        told = []
        for step, batch in enumerate(given):
            optimiser.param_groups[0]["lr"] = 0.01 / (1 + step)
            if graph is not None:
                told.append(graph(batch).clone())
            else:
                optimiser.zero_grad()
                with autocast(batch.waveforms.device, precision):
                    loss = loss_of(made, batch)
                loss.backward()
                told.append(loss.detach())
            optimiser.step()
        losses[graphed] = torch.stack(told)
        states[graphed] = made.state_dict()
    tolerance = 1e-4 if precision == "32-true" else 2e-2
    torch.testing.assert_close(losses[True], losses[False], rtol=tolerance, atol=tolerance)
    for name, value in states[False].items():
        if "running" in name:
            torch.testing.assert_close(states[True][name], value, rtol=tolerance, atol=tolerance, msg=name)


def test_dropout_is_drawn_anew_and_from_the_seed() -> None:
    made, (batch,) = network("plain", dropout=0.5), batches(1)
    graph = StepGraph(made, partial(loss_of, made), batch, "32-true")
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn.append([graph(batch).item() for _ in range(3)])
    assert len(set(drawn[0])) == 3
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_the_capture_leaves_no_trace() -> None:
    made, (batch,) = network("plain", dropout=0.5), batches(1)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    random = torch.cuda.get_rng_state()
    StepGraph(made, partial(loss_of, made), batch, "bf16-mixed")
    assert torch.equal(torch.cuda.get_rng_state(), random)
    for name, value in made.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("backend", backends("cuda"))
def test_the_scale_of_the_loss_may_change(backend: str) -> None:
    """As float16's gradient scaler changes it, between replays and in the same memory."""
    made, (batch,) = network(backend, dropout=0.0), batches(1)
    scale = torch.tensor(1.0, device="cuda")
    graph = StepGraph(made, partial(loss_of, made), batch, "32-true", scale=scale)
    weight = made.head_fc2.weight
    found = []
    for value in (1.0, 1024.0):
        scale.fill_(value)
        loss = graph(batch).item()
        assert weight.grad is not None
        found.append((loss, weight.grad.clone()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    torch.testing.assert_close(found[1][1] / 1024, found[0][1], rtol=1e-3, atol=1e-7)


def test_evaluation_between_steps_sees_the_new_weights() -> None:
    """And the running statistics, which replays move; it leaves the next step as it is."""
    made, (first, second) = network("stem", dropout=0.0), batches(2)
    graph = StepGraph(made, partial(loss_of, made), first, "32-true")
    optimiser = KerasSGD(made.parameters(), lr=0.1)
    outputs = []
    for _ in range(2):
        made.train()
        graph(first)
        optimiser.step()
        made.eval()
        with torch.no_grad():
            outputs.append(made(second.waveforms))
    assert not torch.allclose(outputs[0], outputs[1])
    copy = network("stem", dropout=0.0).eval()
    copy.load_state_dict(made.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(copy(second.waveforms), outputs[1], rtol=1e-4, atol=1e-4)


def test_backward_is_not_in_mixed_precision() -> None:
    """Where the whole step is under it, as Lightning has it."""
    made, (batch,) = network("plain", dropout=0.0), batches(1)
    enabled = []
    made.head_fc2.register_full_backward_hook(lambda *_: enabled.append(torch.is_autocast_enabled("cuda")))
    with torch.autocast("cuda", dtype=torch.bfloat16):
        StepGraph(made, partial(loss_of, made), batch, "bf16-mixed")
    assert enabled
    assert not any(enabled)


def test_a_batch_of_another_size_is_refused() -> None:
    made, (batch,) = network("plain", dropout=0.0), batches(1)
    graph = StepGraph(made, partial(loss_of, made), batch, "32-true")
    smaller = Batch(*(values[:1] for values in batch))
    with pytest.raises(ValueError, match=r"captured for .*\(8, 59049\), \(8, 5\).* not \[\(1, 59049\)"):
        graph(smaller)
