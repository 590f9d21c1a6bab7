"""The choice of a backend: measured once, remembered, without a trace in network and random numbers."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samplecnn.model.blocks import Basic
from samplecnn.model.network import SampleCNN, backends
from samplecnn.training.backends import Plan, choose, measure, memory_file

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "samplecnn" / "backends.json"


def network() -> SampleCNN:
    torch.manual_seed(0)
    return SampleCNN(Basic, tags=3, width=2)


def chosen(fast: bool | str, width: int = 2, **options: Any) -> Plan:
    description = {"block": {"name": "basic"}, "multi": True, "width": width, "tags": ["a", "b", "c"]}
    settings = {"device": CPU, "precision": "32-true", "batch_size": 2, **options}
    return choose(network(), fast=fast, description=description, **settings)


def test_fast_false_is_the_plain_path(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert chosen(False) == Plan("plain")
    assert "plain (fast=false)" in caplog.text


def test_fast_true_measures_nothing(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert chosen(True) == Plan("stem")
    assert "computing on backend: stem (fast=true" in caplog.text
    assert not cache.exists()


def test_auto_measures_once_for_each_network(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    first = chosen("auto")
    assert first.backend in backends("cpu")
    assert "measured now: plain" in caplog.text
    assert cache == memory_file()
    caplog.clear()
    assert chosen("auto") == first
    assert "when it was measured on this machine" in caplog.text
    caplog.clear()
    chosen("auto", width=3)
    assert "measured now" in caplog.text
    caplog.clear()
    chosen("auto", precision="bf16-mixed")
    assert "measured now" in caplog.text


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}', "null"])
def test_a_damaged_memory_is_written_anew(cache: Path, content: str) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text(content)
    plan = chosen("auto")
    assert f'"{plan.backend}"' in cache.read_text()


def test_a_memory_that_cannot_be_written_is_no_error(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    cache.parent.parent.write_text("a file where the folder should be")
    assert chosen("auto").backend in backends("cpu")
    assert "cannot be kept" in caplog.text


def test_measuring_leaves_no_trace() -> None:
    made = network()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    random = torch.get_rng_state()
    rates = measure(
        made, [Plan(backend) for backend in backends("cpu")], device=CPU, precision="32-true", batch_size=2
    )
    assert rates.keys() == {Plan(backend) for backend in backends("cpu")}
    assert all(rate > 0 for rate in rates.values())
    assert torch.equal(torch.get_rng_state(), random)
    assert made.backend == "plain"
    for name, value in made.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in made.parameters())


class OnlyContiguous(nn.Module):
    """Works on what the plain stem gives alone, as far as this test can tell the stems apart."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.inner = Basic(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        if x.grad_fn is not None and "Permute" in x.grad_fn.name():
            raise RuntimeError("cannot work on this")
        return self.inner(x)


def test_a_path_that_fails_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    made = SampleCNN(OnlyContiguous, tags=3, width=2)
    plans = [Plan("plain"), Plan("stem")]
    rates = measure(made, plans, device=CPU, precision="32-true", batch_size=2)
    assert list(rates) == [Plan("plain")]
    assert "backend stem does not work here (cannot work on this): left out" in caplog.text
