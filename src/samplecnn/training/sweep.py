"""Multiruns: every cell checked before the first starts.

Where the folders of the cells are named by what makes them, as those of ``conf/experiment/`` are, a sweep can
be run again: what has finished is shown, what was interrupted goes on, and the rest is trained. What cannot
be planned is not trained.
"""

import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from hydra.conf import HydraConf
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write

from samplecnn.errors import UserError
from samplecnn.files import remove_empty
from samplecnn.overrides import override
from samplecnn.runs import sweep_plan
from samplecnn.runs.sweep_plan import read_plan
from samplecnn.training.config import ConfigError, describe, started, typed, validate
from samplecnn.training.launch import rank
from samplecnn.training.planning import Cell, plan, require_launcher, without_hydra, write_plan

NEW_STORE = (
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"  # torchrun's: where ranks find each other is new in each start
)
CELLS = "SAMPLECNN_CELLS"  # how many a multirun has, in the environment of its jobs


class SweepGuard(Callback):
    """Refuses a multirun with an impossible cell before any is trained, and remembers what was planned."""

    folder: ClassVar[Path | None] = None  # of the sweep
    planned: ClassVar[list[Cell]] = []
    locate: ClassVar[Callable[[str], Path]] = Path  # where a model is that `init` names

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse an impossible run before it has a folder, and give every other one that is its own.

        Of several processes that train together, rank 0 has the folder and speaks.
        """
        try:
            overrides = typed(config.hydra)
            started(validate(without_hydra(config), overrides), overrides, SweepGuard.locate)
            if rank() > 0:
                without_files(config)
            else:
                require_restartable(config)
                own_folder(config, "run")
        except (UserError, OSError) as error:
            sys.exit(1 if rank() > 0 else str(error))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Compose and validate every cell; exit with what is wrong with which, and leave no folder then."""
        made = None
        try:
            require_launcher(config)
            made = own_folder(config, "sweep")
            if made is not None:
                for_jobs(config, override("hydra.sweep.dir", made))
            planned = plan(config, SweepGuard.locate)
            write_plan(planned)
            for_jobs(config, f"+hydra.job.env_set.{CELLS}={len(planned)}")
        except Exception as error:  # Hydra would make a warning of it, and train
            if made is not None:
                remove_empty(made)
            if isinstance(error, UserError | OSError):
                sys.exit(str(error))
            traceback.print_exc()
            sys.exit("this sweep cannot be planned, so nothing of it is trained")
        SweepGuard.folder, SweepGuard.planned = Path(config.hydra.sweep.dir), planned

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Write down what makes this cell; of several processes that train together, rank 0 writes."""
        if rank() > 0:
            only_warnings()
        elif config.hydra.mode is not None and config.hydra.mode.name == "MULTIRUN":
            sweep = Path(config.hydra.sweep.dir)
            overrides = typed(config.hydra)
            sweep_plan.write_job(sweep / config.hydra.sweep.subdir, overrides, sweep.name)


def without_files(config: DictConfig) -> None:
    """Have Hydra make no folder and write no log for this process."""
    with open_dict(config):
        config.hydra.run.dir = "."
        config.hydra.job_logging.root.handlers = ["console"]
        config.hydra.job_logging.handlers.pop("file", None)


def only_warnings() -> None:
    """Let this process speak on the console alone, and no more than it has to."""
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    for handler in [handler for handler in root.handlers if isinstance(handler, logging.FileHandler)]:
        root.removeHandler(handler)
        handler.close()


def require_restartable(config: DictConfig) -> None:
    """Raise ConfigError where torchrun is to start the training again if it fails, and it could not go on."""
    if not int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)):
        return
    if _is_named_by_time(config, "run"):
        raise ConfigError(
            "with --max-restarts, a training that starts again goes on in its folder: "
            "name one, hydra.run.dir=runs/NAME"
        )
    if os.environ.get(NEW_STORE) != "1":
        raise ConfigError(
            f"with --max-restarts, torchrun needs {NEW_STORE}=1 in its environment: without it, processes "
            "that start again are given the addresses of those before"
        )


def _is_named_by_time(config: DictConfig, kind: str) -> bool:
    named = "${now:" in str(config.hydra[kind]._get_node("dir")._value())
    return named and config.get("resume") is None


def own_folder(config: DictConfig, kind: str) -> Path | None:
    """Make the folder that is named by the time, with a number behind if another process has it; return it.

    ``kind`` is ``run`` or ``sweep``. A folder that the user names may be there already: None.
    """
    if not _is_named_by_time(config, kind):
        return None
    node = config.hydra[kind]
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


def for_jobs(config: DictConfig, said: str) -> None:
    """Add an override to those of which every job of a multirun is composed anew."""
    with read_write(config.hydra.overrides.hydra):
        config.hydra.overrides.hydra.append(said)


def varying(overrides: Sequence[str], others: Sequence[Sequence[str]]) -> list[str]:
    """Return those overrides of a cell that are not the same in all cells."""
    same = set.intersection(*map(set, others)) if len(others) > 1 else set()
    return [override for override in overrides if override not in same]


def title(settings: HydraConf) -> tuple[str, str]:
    """Name a job of a multirun, and say which of this call's jobs it is: "cell 3 of 12".

    The name is that of its folder, or what varies in the sweep where folders are numbered. Raises ConfigError
    for a job that was not planned, and so not checked.
    """
    folder, sweep = str(settings.sweep.subdir), Path(settings.sweep.dir)
    planned = read_plan(sweep)
    if folder not in planned:
        raise ConfigError(f"{sweep / folder} was not planned: hydra.callbacks.sweep has to be what it is")
    numbered = folder.isdecimal()
    name = describe(varying(typed(settings), list(planned.values()))) if numbered else folder
    return name, f"cell {settings.job.num + 1} of {settings.job.env_set[CELLS]}"
