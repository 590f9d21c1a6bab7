"""An installation whose Triton cannot be imported: on a CPU nothing asks for it."""

import json
from pathlib import Path

import pytest

from e2e.conftest import TINY, World
from e2e.test_tag import noise


@pytest.fixture
def broken(world: World, tmp_path: Path) -> World:
    """A place whose Pythons find another package of that name first."""
    (tmp_path / "triton").mkdir()
    (tmp_path / "triton" / "__init__.py").write_text("raise ImportError('libcuda.so.1: no such file')")
    (tmp_path / "data").symlink_to(world.folder / "data")
    return World(tmp_path)


@pytest.mark.slow
def test_training_tagging_and_doctor_work(broken: World) -> None:
    options = [*TINY, "fast=auto", "trainer.max_epochs=1", "logger=none", "hydra.run.dir=run"]
    trained = broken.run("train.py", *broken.data, *options, fresh=True)
    assert "left out" not in trained.stdout
    assert json.loads((broken.folder / "run" / "results.json").read_text())["test"]["roc_auc"] is not None
    noise(broken.folder / "song.wav", 1)
    assert "song.wav" in broken.run("samplecnn", "tag", "song.wav", "--model", "run", fresh=True).stdout
    doctor = ["doctor", "--width", "2", "--block", "basic", "--accelerator", "cpu"]
    said = broken.run("samplecnn", *doctor, fresh=True)
    assert "Training works here." in said.stdout
    assert "not used" not in said.stdout
