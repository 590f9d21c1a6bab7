"""Few examples by command: from random weights and from published ones, by name, and the report on both."""

import csv
import json
from pathlib import Path

import pytest

from e2e.conftest import World
from inference.models import model
from samplecnn.inference.bundle import write_bundle
from samplecnn.runs.config import read_config

NAME = "mtat-se"


@pytest.fixture(scope="module")
def cached(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Where a published network is in the cache: a narrow one, with random weights."""
    folder = world.folder / "home" / ".cache" / "samplecnn" / "models" / NAME
    write_bundle(model(tmp_path_factory.mktemp("made")), folder, source="random")
    return world


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "local"])
def test_a_curve_with_and_without_a_model(cached: World, launcher: str, tmp_path: Path) -> None:
    sweep = cached.folder / "sweeps" / f"few-{launcher}"
    options = ["fast=false", "trainer.limit_train_batches=2", "trainer.max_epochs=1", "logger=none"]
    network = ["width=3", "block.alpha=2"]
    said = ["-m", "experiment=few", *network, f"init=null,{NAME}", "data.train_clips=4,null", "seed=0"]
    cached.run(
        "train.py",
        *(*said, *cached.data, *options, f"hydra/launcher={launcher}", f"hydra.sweep.dir={sweep}"),
        fresh=True,
    )
    cells = [f"clips={n},init={i},seed=0" for n in (4, "all") for i in ("none", NAME)]
    assert sorted(path.parent.name for path in sweep.glob("*/results.json")) == sorted(cells)
    hashes = {read_config(sweep / cell).init_sha256 for cell in cells}
    assert len(hashes) == 2
    assert None in hashes
    counted = json.loads((sweep / cells[0] / "results.json").read_text())["parameters"]
    assert counted == json.loads((sweep / cells[-1] / "results.json").read_text())["parameters"]
    again = cached.run("train.py", *said, *cached.data, *options, f"hydra.sweep.dir={sweep}")
    assert again.stdout.count("has finished before") == len(cells)
    cached.run("samplecnn", "report", sweep, "--out", tmp_path)
    rows = list(csv.DictReader((tmp_path / "few.csv").read_text().splitlines()))
    assert [(row["series"], row["clips"], row["seeds"]) for row in rows] == [
        (f"SE alpha 2, multi, {start}", clips, "1")
        for start in ("random weights", f"from {NAME}")
        for clips in ("4", "all")
    ]
    assert "from a trained model" in (tmp_path / "index.html").read_text()


def test_a_refused_command_leaves_nothing_behind(world: World) -> None:
    folder = world.folder / "runs" / "refused"
    done = world.train(folder, "init=mtat-music", status=1)
    assert "there is no model mtat-music: did you mean mtat-musicnn" in done.stderr
    assert "Traceback" not in done.stderr
    assert not folder.exists()
