"""Batch norm: its running statistics against their definition, batch by batch."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from samplecnn.model.norm import BatchNorm, use_keras_statistics


def batches(count: int, seed: int = 0) -> Iterator[Tensor]:
    """Maps of 5 channels whose means and variances differ between batches."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        spread, shift = torch.rand(2, 1, 5, 1, 1, dtype=torch.float64, generator=generator)
        yield torch.randn(3, 5, 1, 7, dtype=torch.float64, generator=generator) * (0.1 + spread) + 2 * shift


def statistics(x: Tensor) -> Tensor:
    """Means and biased variances, ``(2, channels)``."""
    values = x.transpose(0, 1).flatten(1)
    return torch.stack([values.mean(dim=1), values.var(dim=1, unbiased=False)])


def running(norm: BatchNorm) -> Tensor:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return torch.stack([norm.running_mean, norm.running_var])


def trained(norm: BatchNorm, maps: Iterator[Tensor]) -> list[Tensor]:
    """The running statistics after each batch."""
    norm.double().train()
    seen = []
    for x in maps:
        norm(x)
        seen.append(running(norm).clone())
    return seen


def test_running_statistics_are_the_average_of_the_first_hundred_batches() -> None:
    expected = torch.stack([statistics(x) for x in batches(100)])
    for count, ours in enumerate(trained(BatchNorm(5), batches(100)), start=1):
        torch.testing.assert_close(ours, expected[:count].mean(dim=0), rtol=0, atol=1e-13)


def test_from_the_hundredth_batch_on_they_are_those_of_keras() -> None:
    ours = trained(BatchNorm(5), batches(150))
    expected = ours[99]
    for x, got in zip(list(batches(150))[100:], ours[100:], strict=True):
        expected = 0.99 * expected + 0.01 * statistics(x)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-13)


def test_the_authors_rule_starts_at_zero_and_one() -> None:
    norm = BatchNorm(5)
    use_keras_statistics(nn.Sequential(nn.Identity(), norm))
    expected = torch.stack([torch.zeros(5), torch.ones(5)]).double()
    for x, got in zip(batches(30), trained(norm, batches(30)), strict=True):
        expected = 0.99 * expected + 0.01 * statistics(x)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-13)
    assert norm.num_batches_tracked == 0


def test_a_state_goes_on_where_it_was() -> None:
    unbroken = trained(BatchNorm(5), batches(40))[-1]
    first, second = BatchNorm(5).double(), BatchNorm(5).double()
    maps = list(batches(40))
    trained(first, iter(maps[:15]))
    second.load_state_dict(first.state_dict())
    assert torch.equal(trained(second, iter(maps[15:]))[-1], unbroken)


def test_evaluation_after_one_batch_is_that_of_the_batch() -> None:
    """What a set of a few batches needs: nothing of the initial values is left."""
    (x,) = batches(1)
    norm = BatchNorm(5).double().train()
    in_training = norm(x)
    torch.testing.assert_close(norm.eval()(x), in_training, rtol=0, atol=1e-12)


def test_batch_norm_refuses_a_single_value_per_channel() -> None:
    with pytest.raises(ValueError, match="at least 2 values per channel"):
        BatchNorm(4).train()(torch.randn(1, 4))


def test_batch_norm_can_run_twice_before_going_back() -> None:
    norm = BatchNorm(4).train()
    (norm(torch.randn(8, 4)).sum() + norm(torch.randn(8, 4)).pow(2).sum()).backward()
    assert norm.weight.grad is not None
