"""What is computed on, where the GPU that is there is of no use to this build of PyTorch."""

import argparse
from pathlib import Path

import pytest
import torch

import samplecnn
from analysis.test_excitation_command import write_run
from inference.models import checkpoint
from samplecnn import mini
from samplecnn.cli.excitation import load_run
from samplecnn.data.prepare import prepare
from samplecnn.hardware import missing_kernels, multiplies_bfloat16, usable_device
from samplecnn.runs.config import TrainerConfig
from samplecnn.training.config import ConfigError
from samplecnn.training.trainer import device_and_precision


@pytest.fixture(autouse=True)
def old_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (6, 1))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "an old GPU")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90", "compute_90"])


@pytest.mark.parametrize(
    ("capability", "usable"),
    [((6, 1), False), ((7, 0), False), ((8, 6), False), ((7, 5), True), ((12, 0), True)],
)
def test_which_gpus_a_build_has_code_for(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], usable: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert (missing_kernels() is None) == usable
    assert usable_device().type == ("cuda" if usable else "cpu")


@pytest.mark.parametrize(("instructions", "multiplies"), [("AVX512", True), ("AVX2", False)])
def test_a_cpu_that_is_held_to_fewer_instructions_has_no_bfloat16(
    monkeypatch: pytest.MonkeyPatch, instructions: str, multiplies: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: instructions)
    assert multiplies_bfloat16("cpu") == multiplies


def test_tagging_takes_the_cpu_and_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tagger = samplecnn.load(checkpoint(tmp_path / "model.ckpt"), precision="32")
    assert tagger.device.type == "cpu"
    assert "computing on the CPU: an old GPU has compute capability 6.1, and this PyTorch" in caplog.text


def test_so_do_excitations(tmp_path: Path, mini_raw: Path) -> None:
    prepare(mini.catalog(mini_raw, clips=16), tmp_path, progress=False)
    run = write_run(tmp_path / "run", tmp_path, {"name": "se", "alpha": 2})
    options = argparse.Namespace(run=run, data_root=None, block=[], network=[])
    network, _ = load_run(options)
    assert {weights.device.type for weights in network.parameters()} == {"cpu"}


def test_so_does_a_training_but_where_a_gpu_is_asked_for() -> None:
    assert device_and_precision(TrainerConfig(precision="auto"))[0].type == "cpu"
    with pytest.raises(ConfigError, match=r"trainer\.accelerator=cuda, but an old GPU has compute cap"):
        device_and_precision(TrainerConfig(precision="auto", accelerator="cuda"))
