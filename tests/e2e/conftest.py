"""The project as its users have it: real processes on a small built-in data set."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import warm

ROOT = Path(__file__).parents[2]
# Small enough for seconds on one core; every setting but these is the default. (Choosing a backend takes a
# process of its own, and seconds. On a CPU trainings are the same bit by bit, and devices are as many as one
# likes.)
TINY = ["width=2", "fast=false", "trainer.limit_train_batches=3", "trainer.log_every_n_steps=1"]
TINY += ["trainer.accelerator=cpu"]
ENDLESS = ["trainer.max_epochs=null", "schedule.patience=1000000"]  # until it is stopped
CLIPS = 32


@dataclass
class World:
    """A place to work in, with prepared data, cut off from the user's own accounts and settings."""

    folder: Path
    account: dict[str, str] = field(default_factory=dict)  # of Weights & Biases

    @property
    def environment(self) -> dict[str, str]:
        own = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
        # Nobody is logged in to Weights & Biases here, and no server answers.
        here = self.account | {
            "HOME": str(self.folder / "home"),
            "XDG_CONFIG_HOME": str(self.folder / "home" / ".config"),
            "XDG_CACHE_HOME": str(self.folder / "home" / ".cache"),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(self.folder), os.environ.get("PYTHONPATH")])),
        }
        return own | warm.STRICT | here

    @property
    def data(self) -> list[str]:
        return ["data=mini", f"data.clips={CLIPS}", f"data.root={self.folder / 'data'}"]

    @staticmethod
    def command(script: str, *arguments: object) -> list[str]:
        """Return ``train.py ...`` or ``samplecnn ...``, a Python script with its arguments."""
        path = Path(sys.executable).with_name("samplecnn") if script == "samplecnn" else ROOT / script
        return [str(path), *map(str, arguments)]

    def start(self, script: str, *arguments: object) -> subprocess.Popen[str]:
        """Start ``python train.py ...`` or ``samplecnn ...`` as typed in a shell, in a Python of its own."""
        return subprocess.Popen(
            [sys.executable, *self.command(script, *arguments)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def start_warm(self, script: str, *arguments: object) -> warm.Process:
        """Start the same in a Python that has the libraries loaded."""
        return warm.Process(self.command(script, *arguments), self.folder, self.environment)

    def run(
        self, script: str, *arguments: object, status: int = 0, fresh: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, ``fresh`` in a Python of its own; check its exit status."""
        start = self.start if fresh else self.start_warm
        process = start(script, *arguments)
        try:
            out, err = process.communicate(timeout=500)
        finally:
            process.kill()
        assert process.returncode == status, f"{script} {arguments}\n{out[-4000:]}\n{err[-4000:]}"
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def train(
        self, run: Path | str, *overrides: str, status: int = 0, fresh: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Train a tiny network into the folder ``run``."""
        arguments = [*self.data, *TINY, f"hydra.run.dir={self.folder / run}", *overrides]
        return self.run("train.py", *arguments, status=status, fresh=fresh)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> World:
    """Its data are prepared by the first training that needs them, once for all processes of the tests."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "home").mkdir()
    (shared / "data").mkdir(exist_ok=True)
    (folder / "data").symlink_to(shared / "data")
    return World(folder)


@pytest.fixture(scope="session")
def run(world: World) -> Path:
    """A finished run: SE, multi-level, two epochs, under Weights & Biases as nobody."""
    folder = world.folder / "runs" / "first"
    done = world.train(folder, "trainer.max_epochs=2", "seed=3", fresh=True)
    (folder / "stdout.txt").write_text(done.stdout)
    (folder / "stderr.txt").write_text(done.stderr)
    return folder
