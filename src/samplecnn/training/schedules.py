"""The schedules that come with the project, and how the one is made that a configuration names."""

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from samplecnn.training.config import ConfigError
from samplecnn.training.schedule import Cosine, OneCycle, PaperSchedule, Schedule
from samplecnn.training.won import WonSchedule

# The schedules that come with the project, by their file in conf/schedule/.
SCHEDULES: dict[str, type[Schedule]] = {
    "paper": PaperSchedule,
    "onecycle": OneCycle,
    "cosine": Cosine,
    "won": WonSchedule,
}


def make_schedule(settings: Mapping[str, Any]) -> Schedule:
    """Return the schedule that ``settings`` name by ``_target_``, with its options.

    Raises ConfigError where there is no such class, where it does not take these options, and where it is
    no schedule.
    """
    target = settings["_target_"]
    try:
        schedule = instantiate(dict(settings))
    except InstantiationException as error:
        raise ConfigError(f"schedule._target_={target} cannot be made: {error.__cause__ or error}") from error
    if not isinstance(schedule, Schedule) or getattr(schedule, "tested", None) not in ("best", "last"):
        raise ConfigError(
            f"schedule._target_={target} is not a samplecnn.training.schedule.Schedule "
            'with tested = "best" or "last": see docs/new-schedule.md'
        )
    return schedule
