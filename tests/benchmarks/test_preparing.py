"""The benchmark of preparing runs to its end, and writes its table beside its figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PREPARE = Path(__file__).parents[2] / "benchmarks" / "prepare.py"


@pytest.mark.slow
def test_preparing(tmp_path: Path) -> None:
    options = ["--clips", "8", "--workers", "2", "--repeat", "1", "--json", str(tmp_path / "prepare.json")]
    done = subprocess.run([sys.executable, str(PREPARE), *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    results = json.loads((tmp_path / "prepare.json").read_text())
    assert (results["clips"], results["repeat"]) == (8, 1)
    assert {"cpu", "cores", "load", "torch", "soundfile"} < results["hardware"].keys()
    assert results["end_to_end"].keys() == {"1", "2"}
    table = (tmp_path / "prepare.md").read_text()
    assert table in done.stdout
    for row in ("plain reference", "decoding alone, one core", "into the store, 2 workers"):
        assert f"| {row} | " in table
