"""Weights cast all at once against autocast, which casts each by itself: the same bits."""

from collections import Counter
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.utils._python_dispatch import TorchDispatchMode

from samplecnn.data.batches import Batch
from samplecnn.model.architecture import build
from samplecnn.model.blocks import BLOCKS
from samplecnn.model.network import COMPILE, SampleCNN, backends
from samplecnn.model.networks import NETWORKS
from samplecnn.model.networks.network import Network
from samplecnn.runs.config import KERAS_SGD
from samplecnn.training.backends.casts import CastWeights
from samplecnn.training.backends.graph import TrainingStep, cast_weights
from samplecnn.training.optimiser import make_optimizer

TAGS = 5
BF16, FP16 = "bf16-mixed", "16-mixed"


def sample_cnn(block: str, backend: str) -> SampleCNN:
    torch.manual_seed(0)
    network = build({"block": {"name": block}, "multi": True, "width": 4, "dropout": 0.5}, TAGS)
    assert isinstance(network, SampleCNN)
    network.use(backend)
    return network


def other(name: str) -> Network:
    torch.manual_seed(0)
    return NETWORKS[name](tags=TAGS)


def batch(network: Network, seed: int) -> Batch:
    random = torch.Generator().manual_seed(seed)
    waveforms = torch.rand(2, network.segment_samples, generator=random) - 0.4
    labels = (torch.rand(2, TAGS, generator=random) < 0.3).float()
    return Batch(waveforms, labels, torch.zeros(2, dtype=torch.int64), torch.arange(2))


def loss_of(network: Network, data: Batch) -> Tensor:
    return F.binary_cross_entropy_with_logits(network(data.waveforms).float(), data.labels)


def step_of(network: Network, casts: CastWeights | None, precision: str = BF16) -> TrainingStep:
    optimizer = make_optimizer(network.train(), KERAS_SGD, weight_decay=1e-2)
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    scaler = GradScaler("cpu", init_scale=2.0**18, enabled=precision == FP16)
    return TrainingStep(network, partial(loss_of, network), precision, optimizer, scaler, casts)


def assert_same_steps(ours: Network, theirs: Network, steps: int = 3, precision: str = BF16) -> CastWeights:
    """Losses, gradients (or none), weights and statistics, bit by bit; return what casts."""
    casts = cast_weights(ours, precision)
    assert casts is not None
    taken, expected = step_of(ours, casts, precision), step_of(theirs, None, precision)
    for seed in range(steps):
        losses = []
        for step in (taken, expected):
            torch.manual_seed(seed)  # of the dropout
            losses.append(step(batch(step.network, seed)))  # type: ignore[arg-type]
        assert torch.equal(*losses)
        for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert type(p) is nn.Parameter, name
            assert (p.grad is None) == (q.grad is None), name
            if p.grad is not None and q.grad is not None:
                assert p.grad.dtype == p.dtype, name
                assert torch.equal(p.grad.nan_to_num(1e30), q.grad.nan_to_num(1e30)), name
        for name, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], value), name
    return casts


@pytest.mark.parametrize("backend", backends("cpu"))
@pytest.mark.parametrize("block", BLOCKS)
def test_every_block(block: str, backend: str) -> None:
    """All convolutions and dense layers have copies, but the stem where it is a product."""
    ours, theirs = (sample_cnn(block, backend) for _ in range(2))
    casts = assert_same_steps(ours, theirs)
    layers = {
        f"{name}.{part}"
        for name, module in ours.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and (name != "stem_conv" or backend == "plain")
        for part in ("weight", "bias")
    }
    assert casts.copies is not None
    assert casts.copies.keys() == layers


@pytest.mark.parametrize(
    "name", ["dieleman", *(pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS if n != "dieleman")]
)
def test_other_networks(name: str) -> None:
    casts = assert_same_steps(other(name), other(name), steps=2)
    assert casts.copies


def test_float16_with_its_scaler() -> None:
    """The gradients are scaled, and the first of them not finite."""
    ours, theirs = (sample_cnn("basic", "stem") for _ in range(2))
    start = ours.head_fc2.weight.detach().clone()
    assert assert_same_steps(ours, theirs, 6, FP16).copies
    assert not torch.equal(ours.head_fc2.weight, start)


class Peculiar(Network):
    """What weights may be used for."""

    segment_samples = 40

    def __init__(self) -> None:
        super().__init__(tags=TAGS)
        self.frozen = nn.Conv1d(1, 4, 3)
        self.layers = nn.Sequential(nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8))
        self.twice = nn.Linear(8, 8)
        self.whole = nn.Linear(8, 8)
        self.unused = nn.Linear(2, 2)
        self.last = nn.Linear(8, TAGS)
        self.tied = nn.Linear(8, TAGS)
        self.tied.weight = self.last.weight
        self.freeze([self.frozen])

    def forward(self, waveforms: Tensor) -> Tensor:
        x = self.layers(self.frozen(waveforms[:, None])).mean(dim=2)
        x = self.twice(torch.relu(self.twice(x)))
        x = self.whole(x) * self.whole.weight.square().mean()
        logits: Tensor = self.last(x) + self.tied(x)
        return logits


def peculiar() -> Peculiar:
    torch.manual_seed(0)
    return Peculiar()


def test_what_has_no_copy() -> None:
    """What is used twice, tied, not at all or in full precision besides; frozen weights have one."""
    ours = peculiar()
    casts = assert_same_steps(ours, peculiar())
    assert casts.copies is not None
    assert casts.copies.keys() == {
        *("frozen.weight", "frozen.bias", "layers.0.weight", "layers.0.bias"),
        *("whole.bias", "last.bias", "tied.bias"),
    }


def test_weights_that_change_between_steps() -> None:
    """As averaging, a stage's best weights or a checkpoint change them."""
    ours, theirs = (sample_cnn("se", "plain") for _ in range(2))
    casts = cast_weights(ours, BF16)
    taken, expected = step_of(ours, casts), step_of(theirs, None)
    for seed in range(3):
        torch.manual_seed(seed)
        loss = taken(batch(ours, seed))
        torch.manual_seed(seed)
        assert torch.equal(loss, expected(batch(theirs, seed)))
        with torch.no_grad():
            for network in (ours, theirs):
                torch._foreach_mul_(list(network.parameters()), 0.9)


class Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.casts = 0  # of weights

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        self.casts += func.overloadpacket.__name__ == "_to_copy" and isinstance(args[0], nn.Parameter)
        return func(*args, **(kwargs or {}))


def test_two_casts_in_a_step() -> None:
    """One of all weights, one of all gradients: 60 and as many without."""
    found = {}
    for together in (True, False):
        network = sample_cnn("se", "plain")
        step = step_of(network, cast_weights(network, BF16) if together else None)
        step(batch(network, 0))
        with Operations() as operations:
            step(batch(network, 0))
        found[together] = operations
    assert found[False].casts == 60
    assert found[True].casts == 0
    assert found[True].counts["_foreach_copy_"] == 2
    assert found[False].counts["_to_copy"] - found[True].counts["_to_copy"] == 2 * 60


def test_an_error_leaves_the_weights_in_place() -> None:
    network = sample_cnn("basic", "plain")
    weights = list(network.parameters())
    casts = cast_weights(network, BF16)
    step = step_of(network, casts)
    step(batch(network, 0))
    network.head_dropout.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        step(batch(network, 0))
    assert all(p is q for p, q in zip(network.parameters(), weights, strict=True))


def test_where_nothing_is_cast() -> None:
    """In full precision, and in compiled networks: their kernels cast as they read."""
    assert cast_weights(sample_cnn("basic", "plain"), "32-true") is None
    assert cast_weights(sample_cnn("basic", COMPILE), BF16) is None
