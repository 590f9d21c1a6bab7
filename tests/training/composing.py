"""The project's own configuration, composed by Hydra as the command line does."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from samplecnn.training import config as configuration
from samplecnn.training.config import validate

CONF = Path(__file__).parents[2] / "conf"


@contextmanager
def composing() -> Iterator[None]:
    """Have Hydra compose from `conf/`."""
    configuration.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def composed(*overrides: str) -> dict[str, Any]:
    """Return the plain configuration of ``train.py OVERRIDES``, within `composing`."""
    return validate(compose("train", overrides=list(overrides)))
