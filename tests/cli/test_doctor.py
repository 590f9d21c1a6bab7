"""``samplecnn doctor`` as a user has it."""

import json
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from samplecnn.cli import main
from samplecnn.model.network import backends
from samplecnn.training.backends import trials
from samplecnn.training.backends.doctor import flop_rate

SMALL = ["doctor", "--width", "2", "--block", "basic", "--batch-size", "2"]


def test_it_says_what_each_backend_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--json", "--accelerator", "cpu", "--precision", "32"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["works"] is True
    assert found["machine"]["torch"] == torch.__version__.partition("+")[0]
    assert found["network"] == {"block": "basic", "width": 2, "batch_size": 4, "precision": "32-true"}
    assert [row["backend"] for row in found["backends"]] == list(backends("cpu"))
    assert all(row["failure"] is None and row["segments_per_second"] > 0 for row in found["backends"])
    for row in found["backends"]:
        limit = row["segments_per_second"] / found["limit_segments_per_second"]
        assert row["of_limit"] == pytest.approx(limit)


def test_it_fails_where_training_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "START", 0.01)
    assert main([*SMALL, "--accelerator", "cpu"]) == 1
    said = capsys.readouterr().out
    assert said.count("not used: takes more than") == len(backends("cpu"))
    assert said.rstrip().endswith("Training does not work here.")


def test_a_block_of_one_s_own(capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--block", "mine=training.backends.faulty.Faulty", "--accelerator", "cpu", "--precision", "32"]
    assert main([*SMALL, *own]) == 0  # the others work
    said = capsys.readouterr().out
    assert "Training steps of block mine, width 2, batch_size 4" in said
    assert said.count("not used: FileNotFoundError: no C compiler") == 2
    assert "Training works here." in said


def test_a_batch_of_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*SMALL, "--batch-size", "1"])
    assert "'1' is not a whole number of at least 2" in capsys.readouterr().err


class Convolutions(TorchDispatchMode):
    """Notes at each whether cuDNN times its algorithms."""

    def __init__(self) -> None:
        super().__init__()
        self.timed: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            self.timed.append(torch.backends.cudnn.benchmark)
        return func(*args, **(kwargs or {}))


def test_the_limit_is_of_the_algorithm_that_trainings_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU that PyTorch makes believe is there: nothing is computed."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    with FakeTensorMode(), Convolutions() as convolutions:
        flop_rate(2, torch.device("cuda"), "32-true")
    assert len(convolutions.timed) > 1
    assert all(convolutions.timed)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_by_the_option_s_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--accelerator", "cuda"]) == 1
    said = capsys.readouterr().err
    assert "--accelerator cuda, but PyTorch sees no CUDA device: use cpu or auto" in said
    assert "trainer." not in said


def test_an_unknown_block_ends_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--block", "resnet"]) == 1
    assert "unknown block 'resnet'; known are basic, se" in capsys.readouterr().err
