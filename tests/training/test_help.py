"""What ``train.py --help`` and ``prepare.py --help`` say, as a user reads it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def said(script: str, *overrides: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(ROOT / script), "--help", *overrides], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("script", "overrides", "parts"),
    [
        ("train.py", [], ["width=128", "channels of the first block", "[a whole number of at least 1]"]),
        ("train.py", ["schedule=onecycle"], ["schedule.warmup=0.3", "share of the steps before the peak"]),
        ("train.py", ["block=res2", "width=3"], ["width=3", "channels of the first block"]),
        ("train.py", [], ["block=se", "or basic", "rese2"]),
        ("train.py", [], ["data.top=null", "most frequent tags"]),  # of a file that mini's builds on
        ("prepare.py", ["data=msd"], ["data.threshold=50", "a tag of Last.fm's counts where"]),
    ],
)
def test_keys_with_their_meaning(script: str, overrides: list[str], parts: list[str]) -> None:
    lines = said(script, *overrides)
    assert any(all(part in line for part in parts) for line in lines), "\n".join(lines)
