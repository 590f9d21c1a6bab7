"""``samplecnn train``, or ``python train.py`` in a checkout: one network, or a grid of them.

Hydra composes the configuration out of ``samplecnn/conf`` and starts the jobs; what each does is `job.py`.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from samplecnn.cli.report import aucs, print_rows
from samplecnn.errors import UserError
from samplecnn.overrides import override
from samplecnn.processes import ctrl_c_waits
from samplecnn.runs.errors import RunError
from samplecnn.runs.results import RESULTS, read_results
from samplecnn.runs.sweep_plan import CELL
from samplecnn.text import lines
from samplecnn.training import config as configuration
from samplecnn.training.launch import rank
from samplecnn.training.planning import Cell
from samplecnn.training.sweep import SweepGuard, title, varying

log = logging.getLogger(__name__)


def located(model: str) -> Path:
    """Return where a model is that ``init`` names."""
    from samplecnn.inference.locate import local  # only now: it loads PyTorch

    return local(model)


@hydra.main(version_base="1.3", config_path=str(configuration.CONF), config_name="train")
def train_jobs(config: DictConfig) -> None:
    """Run one job."""
    settings = HydraConfig.get()
    overrides = configuration.typed(settings)
    sweep = settings.mode == RunMode.MULTIRUN
    try:
        plain = configuration.started(configuration.validate(config, overrides), overrides, located)
        # A resumed run has the name that it had.
        name = cell = None
        if plain["resume"] is None:
            name, cell = title(settings) if sweep else (configuration.describe(overrides), None)
            name = name.replace("${", "{")  # the run's file holds no interpolation

        with ctrl_c_waits():  # after the checks: these load PyTorch
            from samplecnn.training.job import train
            from samplecnn.training.resume import resumed

        if plain["resume"] is not None:
            plain = resumed(plain, overrides)
        logger = plain.get("logger", {})
        if "run_name" in logger:
            logger["run_name"] = name = logger["run_name"] or name
            if sweep:
                logger["group"] = logger.get("group") or Path(settings.sweep.dir).name.replace("${", "{")
        if cell is not None:
            log.info("%s: %s", cell, name)
        results = train(plain, Path(settings.runtime.output_dir), cell)
    except (UserError, OSError) as error:
        if sweep:
            raise  # Hydra goes on with the next job and fails at the end
        sys.exit((f"rank {rank()}: " if rank() else "") + lines(error))
    except KeyboardInterrupt:
        from samplecnn.training.job import discard

        if rank() == 0 and discard(Path(settings.runtime.output_dir)):
            print("stopped before the training: nothing is saved", flush=True)
        raise
    if rank() > 0:
        return
    print(f"test ROC-AUC {aucs(results.test)[0]}; everything is in {settings.runtime.output_dir}")


def print_cells(planned: Sequence[Cell]) -> bool:
    """Print what each cell of a multirun came to; return whether all have finished."""
    rows, finished = [], True
    for cell in planned:
        name = " ".join(varying(cell.overrides, [other.overrides for other in planned])) or "(defaults)"
        try:
            results = read_results(cell.folder)
        except RunError:
            finished = False
            begun = "not finished" if (cell.folder / CELL).is_file() else "not started"
            damaged = (cell.folder / RESULTS).is_file()
            row = ["its results cannot be read" if damaged else begun, "", "", ""]
        else:
            row = [*aucs(results.test), f"{results.parameters:,}", f"{results.train_seconds:.0f} s"]
        rows.append([name, *row, str(cell.folder)])
    print_rows(["cell", "test ROC-AUC", "test PR-AUC", "parameters", "train", "folder"], rows, left=(0, 1, 5))
    return finished


def main() -> int | str | None:
    """Train what the command line asks for; return the exit status, or a message in its place."""
    if wrong := configuration.without_choice(sys.argv[1:]):
        return wrong
    configuration.register()
    SweepGuard.locate = located
    status: int | str | None = 0
    try:
        train_jobs()
    except SystemExit as stop:
        status = stop.code
        if status not in (None, 0, 130) and rank() == 0:
            configuration.print_hint("train")
    except KeyboardInterrupt:
        status = 130
    finally:
        folder = SweepGuard.folder
        if folder is not None and not print_cells(SweepGuard.planned):
            again = override("hydra.sweep.dir", folder)
            print(f"for what is missing, the same command again, with {again}", file=sys.stderr)
            status = status or 1
    return status
