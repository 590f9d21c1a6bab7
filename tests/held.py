"""Processes whose network stands still until a test lets it go on, so that it meets them where it wants to.

A process that a test forks calls `Place.stand`. A command imports a copy of this file, by the options of
`as_callback` or `as_block`, and finds its place in the environment.
"""

import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from samplecnn.model.blocks import Basic
from samplecnn.model.networks.network import Network

NAME = "HELD_PLACE"


@dataclass(frozen=True)
class Place:
    """A network stands here while there is the file ``path``, which it makes when it comes.

    That is the first time that it is called and ``text`` is in ``file``, or so many times ``later``.
    """

    path: str
    file: str | None = None
    text: str = ""
    later: int = 0

    def stand(self) -> None:
        """Have the networks of this process stand here once."""
        calls = 0

        def wait(network: nn.Module, _inputs: Any) -> None:
            nonlocal calls
            if isinstance(network, Network) and calls <= self.later and self.begun():
                calls += 1
                if calls > self.later:
                    Path(self.path).touch()
                    while Path(self.path).exists():
                        time.sleep(0.002)

        register_module_forward_pre_hook(wait)

    def begun(self) -> bool:
        return self.file is None or (Path(self.file).is_file() and self.text in Path(self.file).read_text())

    def reached(self) -> bool:
        time.sleep(0.002)
        return Path(self.path).exists()

    def leave(self) -> None:
        """Let the network go on."""
        Path(self.path).unlink()

    def environment(self, folder: Path) -> dict[str, str]:
        """Return what a command needs in its environment; its modules are in ``folder``."""
        shutil.copy(__file__, folder / "held.py")
        return {NAME: json.dumps(asdict(self))}


def as_callback() -> str:
    """Return what has Hydra import this file."""
    return "+hydra.callbacks.held._target_=held.Callback"


def as_block() -> tuple[str, str]:
    """Return what has a command of `samplecnn` import this file."""
    return "--block", "held=held.Block"


class Callback:
    """Does nothing, as Hydra asks it to."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("on_"):
            return lambda *_arguments, **_options: None
        raise AttributeError(name)


class Block(Basic):
    """A block of one's own."""


if NAME in os.environ:
    Place(**json.loads(os.environ[NAME])).stand()
