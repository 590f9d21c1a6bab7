"""``samplecnn doctor`` as a user has it."""

import json

import pytest
import torch

from samplecnn.cli import main
from samplecnn.model.network import backends
from samplecnn.training import trials

SMALL = ["doctor", "--width", "2", "--block", "basic", "--batch-size", "2"]


def test_it_says_what_each_backend_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--json", "--accelerator", "cpu"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["works"] is True
    assert found["machine"]["torch"] == torch.__version__.partition("+")[0]
    assert [row["backend"] for row in found["backends"]] == list(backends("cpu"))
    assert all(row["failure"] is None and row["segments_per_second"] > 0 for row in found["backends"])


def test_it_fails_where_training_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "START", 0.01)
    assert main([*SMALL, "--accelerator", "cpu"]) == 1
    said = capsys.readouterr().out
    assert said.count("not used: takes more than") == len(backends("cpu"))
    assert said.rstrip().endswith("Training does not work here.")


def test_an_unknown_block_ends_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--block", "resnet"]) == 1
    assert "unknown block 'resnet'; known are basic, se" in capsys.readouterr().err
