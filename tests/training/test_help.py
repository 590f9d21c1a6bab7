"""What ``--help`` of ``samplecnn train`` and ``prepare`` says, and of a checkout's scripts."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@cache
def said(script: str, *overrides: str, folder: Path | None = None) -> list[str]:
    command = [str(ROOT / script)] if script.endswith(".py") else ["-m", "samplecnn", script]
    done = subprocess.run(
        [sys.executable, *command, "--help", *overrides],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("script", "overrides", "parts"),
    [
        ("train.py", [], ["width=128", "channels of the first block", "[a whole number of at least 1]"]),
        ("train.py", ["schedule=onecycle"], ["schedule.warmup=0.3", "share of the steps before the peak"]),
        ("train.py", ["data.root=/music/$mine"], ["data.root=/music/$mine"]),
        ("train.py", ["block=res2", "width=3"], ["width=3", "channels of the first block"]),
        ("train.py", [], ["block=se", "or basic", "rese2"]),
        ("train.py", [], ["data.top=null", "most frequent tags"]),  # of a file that mini's builds on
        ("prepare.py", ["data=msd"], ["data.threshold=50", "a tag of Last.fm's counts where"]),
    ],
)
def test_keys_with_their_meaning(script: str, overrides: list[str], parts: list[str]) -> None:
    lines = said(script, *overrides)
    assert any(all(part in line for part in parts) for line in lines), "\n".join(lines)


@pytest.mark.parametrize("name", ["train", "prepare"])
def test_the_command_says_what_the_script_says(name: str, tmp_path: Path) -> None:
    """From any folder."""
    assert said(name, folder=tmp_path) == said(f"{name}.py")
    assert list(tmp_path.iterdir()) == []
