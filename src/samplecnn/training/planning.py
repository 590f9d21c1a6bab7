"""What a multirun will train: its cells, each composed and checked before the first starts.

A cell is one job of a multirun and has a folder of its own in the sweep's.
"""

import copy
import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from samplecnn.errors import UserError
from samplecnn.runs import sweep_plan
from samplecnn.runs.rules import flat
from samplecnn.training.config import ConfigError, started, typed, validate
from samplecnn.training.launch import launched


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


def plan(config: DictConfig, locate: Callable[[str], Path] = Path) -> list[Cell]:
    """Return all cells of a multirun.

    ``config`` is Hydra's, of the whole sweep; ``locate`` is as in ``started``. Raises ConfigError for a sweep
    whose cells are not known before it starts, and for a cell that cannot be composed or that asks for
    something impossible, that would share its folder with another, or whose folder holds a run of another
    configuration.
    """
    planned: dict[Path, Cell] = {}
    for cell, plain in compose_cells(config, locate):
        if (other := planned.get(cell.folder)) is not None:
            raise ConfigError(
                f"two cells would have one folder, {cell.folder}:\n{other}\n{cell}\n"
                "Put what differs into its name, hydra.sweep.subdir, or make a sweep of each"
            )
        if plain["resume"] is not None:
            raise ConfigError(
                f"{cell}\nA run goes on in its own folder, and the cells of a multirun have others: "
                "resume one run at a time, without -m, or run the same multirun again"
            )
        if different := differences(cell.folder, plain):
            raise ConfigError(
                f"{cell.folder} holds a run of another configuration: {'; '.join(different)}.\n"
                "Choose another folder for it: hydra.sweep.dir=runs/NAME"
            )
        planned[cell.folder] = cell
    return list(planned.values())


def compose_cells(
    config: DictConfig, locate: Callable[[str], Path] = Path
) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Yield the cells of a multirun with their plain configurations; ConfigError for one that has none."""
    for number, overrides in enumerate(grid(config)):
        try:
            composed = GlobalHydra.instance().config_loader().load_sweep_config(config, overrides)
            with open_dict(composed):  # as the launchers do
                composed.hydra.job.id = composed.hydra.job.num = number
            HydraConfig.instance().set_config(composed)
            cell = Cell(Path(composed.hydra.sweep.dir), str(composed.hydra.sweep.subdir), overrides)
            plain = validate(without_hydra(composed), overrides)
            require_whole(plain)
            plain = started(with_devices(plain, composed.hydra.launcher), overrides, locate)
        except (HydraException, OmegaConfBaseException, UserError) as error:
            raise ConfigError(f"{' '.join(overrides)}\n{error}") from error
        finally:
            HydraConfig.instance().set_config(config)
        yield cell, plain


def require_whole(plain: dict[str, Any]) -> None:
    """Raise RunError for a configuration with keys taken out (``~seed``), which its job would refuse."""
    from samplecnn.runs.config import RunConfig  # only now: it loads PyTorch

    RunConfig.read(plain, "the configuration")


def with_devices(plain: dict[str, Any], launcher: Any) -> dict[str, Any]:
    """Return a cell's plain configuration with the devices that the launcher starts its processes for.

    Raises ConfigError where it would start one, and the cell asks for several.
    """
    if launched() is not None:
        raise ConfigError("a multirun starts its own jobs: run it without torchrun and srun")
    trainer = plain["trainer"]
    wanted = trainer["devices"], trainer["num_nodes"]
    slurm = str(launcher._target_).endswith("SlurmLauncher")
    given = (launcher.tasks_per_node, launcher.nodes) if slurm else (1, 1)
    if wanted not in ((1, 1), given):
        raise ConfigError(
            f"trainer.devices={wanted[0]} trainer.num_nodes={wanted[1]}: a job of a multirun has one device. "
            "SLURM starts jobs of more, with hydra/launcher=slurm hydra.launcher.tasks_per_node=2 "
            "hydra.launcher.gpus_per_node=2; without it, train one network at a time, without -m"
        )
    return {**plain, "trainer": {**trainer, "devices": given[0], "num_nodes": given[1]}}


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
    from samplecnn.runs.config import identity, read_config  # only now: it loads PyTorch
    from samplecnn.runs.folder import LAST

    if not any((folder / name).is_file() for name in (LAST, "results.json")):
        return []  # it stopped before its first epoch had ended
    there, here = (
        {
            key: json.dumps(value) for key, value in flat(identity(plain))
        }  # as the configuration's hash sees them
        for plain in (read_config(folder).plain, config)
    )
    return [
        f"{key}={there.get(key, 'nothing')} there, {here.get(key, 'nothing')} here"
        for key in {**there, **here}
        if there.get(key) != here.get(key)
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


def write_plan(planned: Sequence[Cell]) -> None:
    """Write cells into the folders of their sweeps, beside what has been planned there before."""
    for sweep in dict.fromkeys(cell.sweep for cell in planned):
        sweep_plan.add(sweep, {cell.name: cell.overrides for cell in planned if cell.sweep == sweep})
