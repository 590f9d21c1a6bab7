"""Trainings on several devices, by every way to start one: real processes, with a CPU as each device."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

import slurm
import wandb_files
from e2e.conftest import ENDLESS, ROOT, TINY, World
from processes import ended, free_port
from samplecnn.runs.predictions import read_predictions
from samplecnn.runs.results import read_results
from samplecnn.training.evaluate import open_subject

SMALL = ["trainer.max_epochs=2", "seed=3", "fast=true"]


def last(run: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(run / "checkpoints/last.ckpt", weights_only=True)[
        "state_dict"
    ]
    return weights


def assert_same_run(one: Path, other: Path) -> None:
    for name, tensor in last(one).items():
        assert torch.equal(last(other)[name], tensor), name
    predictions = [read_predictions(run) for run in (one, other)]
    assert predictions[0] is not None
    assert predictions[1] is not None
    np.testing.assert_array_equal(predictions[0].probabilities, predictions[1].probabilities)
    assert read_results(one).test == read_results(other).test


def torchrun(world: World, run: Path, *options: str) -> subprocess.Popen[str]:
    """Start ``torchrun ... train.py ...``, the training a tiny one into a folder."""
    launcher = [sys.executable, "-m", "torch.distributed.run", *(o for o in options if o.startswith("-"))]
    overrides = [o for o in options if not o.startswith("-")]
    training = [*world.data, *TINY, f"hydra.run.dir={run}", "logger=none", *SMALL, *overrides]
    return subprocess.Popen(
        [*launcher, str(ROOT / "train.py"), *training],
        cwd=world.folder,
        # torchrun's own warnings are not ours
        env=world.environment | {"PYTHONWARNINGS": "ignore", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def said_by(process: subprocess.Popen[str], status: int = 0) -> str:
    try:
        out, _ = process.communicate(timeout=200)
    except subprocess.TimeoutExpired:
        process.kill()
        out, _ = process.communicate()
    assert process.returncode == status, out[-5000:]
    return out


@pytest.fixture(scope="module")
def two(world: World) -> Path:
    """A training on two devices, logged by Weights & Biases as nobody."""
    folder = world.folder / "runs" / "two"
    done = world.train(folder, "trainer.devices=2", *SMALL)
    (folder / "said.txt").write_text(done.stdout + done.stderr)
    return folder


def test_one_folder_one_logger_one_voice(world: World, two: Path) -> None:
    said = (two / "said.txt").read_text()
    assert "2 devices, with batches of 23 segments each: 46 segments a step" in said
    for once in ("computing on backend", "epoch   1", "wandb sync", "test ROC-AUC"):
        assert said.count(once) == 1, said
    assert "Warning" not in said
    (recorded,) = wandb_files.read_all(two)
    assert len([row for row in recorded.history if "val/loss" in row]) == 2
    peaks = [row for row in recorded.history if "train/peak_memory_bytes/rank1" in row]
    assert len(peaks) == 2
    assert len((two / "metrics.csv").read_text().splitlines()) == 3
    assert sorted(path.name for path in two.iterdir() if path.is_file()) == [
        *(
            "config.yaml",
            "metrics.csv",
            "predictions.npz",
            "results.json",
            "run.lock",
            "said.txt",
            "train.log",
        ),
        "wandb_id.txt",
    ]
    assert not list(world.folder.glob("*.log"))


def test_it_is_evaluated_on_one_device_to_the_same_numbers(two: Path) -> None:
    found, trained = open_subject(two).scores(), read_results(two).test
    assert (found.roc_auc, found.pr_auc, found.per_tag) == (trained.roc_auc, trained.pr_auc, trained.per_tag)


def test_torchrun_on_two_nodes(world: World, two: Path) -> None:
    """Two launchers of one process each, as on two machines: the same training, in one folder."""
    run = world.folder / "runs" / "nodes"
    port = f"--master-port={free_port()}"
    options = ["--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", port]
    nodes = [torchrun(world, run, *options, f"--node-rank={rank}") for rank in range(2)]
    said = [said_by(node) for node in nodes]
    assert "46 segments a step" in said[0]
    assert "segments" not in said[1]
    assert_same_run(run, two)


def children(parent: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            child = int(path.parent.name)
            found += [child, *children(child)]
    return found


def trainers(parent: int) -> list[int]:
    """Those of the children that train."""
    commands = {child: Path(f"/proc/{child}/cmdline").read_text() for child in children(parent)}
    return [child for child, command in commands.items() if "train.py" in command]


def wait_until(condition: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def endless(world: World, run: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A training on two devices that has written a checkpoint: its first process, and the id of the other."""
    limits = [f"hydra.run.dir={run}", "logger=none", "trainer.devices=2", "fast=true"]
    process = world.start("train.py", *world.data, *TINY, *ENDLESS, *limits)
    try:
        while not (run / "checkpoints/last.ckpt").is_file():
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        (other,) = trainers(process.pid)
        yield process, other
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("killed", ["rank 0", "rank 1"])
def test_one_killed_ends_all(world: World, two: Path, killed: str) -> None:
    """Within seconds, and none is left over; what remains says how to go on."""
    run = world.folder / "runs" / killed.replace(" ", "-")
    with endless(world, run) as (process, other):
        os.kill(process.pid if killed == "rank 0" else other, signal.SIGKILL)
        wait_until(lambda: process.poll() is not None and ended(other))
        out = process.communicate()[0]
    if killed == "rank 1":
        assert process.returncode != 0
        assert f"python train.py resume={run}" in out


def test_it_goes_on_with_another_number_of_devices(world: World, two: Path) -> None:
    """Three epochs of two devices and one of one: said what changes, and counted on."""
    run = world.folder / "runs" / "fewer-devices"
    shutil.copytree(two, run)
    (run / "results.json").unlink()
    done = world.run("train.py", f"resume={run}", "trainer.devices=1", "trainer.max_epochs=3", "logger=none")
    assert "trained on 2 devices so far, from here on 1: a step has 1/2 times the segments" in done.stdout
    assert [row.split(",")[:2] for row in (run / "metrics.csv").read_text().splitlines()[1:]] == [
        *(["0", "3"], ["1", "6"], ["2", "9"]),
    ]
    assert read_results(run).epochs == 3


def test_a_signal_stops_all_together(world: World, two: Path) -> None:
    """Sent to the first alone, as by ``kill``: one checkpoint, and the exit status of the signal."""
    run = world.folder / "runs" / "stopped"
    with endless(world, run) as (process, other):
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM, out + err
    assert f"python train.py resume={run}" in out
    assert "Traceback" not in err
    wait_until(lambda: ended(other))


def test_a_multirun_of_several_devices_is_refused(world: World) -> None:
    refused = world.run("train.py", "-m", *world.data, "seed=0,1", "trainer.devices=2", status=1)
    assert "trainer.devices=2 trainer.num_nodes=1: a job of a multirun has one device" in refused.stderr
    assert "hydra/launcher=slurm" in refused.stderr


@pytest.mark.slow
def test_srun(world: World, two: Path) -> None:
    """A task per device, and nothing said of devices: the same training."""
    slurm.install(world.folder / "slurm")
    run = world.folder / "runs" / "srun"
    step = {
        "NTASKS": "2",
        "NNODES": "1",
        "JOB_ID": str(free_port() - slurm.FIRST_PORT),
        "JOB_NAME": "train",
        "NODELIST": "127.0.0.1",
    }
    command = [world.folder / "slurm" / "srun", sys.executable, ROOT / "train.py", *world.data, *TINY, *SMALL]
    done = subprocess.run(
        [*map(str, command), f"hydra.run.dir={run}", "logger=csv"],
        env=world.environment | {f"SLURM_{name}": value for name, value in step.items()},
        cwd=world.folder,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(run.glob("csv/*/metrics.csv"))) == 1
    assert_same_run(run, two)


@pytest.mark.slow
def test_the_slurm_launcher_with_two_tasks(world: World, two: Path) -> None:
    """A grid whose jobs have two devices each; the same command again finds it finished."""
    commands = world.folder / "slurm-launcher"
    slurm.install(commands)
    sweep = world.folder / "sweeps" / "devices"
    there = World(world.folder, {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"})
    command = [
        *("-m", "seed=3,4", *world.data, *TINY, "fast=true", "trainer.max_epochs=2", "logger=none"),
        *("hydra/launcher=slurm", "hydra.launcher.tasks_per_node=2", "hydra.launcher.gpus_per_node=0"),
        *(f"hydra.sweep.dir={sweep}", "hydra.sweep.subdir='seed=${seed}'"),
    ]
    there.run("train.py", *command, fresh=True)
    assert_same_run(sweep / "seed=3", two)
    log = (sweep / "seed=4" / "train.log").read_text()
    assert log.count("46 segments a step") == 1
    again = there.run("train.py", *command)
    assert "not finished" not in again.stdout


@pytest.mark.slow
def test_torchrun_starts_a_training_again(world: World, two: Path) -> None:
    """After one of its processes was killed, from the last checkpoint; it needs a folder that stays."""
    run = world.folder / "runs" / "elastic"
    options = ["--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    process = torchrun(world, run, *options, "trainer.max_epochs=15")
    wait_until((run / "checkpoints/last.ckpt").is_file)
    os.kill(trainers(process.pid)[-1], signal.SIGKILL)
    said = said_by(process)
    assert "goes on where it stopped" in said
    epochs = [row.split(",")[0] for row in (run / "metrics.csv").read_text().splitlines()[1:]]
    assert epochs == [str(number) for number in range(15)]
    refused = said_by(torchrun(world, run, *options, "hydra.run.dir=runs/${now:%Y}"), status=1)
    assert "name one, hydra.run.dir=runs/NAME" in refused
