"""Run folders: one for each process, and none for a training that did not begin."""

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from e2e.conftest import ENDLESS, TINY, World
from samplecnn.files import locked

SHORT = [*TINY, "block=basic", "trainer.max_epochs=1", "logger=none", "fast=false"]


def folders(world: World) -> set[Path]:
    return {path.parent for path in world.folder.glob("runs/20*/**/train.log")}


def start_at_once(world: World, count: int) -> None:
    """Started in the same second, each run has a folder, and its own seed's results in it."""
    world.train("runs/prepared", *SHORT)
    before = folders(world)
    with ThreadPoolExecutor(count) as together:
        train = partial(world.run, "train.py", *world.data, *SHORT)
        list(together.map(train, [f"seed={seed}" for seed in range(count)]))
    made = folders(world) - before
    assert len(made) == count
    results = [json.loads((folder / "results.json").read_text()) for folder in made]
    assert sorted(result["seed"] for result in results) == list(range(count))


def test_four_runs_at_once(world: World) -> None:
    start_at_once(world, 4)


@pytest.mark.slow
def test_sixteen_runs_at_once(world: World) -> None:
    start_at_once(world, 16)


def test_a_multirun_in_a_second_that_another_has(world: World, tmp_path: Path) -> None:
    """Its cells are in its own folder, not in the other's."""
    here = World(tmp_path)
    (tmp_path / "data").symlink_to(world.folder / "data")
    now = datetime.now()
    for second in range(300):
        (tmp_path / f"{now + timedelta(seconds=second):runs/%Y-%m-%d/%H-%M-%S}-sweep").mkdir(parents=True)
    here.run("train.py", "-m", "seed=0,1", *here.data, *SHORT)
    found = [path.parent.relative_to(tmp_path) for path in tmp_path.glob("runs/*/*/*/results.json")]
    assert sorted(str(folder).partition("-sweep")[2] for folder in found) == ["-2/0", "-2/1"]


def test_a_folder_belongs_to_one_process(world: World) -> None:
    run = world.folder / "runs" / "taken"
    arguments = [*world.data, *SHORT, f"hydra.run.dir={run}"]
    first = world.start_warm("train.py", *arguments, *ENDLESS)
    while not (run / "metrics.csv").is_file():
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    refused = world.run("train.py", *arguments, *ENDLESS, status=1)
    assert "belongs to another process, which trains in it" in refused.stderr
    assert first.poll() is None
    first.send_signal(signal.SIGTERM)
    out, _ = first.communicate(timeout=300)
    assert first.returncode == 128 + signal.SIGTERM
    assert "python train.py resume=" in out
    world.run("train.py", f"resume={run}", "trainer.max_epochs=1")
    assert (run / "results.json").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_before_the_training_it_leaves_no_folder(world: World, number: signal.Signals) -> None:
    made, elsewhere = world.folder / "stopped", world.folder / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    settings = ["data=mini", "data.clips=60", "data.name=other", f"data.root={elsewhere}"]
    run = made / "runs" / "now"
    with locked(elsewhere / "other.lock"):  # its data are never prepared
        process = world.start_warm("train.py", *settings, *SHORT, f"hydra.run.dir={run}")
        while not (run / "run.lock").is_file():
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert "stopped before the training: nothing is saved" in out
    assert not made.exists()
