"""Every backend of the network is the same function, gradients and running statistics included."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golden.reference import narrow
from samplecnn.model.backends.fold import fold
from samplecnn.model.backends.stem import stem_by_taps
from samplecnn.model.blocks import BLOCKS, Basic, conv3
from samplecnn.model.network import PLAIN, SEGMENT_SAMPLES, SampleCNN, backends
from samplecnn.model.norm import BatchNorm


def network(kind: str, *, dtype: torch.dtype = torch.float64, seed: int = 0) -> SampleCNN:
    """A narrow network whose batch norms are far from the identity; some gammas are negative."""
    torch.manual_seed(seed)
    made = SampleCNN(partial(BLOCKS[kind], **narrow(kind)), tags=5, width=4, multi=True)
    for module in made.modules():
        if isinstance(module, BatchNorm):
            nn.init.uniform_(module.weight, -0.5, 2)
            nn.init.normal_(module.bias)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return made.to(dtype)


def waveforms(batch: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    # With an offset, as recordings have: the statistics must not lose it.
    return (torch.rand(batch, SEGMENT_SAMPLES, generator=generator) - 0.4).to(dtype)


def trained(net: SampleCNN, backend: str, mixed: bool = False, batch: int = 3) -> dict[str, Tensor]:
    """Loss, gradients and running statistics of one training step without its update."""
    net.use(backend)
    net.train()
    torch.manual_seed(2)  # the dropouts
    x = waveforms(batch, next(net.parameters()).dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        logits = net(x).float() if mixed else net(x)
    loss = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, 0.25))
    loss.backward()
    gradients = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    statistics = {name: b for name, b in net.named_buffers() if "running" in name}
    return {"loss": loss.detach(), **gradients, **statistics}


@pytest.mark.parametrize("backend", [backend for backend in backends("cpu") if backend != PLAIN])
@pytest.mark.parametrize("kind", BLOCKS)
def test_training_is_the_same(kind: str, backend: str) -> None:
    plain, other = trained(network(kind), PLAIN), trained(network(kind), backend)
    assert plain.keys() == other.keys()
    for name, expected in plain.items():
        # Zero in theory under a batch norm, and as large as the processor rounds: the weight's is the scale.
        under_norm = name.endswith("bias") and ("conv" in name or name == "head_fc1.bias")
        scale = plain[name.removesuffix("bias") + "weight"] if under_norm else expected
        torch.testing.assert_close(
            other[name], expected, rtol=0, atol=1e-10 * scale.abs().max().item(), msg=name
        )


def test_statistics_of_the_first_layer_in_single_precision() -> None:
    """Sums over half a million steps lose nothing that a sum in double precision has."""
    conv, generator = conv3(1, 3, stride=3), torch.Generator().manual_seed(0)
    noise = torch.randn(23, SEGMENT_SAMPLES, generator=generator)
    moved = {}
    for dtype in (torch.float32, torch.float64):
        bn = BatchNorm(3).to(dtype)
        with torch.no_grad():
            stem_by_taps(conv.to(dtype), bn, noise.to(dtype))
        moved[dtype] = bn.running_var
    torch.testing.assert_close(
        moved[torch.float32], moved[torch.float64], rtol=1e-6, atol=0, check_dtype=False
    )


@pytest.mark.parametrize("backend", [backend for backend in backends("cpu") if backend != PLAIN])
@pytest.mark.parametrize("kind", ["se", "rese2"])
def test_mixed_precision_is_as_near_as_on_the_plain_backend(kind: str, backend: str) -> None:
    """By the norm of all gradients, over some networks: rounding makes ties in the pooling, which flip."""

    def gradients(values: dict[str, Tensor]) -> Tensor:
        kept = [
            v.flatten().double() for name, v in values.items() if "running" not in name and name != "loss"
        ]
        return torch.cat(kept)

    errors = {PLAIN: 0.0, backend: 0.0}
    for seed in range(4):
        exact = gradients(trained(network(kind, seed=seed), PLAIN, batch=16))
        for way in errors:
            mixed = gradients(
                trained(network(kind, seed=seed, dtype=torch.float32), way, mixed=True, batch=16)
            )
            errors[way] += ((mixed - exact).norm() / exact.norm()).item() / 4
    assert errors[backend] < 1.5 * errors[PLAIN]
    assert errors[backend] < 1


@pytest.mark.parametrize("kind", BLOCKS)
def test_folding_changes_nothing(kind: str) -> None:
    net = network(kind).eval()
    folded = fold(net)
    assert not any(isinstance(module, BatchNorm) for module in folded.modules())
    assert any(isinstance(module, BatchNorm) for module in net.modules())
    with torch.no_grad():
        expected = net(waveforms())
        for backend in backends("cpu"):
            folded.use(backend)
            torch.testing.assert_close(folded(waveforms()), expected, rtol=0, atol=1e-10)


class NormFirst(nn.Module):
    """A block in which bn1 does not follow conv1."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.bn1 = BatchNorm(in_channels)
        self.conv1 = conv3(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.relu(self.conv1(self.bn1(x))), (1, 3))


def test_folding_leaves_own_blocks_alone() -> None:
    torch.manual_seed(0)
    net = SampleCNN(NormFirst, tags=3, width=4).double().train()
    with torch.no_grad():
        net(waveforms())  # moves the running statistics
        net.eval()
        torch.testing.assert_close(fold(net)(waveforms()), net(waveforms()), rtol=0, atol=1e-10)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no backend 'fastest'.*allowed are plain, products, stem"):
        network("basic").use("fastest")


class OwnPool(Basic):
    """A block derived from one of the six, with another pooling."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.pool = nn.AvgPool2d((1, 3))  # type: ignore[assignment]


def test_derived_blocks_are_not_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is added to the six."""
    pytest.importorskip("triton")
    monkeypatch.setitem(BLOCKS, "own", OwnPool)
    for block, fused in ((Basic, True), (OwnPool, False)):
        net = SampleCNN(block, tags=3, width=2)
        net.use("triton")
        assert all(bool(block.fused) == fused for block in net.blocks)
        net.use("stem")
        assert not any(block.fused for block in net.blocks)
