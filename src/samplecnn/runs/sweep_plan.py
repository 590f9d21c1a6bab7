"""What a multirun planned, as it lies in its folders: untrusted input.

SWEEP/cells.json       the overrides of every job ever planned there, by its folder
SWEEP/JOB/cell.json    the overrides that make a job, and the name of its sweep
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from samplecnn.files import write
from samplecnn.runs.errors import RunError
from samplecnn.runs.untrusted import read_json

CELL, CELLS = "cell.json", "cells.json"


def read_plan(sweep: Path) -> dict[str, list[str]]:
    """Return the overrides of all jobs ever planned in a sweep's folder, by their folders in it.

    Empty where there is no such file, or not a good one; without entries that do not lie in the folder.
    """
    planned = _read(sweep / CELLS)
    return {
        name: [str(override) for override in overrides]
        for name, overrides in planned.items()
        if isinstance(overrides, list) and not Path(name).is_absolute() and ".." not in Path(name).parts
    }


def add(sweep: Path, jobs: Mapping[str, Sequence[str]]) -> None:
    """Write down jobs, by their folders in the sweep's, beside what has been planned there before."""
    sweep.mkdir(parents=True, exist_ok=True)
    new = {name: list(overrides) for name, overrides in jobs.items()}
    write(sweep / CELLS, json.dumps({**read_plan(sweep), **new}, indent=1) + "\n")


def sweep_of(folder: Path) -> str | None:
    """Return the name of the sweep that the folder of a job says it is of."""
    sweep = _read(folder / CELL).get("sweep")
    return sweep if isinstance(sweep, str) else None


def write_job(folder: Path, overrides: Sequence[str], sweep: str) -> None:
    """Write down what makes the job of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / CELL, json.dumps({"overrides": list(overrides), "sweep": sweep}, indent=1) + "\n")


def _read(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds; an empty one where there is none."""
    try:
        found = read_json(path)
    except (OSError, RunError):
        return {}
    return found if isinstance(found, dict) else {}
