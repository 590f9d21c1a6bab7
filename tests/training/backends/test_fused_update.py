"""The update by a kernel of Triton against `KerasSGD` itself.

The functions ``check_*`` run on a GPU if there is one, else in Triton's interpreter, in a process of their
own as those of tests/model/test_triton.py do. To see them one by one:

    TRITON_INTERPRET=1 pytest -o python_functions='check_*' tests/training/test_fused_update.py
"""

from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

pytest.importorskip("triton")
from model.triton_network import DEVICE, run_checks
from samplecnn.data.batches import Batch
from samplecnn.model.backends.kernels import triton_sgd
from samplecnn.model.blocks import Basic
from samplecnn.model.network import PLAIN, SEGMENT_SAMPLES, TRITON, SampleCNN
from samplecnn.runs.config import KERAS_SGD
from samplecnn.training.backends.fused_update import FusedUpdate
from samplecnn.training.backends.graph import StepGraph, TrainingStep, fused_update
from samplecnn.training.optimiser import DeviceRates, KerasSGD, make_optimizer

ADAMW = {"weight_decay": 0.1, "betas": [0.9, 0.99]}
RATES = (0.1, 0.1, 0.03, 0.0299, 0.5, 0.001)

Case = tuple[list[nn.Parameter], KerasSGD]


def case() -> Case:
    """Return weights of several sizes and layouts, one of which has no gradient, and their optimiser."""
    torch.manual_seed(0)
    shapes = [(5, 7, 1, 3), (3 * triton_sgd.CHUNK,), (triton_sgd.CHUNK + 17,), (50,), (12, 9), ()]
    weights = [nn.Parameter(torch.randn(shape, device=DEVICE)) for shape in shapes]
    weights[0].data = weights[0].data.contiguous(memory_format=torch.channels_last)
    groups = [
        {"params": weights[:2], "weight_decay": 0.1, "rate_factor": 0.3},
        {"params": weights[2:], "weight_decay": 0.0, "rate_factor": 1.0},
    ]
    return weights, KerasSGD(groups, lr=0.0)


def draw(
    weights: list[nn.Parameter], low: torch.dtype, seed: int
) -> list[tuple[nn.Parameter, Tensor | None]]:
    """Return gradients in the lower precision, but of every third weight, and none of the last."""
    torch.manual_seed(seed)
    types = [torch.float32 if index % 3 == 2 else low for index in range(len(weights) - 1)]
    drawn = [torch.randn_like(p, dtype=dtype) for p, dtype in zip(weights, types, strict=False)]
    return list(zip(weights, [*drawn, None], strict=True))


def set_rates(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate_factor", 1.0)


def step(optimizer: KerasSGD, gradients: list[tuple[nn.Parameter, Tensor | None]]) -> None:
    for p, gradient in gradients:
        p.grad = None if gradient is None else gradient.to(p.dtype)
    optimizer.step()


def assert_near(found: Tensor, wanted: Tensor) -> None:
    """But for the rounding of sums in another order."""
    assert (found - wanted).norm() <= 1e-6 * wanted.norm()


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def check_many_steps_at_moving_rates(low: torch.dtype) -> None:
    """With decay and a slower rate in one group; the first step makes the state and is the optimiser's."""
    (ours, fused), (theirs, plain) = case(), case()
    update, rates = FusedUpdate(fused, low), DeviceRates(fused)
    for seed, rate in enumerate(RATES):
        set_rates(fused, rate)
        set_rates(plain, rate)
        rates.write()
        gradients = draw(ours, low, seed)
        with rates.in_use():
            assert update(gradients) == (seed > 0)
            if seed == 0:
                step(fused, gradients)
        step(plain, draw(theirs, low, seed))
        for p, q in zip(ours, theirs, strict=True):
            assert_near(p, q)
            kept, wanted = fused.state[p], plain.state[q]
            assert kept.keys() == wanted.keys()
            if wanted:
                assert_near(kept["momentum_buffer"], wanted["momentum_buffer"])
    assert fused.state_dict()["param_groups"] == plain.state_dict()["param_groups"]


def check_diverged_values_show() -> None:
    weights, optimizer = case()
    update, rates = FusedUpdate(optimizer, torch.bfloat16), DeviceRates(optimizer)
    set_rates(optimizer, 0.1)
    rates.write()
    step(optimizer, draw(weights, torch.bfloat16, 0))
    gradients = draw(weights, torch.bfloat16, 1)
    assert gradients[1][1] is not None
    gradients[1][1][-1] = torch.nan
    with rates.in_use():
        assert update(gradients)
    assert weights[1].isnan().nonzero().flatten().tolist() == [len(weights[1]) - 1]


def check_what_does_not_fit_is_left_alone() -> None:
    """Other layouts, types and places in memory; a state that is not there; momentum without a gradient."""
    weights, optimizer = case()
    update, rates = FusedUpdate(optimizer, torch.bfloat16), DeviceRates(optimizer)
    set_rates(optimizer, 0.1)
    rates.write()
    fitting = draw(weights, torch.bfloat16, 0)
    with rates.in_use():
        assert not update(fitting)
    step(optimizer, fitting)
    before = deepcopy([p.detach() for p in weights])
    first, second = fitting[0][1], fitting[1][1]
    assert first is not None
    assert second is not None
    for index, other in (
        (0, first.contiguous()),
        (0, None),
        (1, second.double()),
        (1, second.half()),
        (1, torch.cat([second[:1], second])[1:]),
    ):
        gradients = list(fitting)
        gradients[index] = (weights[index], other)
        with rates.in_use():
            assert not update(gradients)
    assert all(torch.equal(p, q) for p, q in zip(weights, before, strict=True))


def network() -> SampleCNN:
    torch.manual_seed(0)
    made = SampleCNN(Basic, tags=5, width=4, dropout=0.0).to(DEVICE).train()
    made.use(TRITON)
    return made


def loss_of(made: SampleCNN, batch: Batch) -> Tensor:
    return F.binary_cross_entropy_with_logits(made(batch.waveforms).float(), batch.labels)


@pytest.mark.slow
def check_whole_steps() -> None:
    """Of a graph in mixed precision, also where the optimiser's state is cleared, against eager ones."""
    random = torch.Generator().manual_seed(1)
    waveforms = (torch.rand(2, SEGMENT_SAMPLES, generator=random) - 0.4).to(DEVICE)
    labels = (torch.rand(2, 5, generator=random) < 0.3).float().to(DEVICE)
    batch = Batch(waveforms, labels, torch.zeros(2, dtype=torch.int64), torch.arange(2))
    ends = []
    for graphed in (True, False):
        made = network()
        optimizer = make_optimizer(made, KERAS_SGD, weight_decay=1e-2)
        step = TrainingStep(made, partial(loss_of, made), "bf16-mixed", optimizer)
        graph = StepGraph(step, batch) if graphed else None
        for rate in (0.01, 0.003):
            set_rates(optimizer, rate)
            (graph or step)(batch)
        if graph:
            assert made.head_fc2.weight.grad is None  # the copy has it
            types = {None if gradient is None else gradient.dtype for _, gradient in graph.gradients()}
            assert types == {torch.bfloat16, torch.float32}  # batch norms have the latter
        ends.append((made.state_dict(), optimizer.state_dict()))
    (ours, kept), (theirs, wanted) = ends
    tolerance = 1e-5 if DEVICE == "cpu" else 1e-2
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=tolerance, atol=tolerance, msg=name)
    assert kept["param_groups"] == wanted["param_groups"]
    assert kept["state"].keys() == wanted["state"].keys()


def test_where_the_optimiser_itself_updates() -> None:
    """On other backends, which need no Triton, with its scaler, and where it is another optimiser."""
    made = network()
    keras, adamw = (make_optimizer(made, {"name": name, **ADAMW}, 0.0) for name in ("keras_sgd", "adamw"))
    of_keras = TrainingStep(made, partial(loss_of, made), "bf16-mixed", keras)
    assert fused_update(of_keras) is not None
    assert fused_update(replace(of_keras, precision="16-mixed", scaler=GradScaler("cpu"))) is None
    assert fused_update(replace(of_keras, optimizer=adamw)) is None
    assert fused_update(replace(of_keras, optimizer=None)) is None
    made.use(PLAIN)
    assert fused_update(of_keras) is None


def test_the_kernel() -> None:
    run_checks("not slow", __file__)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_kernel_in_whole_steps() -> None:
    run_checks("slow", __file__)
