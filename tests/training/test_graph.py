"""A training step replayed from a CUDA graph against the same step taken eagerly. Needs a GPU."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from samplecnn.data.datamodule import Batch
from samplecnn.model.blocks import ReSE2
from samplecnn.model.network import SEGMENT_SAMPLES, SampleCNN, paths
from samplecnn.training.graph import StepGraph, autocast
from samplecnn.training.optimiser import KerasSGD

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def network(path: str, dropout: float) -> SampleCNN:
    torch.manual_seed(0)
    made = SampleCNN(partial(ReSE2, alpha=2, dropout=dropout), tags=5, width=16, dropout=dropout)
    made.use(path)
    return made.cuda().train()


def batches(number: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [
        Batch(
            (torch.rand(8, SEGMENT_SAMPLES, generator=generator) - 0.5).cuda(),
            (torch.rand(8, 5, generator=generator) < 0.3).float().cuda(),
            torch.zeros(8, dtype=torch.int64),
        )
        for _ in range(number)
    ]


def loss_of(made: SampleCNN, batch: Batch) -> Tensor:
    return F.binary_cross_entropy_with_logits(made(batch.waveforms).float(), batch.labels)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("path", paths("cuda"))
def test_steps_are_those_without_a_graph(path: str, precision: str) -> None:
    given = batches(6)
    losses = {}
    states = {}
    for graphed in (False, True):
        made = network(path, dropout=0.0)
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
