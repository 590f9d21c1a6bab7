"""Tagging, and what belongs to it, needs none of the libraries that training needs."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from e2e.test_tag import noise
from inference.models import checkpoint

ROOT = Path(__file__).parents[2]
LIBRARIES = {"hydra", "lightning_fabric", "omegaconf", "pytorch_lightning", "wandb"}
WITHOUT = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {LIBRARIES}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
from samplecnn.cli import main
statuses = [main(line.split()) for line in sys.argv[1:]]
import samplecnn, samplecnn.inference.page.app
print(samplecnn.load("made.ckpt"), statuses)
"""


def run(folder: Path, *commands: str) -> subprocess.CompletedProcess[str]:
    """Run commands in one process that has no such library."""
    environment = os.environ | {"XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    command = [sys.executable, "-c", WITHOUT, *commands]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("core")
    checkpoint(folder / "made.ckpt")
    noise(folder / "song.wav", 3)
    return folder


def test_what_a_core_install_can_do(here: Path) -> None:
    commands = (
        "models",
        "tag song.wav --model made.ckpt --out tags.sqlite",
        "tag song.wav --model made.ckpt --over-time --json",
        "use made.ckpt",
        "runs .",
        "export made.ckpt bundle",
        "tag song.wav --model bundle",
    )
    said = run(here, *commands).stdout
    assert said.endswith(f"Tagger(se, 3 tags of mini, 22050 Hz, made.ckpt) {[0] * len(commands)}\n")


@pytest.mark.slow
def test_a_core_install_can_export_onnx(here: Path) -> None:
    said = run(here, "export made.ckpt all --page --half").stdout
    assert said.endswith("[0]\n")
    assert (here / "all" / "index.html").is_file()


def test_what_a_core_install_cannot_do_names_the_extra(here: Path) -> None:
    commands = ("train block=se", "prepare", "evaluate made.ckpt", "doctor")
    done = run(here, *commands)
    assert done.stdout.endswith("[1, 1, 1, 1]\n")
    for command, line in zip(commands, done.stderr.splitlines(), strict=True):
        assert line.startswith(f"samplecnn {command.split()[0]}: ")
        assert line.endswith(' is not installed: pip install "samplecnn[train]"')


def test_make_and_the_extras_bring_what_they_say() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = " ".join(project["dependencies"])
    training = " ".join(project["optional-dependencies"]["train"])
    for library in ("hydra-core", "omegaconf", "pytorch-lightning", "wandb"):
        assert library not in needed
        assert library in training
    assert "[train," in (ROOT / "Makefile").read_text()
