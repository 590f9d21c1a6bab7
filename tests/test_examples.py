"""The notebook, run from top to bottom in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from inference.models import model
from samplecnn.inference.bundle import write_bundle

NOTEBOOK = Path(__file__).parents[1] / "examples" / "first_steps.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]


def test_the_notebook_is_stripped() -> None:
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert len(code) > 5
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in CELLS}) == len(CELLS)


def lines() -> list[str]:
    """Return the lines of all cells of code."""
    return [
        line.rstrip("\n") for cell in CELLS if cell["cell_type"] == "code" for line in [*cell["source"], ""]
    ]


def as_python(line: str) -> str:
    """Write a line of a notebook in Python, commands included."""
    if line.startswith("!samplecnn ") and not line.startswith("!samplecnn pull "):
        return f"__import__('subprocess').run([{sys.executable!r}, '-m', *f{line[1:]!r}.split()], check=True)"
    return "" if line[:1] in ("%", "!") else line


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    """All but what installs and fetches; a bundle lies in the folder by the name of the model."""
    made = model(tmp_path, sample_rate=16000)
    write_bundle(made, tmp_path / "mtat-musicnn", source="made by a test")
    program = "\n".join(map(as_python, lines()))
    (tmp_path / "cells.py").write_text(f"import matplotlib\nmatplotlib.use('agg')\n{program}")
    done = subprocess.run(
        [sys.executable, "cells.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert all(tag in done.stdout for tag in made.tags)
    assert "numbers; chord and chord" in done.stdout
    assert "head_fc2.bias, for " in done.stdout  # a new last layer
    assert (tmp_path / "runs" / "tuned" / "results.json").is_file()
