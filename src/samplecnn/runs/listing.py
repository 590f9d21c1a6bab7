"""What runs there are below a folder, finished or not: a line of facts each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from samplecnn.errors import UserError
from samplecnn.files import BusyError, locked
from samplecnn.runs.collect import run_folders
from samplecnn.runs.config import RunConfig, read_config
from samplecnn.runs.errors import RunError
from samplecnn.runs.folder import LOCK
from samplecnn.runs.results import RESULTS, Interval, Results, read_results
from samplecnn.runs.run import read_epochs

FINISHED, RUNNING, STOPPED, DAMAGED = "finished", "running", "stopped", "damaged"
Value = str | int | float | bool | Interval | None


@dataclass(frozen=True)
class Entry:
    """One run; None is what its folder does not say (yet)."""

    run: str  # the name of its folder
    state: str
    network: str | None = None  # the block of a SampleCNN, the name of any other
    multi: bool | None = None
    width: int | None = None
    seed: int | None = None
    data: str | None = None
    split: str | None = None
    auc: float | None = None  # ROC-AUC on the test split
    interval: Interval | None = None  # of it, where the results hold one
    epochs: int | None = None
    seconds: float | None = None  # of training
    recipe: str | None = None  # by name
    problem: str | None = None  # why it cannot be read


COLUMNS = tuple(Entry.__dataclass_fields__)


def entries(folder: Path, named: Callable[[Path], str] = str) -> Iterator[Entry]:
    """Yield the runs at or below a folder, ``named`` so; RunError where there is no such folder."""
    if not folder.is_dir():
        raise RunError(f"there is no folder {folder}")
    for run in run_folders(folder):
        try:
            yield _entry(run, named(run))
        except (RunError, OSError) as error:
            yield Entry(named(run), DAMAGED, problem=str(error))


def ordered(found: Sequence[Entry], column: str) -> list[Entry]:
    """Return runs by a column: numbers from the highest, text by the alphabet, what is not known last."""
    _check(column)
    known = [entry for entry in found if getattr(entry, column) is not None]
    numbers = not any(isinstance(getattr(entry, column), str) for entry in known)
    known.sort(key=lambda entry: getattr(entry, column), reverse=numbers)
    return known + [entry for entry in found if getattr(entry, column) is None]


def filtered(found: Sequence[Entry], column: str, value: str) -> list[Entry]:
    """Return the runs that have this value in a column, as it is written on the command line."""
    _check(column)
    return [entry for entry in found if written(getattr(entry, column)) == value]


def written(value: Value) -> str:
    """Return a value as the command line has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def find(name: Path, folder: Path) -> Path:
    """Return the run below ``folder`` whose path is this or ends like it, or the path itself without one.

    Raises UserError where several end so, and none is it.
    """
    if not folder.is_dir() or name.exists() or name.is_absolute() or ":" in str(name):
        return name
    parts = name.parts
    found = [run for run in run_folders(folder) if parts and run.parts[-len(parts) :] == parts]
    if folder / name in found:
        return folder / name
    if len(found) > 1:
        some = ", ".join(str(run) for run in found[:5])
        raise UserError(f"{len(found)} runs end in {name}: {some}{', ...' if len(found) > 5 else ''}")
    return found[0] if found else name


def _check(column: str) -> None:
    if column not in COLUMNS:
        raise UserError(f"runs have no {column}; there are {', '.join(COLUMNS)}")


def _entry(run: Path, name: str) -> Entry:
    if (run / RESULTS).is_file():
        found: Results | RunConfig = (results := read_results(run))
        network, data, split = results.block or results.model, results.data, results.split
        state, epochs, seconds, test = FINISHED, results.epochs, results.train_seconds, results.test
    else:
        found = config = read_config(run)
        network, data, split = (config.block or config.model)["name"], config.data.name, config.data.split
        rows = read_epochs(run)
        state, epochs, test = RUNNING if _is_running(run) else STOPPED, len(rows), None
        seconds = sum(row["seconds"] for row in rows)
    return Entry(
        run=name,
        state=state,
        network=network,
        multi=found.multi,
        width=found.width,
        seed=found.seed,
        data=data,
        split=split,
        auc=None if test is None else test.roc_auc,
        interval=None if test is None else test.roc_auc_interval,
        epochs=epochs,
        seconds=seconds,
        recipe=found.recipe,
    )


def _is_running(run: Path) -> bool:
    if not (run / LOCK).is_file():
        return False
    try:
        with locked(run / LOCK):
            return False
    except BusyError:
        return True
    except (UserError, OSError):  # a file system without locks, or one that may only be read
        return False
