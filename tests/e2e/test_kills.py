"""Trainings that are killed and stopped, at any moment: they go on to the same end.

The processes are forked from a server that has PyTorch loaded, so that a start takes milliseconds.
"""

import logging
import multiprocessing
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

from e2e.conftest import ROOT, World
from held import Place
from samplecnn.runs.config import RunConfig
from samplecnn.runs.results import read_results
from samplecnn.training import config as configuration
from samplecnn.training.checkpoint_files import WholeFiles, last_checkpoint
from samplecnn.training.checkpoints import STOPPING
from samplecnn.training.job import train
from samplecnn.training.trainer import make_trainer

OTHER_DISK = Path("/dev/shm")
PRELOADED = ["samplecnn.training.job"]


def train_here(
    config: dict[str, Any], run: Path, said: Path, temporary: Path | None, place: Place | None
) -> None:
    """What a child process does."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # where the tests run under nohup
    with said.open("a") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    logging.basicConfig(level=logging.INFO)
    if temporary is not None:
        os.environ["TMPDIR"] = str(temporary)
    torch.set_num_threads(1)
    if place is not None:
        place.stand()
    train(config, run)


class Training:
    """A small training, started again and again in one folder."""

    def __init__(self, world: World, run: Path, *overrides: str) -> None:
        configuration.register()
        settings = ["logger=none", "width=2", "block=rese2", "block.alpha=1", "seed=7", "batch_size=4"]
        limits = ["trainer.limit_train_batches=9", "trainer.max_epochs=3", "fast=false"]
        limits += ["trainer.accelerator=cpu"]  # the same bit by bit
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            composed = compose("train", [*world.data, *settings, *limits, *overrides])
        self.config = configuration.validate(composed)
        self.run = run
        run.parent.mkdir(parents=True, exist_ok=True)
        self.said = run.with_name(f"{run.name}.txt")
        self.said.touch()
        # A few steps behind the end of the first epoch that it speaks of.
        self.within_second_epoch = Place(
            str(run.with_name(f"{run.name}.held")), str(self.said), "epoch   0", 4
        )
        self.context: BaseContext = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOADED)

    def start(self, temporary: Path | None = None, place: Place | None = None) -> BaseProcess:
        process = self.context.Process(  # type: ignore[attr-defined]
            target=train_here, args=(self.config, self.run, self.said, temporary, place)
        )
        process.start()
        assert isinstance(process, BaseProcess)
        return process

    def finish(self) -> float:
        """Train to the end; return the seconds that it took."""
        begun = time.monotonic()
        process = self.start()
        process.join(300)
        assert process.exitcode == 0, self.said.read_text()[-3000:]
        return time.monotonic() - begun

    def stop_within_second_epoch(self, number: signal.Signals) -> None:
        """Train until the first epoch has ended, and then a little."""
        process = self.start(place=self.within_second_epoch)
        while not self.within_second_epoch.reached():
            assert process.is_alive(), self.said.read_text()
        assert process.pid is not None
        os.kill(process.pid, number)
        self.within_second_epoch.leave()
        process.join(300)
        assert process.exitcode == 128 + number, self.said.read_text()

    def outcome(self) -> dict[str, Any]:
        """What two trainings have in common if nothing was lost."""
        best = torch.load(self.run / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
        last = torch.load(self.run / "checkpoints/last.ckpt", weights_only=True)
        with np.load(self.run / "predictions.npz") as file:
            predictions = file["probabilities"]
        losses = [line.split(",")[3:7] for line in (self.run / "metrics.csv").read_text().splitlines()]
        return {"best": best, "last": last["state_dict"], "predictions": predictions, "losses": losses}


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    for kind in ("best", "last"):
        assert one[kind].keys() == other[kind].keys()
        for name, tensor in one[kind].items():
            assert torch.equal(tensor, other[kind][name]), (kind, name)
    np.testing.assert_array_equal(one["predictions"], other["predictions"])
    assert one["losses"] == other["losses"]


@pytest.fixture(scope="module")
def whole(world: World) -> tuple[dict[str, Any], float]:
    """A training that nothing stopped, and the seconds that it took."""
    training = Training(world, world.folder / "runs" / "never-killed")
    training.finish()  # prepares the data too
    shutil.rmtree(training.run)
    seconds = training.finish()
    return training.outcome(), seconds


def kill_often(world: World, whole: tuple[dict[str, Any], float], name: str, kills: int) -> None:
    """Kill trainings at random moments, with a checkpoint at nearly every step.

    A third of them have their temporary folder on another file system.
    """
    expected, seconds = whole
    draw = random.Random(name)
    left, number = kills, 0
    while left:
        training = Training(
            world, world.folder / "runs" / f"{name}-{number}", "trainer.save_every_minutes=0.0005"
        )
        number += 1
        other = OTHER_DISK if number % 3 == 0 and OTHER_DISK.is_dir() else None
        for _ in range(min(left, 5)):
            process = training.start(other)
            process.join(draw.uniform(0.1, 1.0) * seconds)
            process.kill()
            process.join()
            left -= 1
        training.finish()
        assert_same(training.outcome(), expected)
        assert not list((training.run / "checkpoints").glob("*.tmp"))


def test_killed_at_any_moment(world: World, whole: tuple[dict[str, Any], float]) -> None:
    kill_often(world, whole, "killed", 8)


@pytest.mark.slow
def test_killed_a_hundred_times(world: World, whole: tuple[dict[str, Any], float]) -> None:
    kill_often(world, whole, "hundred", 100)


@pytest.mark.parametrize("number", STOPPING)
def test_asked_to_stop_within_an_epoch(
    world: World, whole: tuple[dict[str, Any], float], number: signal.Signals
) -> None:
    """A checkpoint at once, the exit status of the signal, and the same end when it goes on."""
    training = Training(world, world.folder / "runs" / number.name, "trainer.save_every_minutes=1000")
    training.stop_within_second_epoch(number)
    assert "to go on from its last checkpoint: samplecnn train resume=" in training.said.read_text()
    training.finish()
    assert_same(training.outcome(), whole[0])


def test_slurm_s_signals_are_not_lightning_s(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning would write a checkpoint of its own before the first step, and go on from that for ever."""
    for name in ("NTASKS", "PROCID", "LOCALID", "NODEID", "JOB_ID"):
        monkeypatch.setenv(f"SLURM_{name}", "1" if name == "NTASKS" else "0")
    monkeypatch.setenv("SLURM_JOB_NAME", "training")
    training = Training(world, world.folder / "runs" / "slurm")
    trainer = make_trainer(RunConfig.read(training.config, ""), training.run)
    environment = trainer._accelerator_connector.cluster_environment
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def changed(data: bytes) -> bytes:
    """A few bytes in the middle: longer than what lies between two tensors."""
    middle = len(data) // 2
    return data[:middle] + bytes(byte ^ 1 for byte in data[middle : middle + 200]) + data[middle + 200 :]


@pytest.mark.parametrize("damage", [cut, changed])
def test_a_damaged_checkpoint(
    world: World, whole: tuple[dict[str, Any], float], damage: Callable[[bytes], bytes]
) -> None:
    """The checkpoint before it goes on, to the same end."""
    training = Training(world, world.folder / "runs" / damage.__name__)
    training.finish()
    (training.run / "results.json").unlink()
    last = training.run / "checkpoints/last.ckpt"
    last.write_bytes(damage(last.read_bytes()))
    found = last_checkpoint(training.run)
    assert found is not None
    assert found.name == "previous.ckpt"
    training.finish()
    said = training.said.read_text()
    assert "last.ckpt is damaged" in said
    assert "going on from the one before, previous.ckpt" in said
    assert_same(training.outcome(), whole[0])


def test_damaged_checkpoints_alone(world: World, whole: tuple[dict[str, Any], float]) -> None:
    """It says that, and not how to go on from them."""
    del whole  # the data are prepared
    training = Training(world, world.folder / "runs" / "all-damaged")
    training.stop_within_second_epoch(signal.SIGTERM)
    for path in (training.run / "checkpoints").iterdir():
        path.write_bytes(cut(path.read_bytes()))
    before = len(training.said.read_text())
    process = training.start()
    process.join(300)
    assert process.exitcode == 1
    said = training.said.read_text()[before:]
    assert "last.ckpt is damaged" in said
    assert "train the run again, in another folder" in said
    assert "to go on from its last checkpoint" not in said


def fill_disk(path: Path) -> None:
    """Write a good checkpoint, and then fail to write a larger one, as a child process."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    WholeFiles().save_checkpoint({"samplecnn": {}, "weights": torch.ones(1000)}, path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    try:
        WholeFiles().save_checkpoint({"samplecnn": {}, "weights": torch.ones(1_000_000)}, path)
    except OSError as error:
        path.with_suffix(".txt").write_text(str(error))


def test_a_full_disk(tmp_path: Path) -> None:
    """The error is the system's, with the file's name, and the checkpoint before is as good as it was."""
    path = tmp_path / "last.ckpt"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=fill_disk, args=(path,))
    process.start()
    process.join(300)
    assert process.exitcode == 0
    said = path.with_suffix(".txt")
    assert said.read_text() == f"[Errno 27] File too large: '{path}'"
    assert torch.equal(torch.load(path, weights_only=True)["weights"], torch.ones(1000))
    assert sorted(tmp_path.iterdir()) == [path, said]


def test_resumed_with_fewer_epochs_it_is_tested(world: World, whole: tuple[dict[str, Any], float]) -> None:
    """What was trained so far is the result: as if the run had been stopped there."""
    training = Training(world, world.folder / "runs" / "fewer")
    training.finish()
    (training.run / "results.json").unlink()
    done = Training(world, training.run)
    done.config = {**done.config, "resume": str(training.run)}
    done.config["trainer"] = {**done.config["trainer"], "max_epochs": 2}
    done.finish()
    assert "3 epochs are trained, and trainer.max_epochs=2: testing" in done.said.read_text()
    assert read_results(training.run).epochs == 3
    assert_same(training.outcome(), whole[0])


def test_what_its_schedule_has_ended_is_only_tested(
    world: World, whole: tuple[dict[str, Any], float]
) -> None:
    """Killed after the last epoch, a run ends as one that was not; until then it has no results."""
    del whole  # the data are prepared
    stage = ["schedule.stages=1", "schedule.patience=0", "schedule.learning_rate=1"]
    training = Training(world, world.folder / "runs" / "ended", *stage, "trainer.max_epochs=30")
    training.finish()
    before, epochs = training.outcome(), read_results(training.run).epochs
    assert epochs < 30
    training.config["resume"] = str(training.run)
    training.finish()
    assert f"the schedule has ended after {epochs} epochs: testing" in training.said.read_text()
    assert_same(training.outcome(), before)
    assert read_results(training.run).epochs == epochs


def test_a_run_that_is_trained_further_has_no_results(
    world: World, whole: tuple[dict[str, Any], float]
) -> None:
    """Those of before are of other weights than it has from the next epoch on."""
    del whole  # the data are prepared
    training = Training(world, world.folder / "runs" / "further", "trainer.max_epochs=1")
    training.finish()
    training.config |= {"resume": str(training.run)}
    training.config["trainer"] = {**training.config["trainer"], "max_epochs": 2}
    process = training.start(place=training.within_second_epoch)
    while not training.within_second_epoch.reached():
        assert process.is_alive(), training.said.read_text()
    process.kill()
    process.join()
    assert not (training.run / "results.json").exists()


def test_the_end_of_a_cycle_is_tested(world: World, whole: tuple[dict[str, Any], float]) -> None:
    """Stopped within an epoch too, where the rate goes on with the cycle."""
    del whole  # the data are prepared
    runs = world.folder / "runs"
    outcomes = []
    for name in ("cycle", "cycle-stopped"):
        training = Training(world, runs / name, "schedule=onecycle")
        if name == "cycle-stopped":
            training.stop_within_second_epoch(signal.SIGTERM)
        training.finish()
        outcomes.append(training.outcome())
    assert_same(*outcomes)
    for name, tensor in outcomes[0]["best"].items():
        assert torch.equal(tensor, outcomes[0]["last"][name]), name
