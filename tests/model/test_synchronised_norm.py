"""Batch norm over several processes: one step of two with 12 segments each is one of 24 in one process."""

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from processes import in_ranks
from samplecnn.model.blocks import ReSE2
from samplecnn.model.network import PLAIN, STEM, SampleCNN
from samplecnn.model.norm import BatchNorm, over_processes, synchronise

SEGMENTS, TAGS = 24, 3


def step(backend: str) -> dict[str, Tensor]:
    """Gradients and running statistics of one step on this process's share of the segments."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = SampleCNN(
        lambda i, o: ReSE2(i, o, alpha=1, dropout=0.0), tags=TAGS, width=2, dropout=0.0
    ).double()
    network.use(backend)
    generator = torch.Generator().manual_seed(1)
    waveforms = torch.rand(SEGMENTS, 59049, dtype=torch.float64, generator=generator) - 0.4
    waveforms *= torch.linspace(0.1, 1, SEGMENTS, dtype=torch.float64)[:, None]  # no two batches are alike
    labels = torch.randint(0, 2, (SEGMENTS, TAGS), generator=generator).double()
    module: torch.nn.Module = network
    if dist.is_initialized():
        synchronise(network)
        module = DistributedDataParallel(network, broadcast_buffers=False)
        rank, world = dist.get_rank(), dist.get_world_size()
        waveforms, labels = waveforms.chunk(world)[rank], labels.chunk(world)[rank]
    F.binary_cross_entropy_with_logits(module(waveforms), labels).backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return gradients | {name: b.clone() for name, b in network.named_buffers()}


@pytest.mark.parametrize(("world", "backend"), [(2, PLAIN), (2, STEM), (4, STEM)])
def test_a_step_is_that_of_one_process_with_all_segments(world: int, backend: str) -> None:
    expected = step(backend)
    for found in in_ranks(world, step, backend):
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-9, atol=1e-12, msg=name)


def far_from_zero() -> tuple[Tensor, Tensor]:
    """Mean and variance of values with a mean 100 times their spread, in single precision."""
    values = torch.randn(1000, generator=torch.Generator().manual_seed(dist.get_rank())) + 100
    variance, mean = torch.var_mean(values, dim=0, correction=0)
    return over_processes(mean[None], variance[None])


def test_statistics_do_not_cancel() -> None:
    (mean, variance), other = in_ranks(2, far_from_zero)
    parts = [torch.randn(1000, generator=torch.Generator().manual_seed(rank)) + 100 for rank in range(2)]
    together = torch.cat(parts).double()
    torch.testing.assert_close(mean[0].double(), together.mean(), rtol=1e-6, atol=0)
    torch.testing.assert_close(variance[0].double(), together.var(correction=0), rtol=1e-4, atol=0)
    assert torch.equal(other[1], variance)


def in_mixed_precision() -> tuple[torch.dtype, Tensor]:
    norm = BatchNorm(2)
    synchronise(norm)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = norm(torch.arange(24.0).view(2, 2, 1, 6).to(torch.bfloat16) + 24 * dist.get_rank())
    return y.dtype, y.float()


def test_mixed_precision_stays_mixed() -> None:
    results = in_ranks(2, in_mixed_precision)
    assert {dtype for dtype, _ in results} == {torch.bfloat16}
    together = torch.cat([y for _, y in results])
    torch.testing.assert_close(together.mean(dim=(0, 2, 3)), torch.zeros(2), rtol=0, atol=1e-2)
