"""What passes for the same as plain, and what does not."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from samplecnn.model.blocks import BLOCKS, Basic, Res2
from samplecnn.model.network import STEM, backends
from samplecnn.model.networks import NETWORKS
from samplecnn.runs.config import KERAS_SGD
from samplecnn.training.backends.choice import identify
from samplecnn.training.backends.graph import StepGraph
from samplecnn.training.backends.proof import (
    Plan,
    Standard,
    WrongNumbersError,
    deviations,
    make_step,
    require_dropout,
    require_same_draws,
    require_same_update,
)
from samplecnn.training.init import freeze
from training.backends.faulty import CPU, Faulty, of_others, trial

ADAMW = {"name": "adamw", "weight_decay": 0.1, "betas": [0.9, 0.99]}

PLANS = [Plan(backend) for backend in backends("cpu")]


def test_what_is_zero_in_theory_is_compared_with_others_of_its_kind() -> None:
    exact = {"a.bias": torch.full((4,), 1e-17), "b.bias": torch.ones(4), "c.weight": torch.ones(4)}
    given = {**exact, "a.bias": torch.full((4,), 1e-3), "c.weight": torch.full((4,), float("nan"))}
    assert deviations(given, exact) == pytest.approx({"a.bias": 1e-2, "b.bias": 0, "c.weight": float("inf")})


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize(
    "name", ["dieleman", *(pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS if n != "dieleman")]
)
def test_a_graph_of_a_network_of_others_is_proven(name: str, precision: str) -> None:
    """On a CPU, where it takes the step anew, on segments of its own length."""
    Standard(of_others(name, precision=precision)).prove(Plan(graph=True))


@pytest.mark.parametrize(("times", "proven"), [(2, True), (3, False)])
def test_what_is_wrong_is_so_for_several_inputs(times: int, proven: bool) -> None:
    """A ReLU near zero may flip for one."""
    left = [times]

    class Rare(Faulty):
        def misbehave(self, x: Tensor) -> Tensor:
            left[0] -= 1
            return Basic.forward(self, x) * (2 if left[0] >= 0 else 1)

    standard = Standard(trial(Rare))
    if proven:
        standard.prove(Plan(STEM))
    else:
        with pytest.raises(WrongNumbersError, match="computes something else"):
            standard.prove(Plan(STEM))


def test_float32_is_compared_without_tensorfloat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its errors on a GPU are so large that wrong gradients would pass beside them."""
    seen: dict[tuple[bool, torch.dtype], set[bool]] = {}

    class Looking(Basic):
        def forward(self, x: Tensor) -> Tensor:
            mixed, weights = torch.is_autocast_enabled("cpu"), self.conv1.weight.dtype
            seen.setdefault((mixed, weights), set()).add(torch.backends.cudnn.allow_tf32)
            return super().forward(x)

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    Standard(trial(Looking, precision="bf16-mixed")).prove(Plan(STEM))
    assert seen[False, torch.float32] == {False}
    assert seen[True, torch.float32] == {True}
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("block", BLOCKS)
def test_every_backend_of_this_machine_is_proven(block: str, precision: str) -> None:
    given = trial(BLOCKS[block], width=4, precision=precision)
    standard = Standard(given)
    for plan in PLANS:
        standard.prove(plan)


@pytest.mark.parametrize(("rate", "scale"), [(0.3, 1.0), (0.2, 0.9)])
def test_a_wrong_dropout_is_seen(rate: float, scale: float) -> None:
    """Another share of values, or another factor for those that stay."""

    class Wrong(Res2):
        def before_last(self, x: Tensor) -> Tensor:
            if self.dropout.p == 0:
                return super().before_last(x)
            self.dropout.p, stated = rate, self.dropout.p
            dropped = super().before_last(x) * scale
            self.dropout.p = stated
            return dropped

    torch.manual_seed(0)
    require_dropout(Res2(4, 4).train(), CPU)
    with pytest.raises(WrongNumbersError, match="drops 0.29|drops 0.30" if scale == 1 else "scales what"):
        require_dropout(Wrong(4, 4).train(), CPU)


def test_a_network_that_is_frozen_in_part_is_proven_as_such() -> None:
    """With dropout inside a frozen block, which then drops nothing; its choice is kept apart."""
    whole, frozen = (trial(lambda a, b: Res2(a, b, dropout=0.2)) for _ in range(2))
    freeze(frozen.network, 3)
    assert identify(frozen, PLANS) != identify(whole, PLANS)
    standard = Standard(frozen)
    for plan in PLANS:
        standard.prove(plan)


@pytest.mark.parametrize("optimizer", [KERAS_SGD, ADAMW])
def test_a_graph_is_proven_with_its_update(optimizer: Mapping[str, Any]) -> None:
    """On a CPU, where its step is taken anew: rates, momentum and random numbers are as on a GPU."""
    given = trial(lambda a, b: Res2(a, b, dropout=0.2), optimizer=optimizer)
    Standard(given).prove(Plan(graph=True))


@pytest.mark.parametrize("optimizer", [KERAS_SGD, ADAMW])
def test_an_update_at_the_rate_of_its_capture_is_seen(
    optimizer: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = make_step(trial(optimizer=optimizer), Plan(graph=True))
    require_same_update(step)
    assert isinstance(step.take, StepGraph)
    monkeypatch.setattr(step.take.rates, "write", lambda: None)
    with pytest.raises(WrongNumbersError, match=r"its graph moves .* wrongly"):
        require_same_update(step)


def test_other_random_numbers_in_a_graph_are_seen() -> None:
    step = make_step(trial(), Plan(graph=True))
    require_same_draws(step, allowed=1e-4)

    def draw(*_: Any) -> None:
        if torch.is_grad_enabled():  # as in the graph alone
            torch.rand(1)

    step.network.register_forward_pre_hook(draw)
    with pytest.raises(WrongNumbersError, match="its graph gives the loss"):
        require_same_draws(step, allowed=1e-4)
