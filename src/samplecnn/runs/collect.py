"""All finished runs below some folders: what a report is made of."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from samplecnn.overrides import command
from samplecnn.runs.config import CONFIG
from samplecnn.runs.errors import RunError
from samplecnn.runs.results import RESULTS
from samplecnn.runs.run import Run, read_run
from samplecnn.runs.sweep_plan import CELL, CELLS, read_plan
from samplecnn.text import printable


@dataclass(frozen=True)
class LeftOut:
    """A folder that is not in the report, and why."""

    name: str  # the folder, relative to the folder above all
    reason: str


@dataclass
class Collected:
    """What was found below some folders."""

    runs: list[Run] = field(default_factory=list)
    unfinished: list[LeftOut] = field(default_factory=list)  # without results
    left_out: list[LeftOut] = field(default_factory=list)  # damaged, of another version, or doubles


def collect(paths: Sequence[str | Path]) -> Collected:
    """Read all runs at or below ``paths``: run folders, sweeps, or folders above these.

    Of several runs with one configuration and seed the newest is taken. Raises RunError for a path that does
    not exist, and for one without any run that can be used, with what is wrong with each.
    """
    roots = [Path(path).resolve() for path in paths]
    for root in roots:
        if not root.is_dir():
            if root.exists():
                raise RunError(f"{root} is a file: name a run folder, or a folder above some")
            raise RunError(f"there is no folder {root}")
    folders = {root: run_folders(root) for root in roots}
    for root, below in folders.items():
        if not below:
            raise RunError(f"{root} holds no run: no folder in it has {RESULTS} or {CONFIG}")
    base = Path(os.path.commonpath([folder.parent for below in folders.values() for folder in below])).parent
    found = Collected()
    seen: set[Path] = set()
    for root, below in folders.items():
        problems = _read_all([folder for folder in below if folder not in seen], base, found)
        if len(problems) == len(below):
            raise RunError(f"{root} holds no finished run that can be used:\n  " + "\n  ".join(problems))
        seen.update(below)
    for sweep in sorted({folder.parent for folder in seen if (folder.parent / CELLS).is_file()}):
        if any(sweep.is_relative_to(root) for root in roots):  # not where single runs of it are named
            found.unfinished += [
                LeftOut(printable(os.path.relpath(sweep / name, base)), f"{cell}: not started")
                for name, cell in _planned(sweep).items()
                if not (sweep / name).exists()
            ]
    _keep_newest(found)
    return found


def run_folders(root: Path) -> list[Path]:
    """Return the run folders at or below ``root``, finished or not; what lies inside of one is its own.

    They are in the order of their names, jobs of a sweep in that of their numbers.
    """
    found = []
    for here, folders, files in os.walk(root):
        if {CONFIG, RESULTS, CELL} & set(files):
            folders.clear()
            found.append(Path(here))
    return sorted(found, key=_by_number)


def _by_number(folder: Path) -> tuple[str, int, str]:
    name = folder.name
    return str(folder.parent), int(name) if name.isdecimal() else -1, name


def _read_all(folders: Sequence[Path], base: Path, found: Collected) -> list[str]:
    """Add the runs in ``folders`` to what was found; return what is wrong with the others."""
    problems = []
    for folder in folders:
        name = printable(os.path.relpath(folder, base))
        try:
            found.runs.append(read_run(folder, name))
        except (RunError, OSError) as error:
            reason = str(error).replace(f"{folder}{os.sep}", "").replace(f"{folder} has", "it has")
            problems.append(f"{folder}: {reason}")
            if (folder / RESULTS).is_file():
                reason = reason.replace(str(folder), name)
                found.left_out.append(LeftOut(name, reason))
            else:
                cell = _planned(folder.parent).get(folder.name)
                reason = f"has not finished ({command('train')} resume=FOLDER goes on with it)"
                found.unfinished.append(LeftOut(name, f"{cell}: {reason}" if cell else reason))
    return problems


def _planned(sweep: Path) -> dict[str, str]:
    """Return what makes each job of a sweep, by its folder in it; empty for a folder that is no sweep."""
    return {name: printable(" ".join(overrides)) for name, overrides in read_plan(sweep).items()}


def _keep_newest(found: Collected) -> None:
    """Of runs of one configuration, the seed included, keep the one whose results were written last."""
    kept: list[Run] = []
    for run in sorted(found.runs, key=lambda run: (run.path / RESULTS).stat().st_mtime, reverse=True):
        newer = next((k for k in kept if k.identity == run.identity), None)
        if newer is None:
            kept.append(run)
        else:
            reason = f"has the configuration and seed of {newer.name}, which is newer"
            found.left_out.append(LeftOut(run.name, reason))
    found.runs = [run for run in found.runs if run in kept]
