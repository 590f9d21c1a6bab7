"""Multiruns: every cell checked before the first starts, and a table of all at the end.

A cell is one job of a multirun and has a folder of its own in the sweep's. Where these folders are named by
what makes the cells, as those of ``conf/experiment/`` are, a sweep can be run again: what has finished is
shown, what was interrupted goes on, and the rest is trained. What cannot be planned is not trained.
"""

import copy
import importlib.util
import json
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from samplecnn.errors import UserError
from samplecnn.files import remove_empty
from samplecnn.runs import sweep_plan
from samplecnn.runs.rules import flat
from samplecnn.runs.sweep_plan import CELL, read_plan
from samplecnn.training.config import ConfigError, describe, typed, validate


@dataclass(frozen=True)
class Cell:
    """A job of a multirun."""

    sweep: Path
    name: str  # its folder in the sweep's
    overrides: Sequence[str]

    @property
    def folder(self) -> Path:
        """Where it is trained."""
        return self.sweep / self.name

    def __str__(self) -> str:
        return " ".join(self.overrides)


class SweepGuard(Callback):
    """Refuses a multirun with an impossible cell before any is trained, and remembers what was planned."""

    folder: ClassVar[Path | None] = None  # of the sweep
    planned: ClassVar[list[Cell]] = []

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse an impossible run before it has a folder, and give every other one that is its own."""
        try:
            validate(without_hydra(config))
            own_folder(config, "run")
        except (UserError, OSError) as error:
            sys.exit(str(error))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Compose and validate every cell; exit with what is wrong with which, and leave no folder then."""
        made = None
        try:
            require_launcher(config)
            made = own_folder(config, "sweep")
            planned = plan(config)
            write_plan(planned)
        except Exception as error:  # Hydra would make a warning of it, and train
            if made is not None:
                remove_empty(made)
            if isinstance(error, UserError | OSError):
                sys.exit(str(error))
            traceback.print_exc()
            sys.exit("this sweep cannot be planned, so nothing of it is trained")
        SweepGuard.folder, SweepGuard.planned = Path(config.hydra.sweep.dir), planned

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Write down what makes this cell."""
        if config.hydra.mode is not None and config.hydra.mode.name == "MULTIRUN":
            sweep = Path(config.hydra.sweep.dir)
            overrides = typed(config.hydra)
            sweep_plan.write_job(sweep / config.hydra.sweep.subdir, overrides, sweep.name)


def own_folder(config: DictConfig, kind: str) -> Path | None:
    """Make the folder that is named by the time, with a number behind if another process has it; return it.

    ``kind`` is ``run`` or ``sweep``. A folder that the user names may be there already: None.
    """
    node = config.hydra[kind]
    if "${now:" not in str(node._get_node("dir")._value()) or config.get("resume") is not None:
        return None
    wanted = Path(node.dir)
    for number in count(1):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        break
    with open_dict(config):
        node.dir = str(folder)
    return folder


def require_launcher(config: DictConfig) -> None:
    """Raise ConfigError with what to install where Hydra's launcher of jobs is not there."""
    module = str(config.hydra.launcher._target_).rpartition(".")[0]
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        choice = config.hydra.runtime.choices["hydra/launcher"]
        raise ConfigError(f'hydra/launcher={choice} is not installed: pip install "samplecnn[launchers]"')


def plan(config: DictConfig) -> list[Cell]:
    """Return all cells of a multirun.

    ``config`` is Hydra's, of the whole sweep. Raises ConfigError for a sweep whose cells are not known before
    it starts, and for a cell that cannot be composed or that asks for something impossible, that would share
    its folder with another, or whose folder holds a run of another configuration.
    """
    planned: dict[Path, Cell] = {}
    for cell, plain in compose_cells(config):
        if (other := planned.get(cell.folder)) is not None:
            raise ConfigError(
                f"two cells would have one folder, {cell.folder}:\n{other}\n{cell}\n"
                "Put what differs into its name, hydra.sweep.subdir, or make a sweep of each"
            )
        if plain["resume"] is None and (different := differences(cell.folder, plain)):
            raise ConfigError(
                f"{cell.folder} holds a run of another configuration: {'; '.join(different)}.\n"
                "Choose another folder for it: hydra.sweep.dir=runs/NAME"
            )
        planned[cell.folder] = cell
    return list(planned.values())


def compose_cells(config: DictConfig) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Yield the cells of a multirun with their plain configurations; ConfigError for one that has none."""
    for number, overrides in enumerate(grid(config)):
        try:
            composed = _compose(config, number, overrides)
        except (HydraException, OmegaConfBaseException, ConfigError) as error:
            raise ConfigError(f"{' '.join(overrides)}\n{error}") from error
        yield composed


def _compose(config: DictConfig, number: int, overrides: list[str]) -> tuple[Cell, dict[str, Any]]:
    """Compose one cell as the launchers do."""
    composed = GlobalHydra.instance().config_loader().load_sweep_config(config, overrides)
    with open_dict(composed):
        composed.hydra.job.id = composed.hydra.job.num = number
    try:
        HydraConfig.instance().set_config(composed)
        cell = Cell(Path(composed.hydra.sweep.dir), str(composed.hydra.sweep.subdir), overrides)
    finally:
        HydraConfig.instance().set_config(config)
    return cell, validate(without_hydra(composed))


def without_hydra(config: DictConfig) -> DictConfig:
    """Return a copy of the configuration that a job sees."""
    plain = copy.deepcopy(config)
    with open_dict(plain):
        del plain["hydra"]
    return plain


def grid(config: DictConfig) -> list[list[str]]:
    """Return the overrides of all cells: of an experiment's own grid and the command line's.

    Raises ConfigError for a sweeper that chooses as it goes, and for a grid that is empty or unclear.
    """
    sweeper = config.hydra.sweeper
    if not sweeper._target_.endswith("BasicSweeper"):
        raise ConfigError(
            f"hydra/sweeper={config.hydra.runtime.choices['hydra/sweeper']} chooses as it goes, so that "
            "nothing can be checked before: use Hydra's own sweeper, or a sweep of Weights & Biases"
        )
    overrides = [f"{k}={v}" for k, v in (sweeper.params or {}).items()] + typed(config.hydra)
    try:
        planned = cells(overrides)
    except HydraException as error:
        raise ConfigError(f"{' '.join(overrides)}\n{error}") from error
    if not planned:
        raise ConfigError(f"{' '.join(overrides)}\nThis grid has no cell: something in it matches nothing")
    return planned


def differences(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """Say in what a configuration differs from that of the run in a folder; nothing where there is no run."""
    if not (folder / "config.yaml").is_file():
        return []
    from samplecnn.runs.config import NOT_IDENTITY, read_config  # only now: it loads PyTorch
    from samplecnn.runs.folder import LAST

    if not any((folder / name).is_file() for name in (LAST, "results.json")):
        return []  # it stopped before its first epoch had ended
    there, here = (
        {key: json.dumps(value) for key, value in flat(plain)}  # as the configuration's hash sees them
        for plain in (read_config(folder).plain, config)
    )
    return [
        f"{key}={there.get(key, 'nothing')} there, {here.get(key, 'nothing')} here"
        for key in {**there, **here}
        if not any(key == name or key.startswith(f"{name}.") for name in NOT_IDENTITY)
        and there.get(key) != here.get(key)
    ]


def cells(overrides: Sequence[str]) -> list[list[str]]:
    """Return the override lists of all jobs of a multirun, as Hydra's own sweeper orders them.

    Hydra has to be initialised: it knows what ``glob(*)`` finds. Raises ConfigError for a random order, which
    would be another one when Hydra starts the jobs, and HydraException for what Hydra cannot read.
    """
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    parsed = parser.parse_overrides(list(overrides))
    for override in parsed:
        if getattr(override.value(), "shuffle", False):
            raise ConfigError(
                f"{override.input_line}: a sweep is planned in its order, leave out the shuffling"
            )
    batches: list[list[list[str]]] = BasicSweeper.split_arguments(parsed, None)
    return [cell for batch in batches for cell in batch]


def varying(overrides: Sequence[str], others: Sequence[Sequence[str]]) -> list[str]:
    """Return those overrides of a cell that are not the same in all cells."""
    same = set.intersection(*map(set, others)) if len(others) > 1 else set()
    return [override for override in overrides if override not in same]


def title(settings: HydraConf) -> str:
    """Name a job of a multirun: by its folder, or by what varies in the sweep where folders are numbered.

    Raises ConfigError for a job that was not planned, and so not checked.
    """
    folder, sweep = str(settings.sweep.subdir), Path(settings.sweep.dir)
    planned = read_plan(sweep)
    if folder not in planned:
        raise ConfigError(f"{sweep / folder} was not planned: hydra.callbacks.sweep has to be what it is")
    if not folder.isdecimal():
        return folder
    return describe(varying(typed(settings), list(planned.values())))


def write_plan(planned: Sequence[Cell]) -> None:
    """Write cells into the folders of their sweeps, beside what has been planned there before."""
    for sweep in dict.fromkeys(cell.sweep for cell in planned):
        sweep_plan.add(sweep, {cell.name: cell.overrides for cell in planned if cell.sweep == sweep})


def print_table(listed: Sequence[Cell]) -> bool:
    """Print what each cell of a multirun came to; return whether all have finished."""
    table = Table("cell", "test ROC-AUC", "test PR-AUC", "parameters", "train")
    table.add_column("folder", overflow="fold")  # whole, to be copied
    finished = True
    for cell in listed:
        name = " ".join(varying(cell.overrides, [other.overrides for other in listed])) or "(defaults)"
        results = _read(cell.folder / "results.json")
        if results is None:
            finished = False
            status = "not finished" if (cell.folder / CELL).is_file() else "not started"
            table.add_row(name, status, "", "", "", str(cell.folder))
            continue
        test = results["test"]
        table.add_row(
            name,
            _score(test["roc_auc"]),
            _score(test["pr_auc"]),
            f"{results['parameters']:,}",
            f"{results['train_seconds']:.0f} s",
            str(cell.folder),
        )
    # Names are the user's: `runs/[old]` is no markup.
    Console(width=None if sys.stdout.isatty() else 200, markup=False, emoji=False, highlight=False).print(
        table
    )
    return finished


def _score(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _read(path: Path) -> Any:
    """Return what a JSON file holds; None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
